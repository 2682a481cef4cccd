"""Scenes as the detector meets them: exported frames through JPEG, halved and letterboxed.

In production a picture is compressed by the camera (4:2:0), decoded at half scale where the
decoder can, and centred in the model's input. `halved` imitates that, including the paths of
decoders that cannot, so that training and measuring see production's pixels.
"""

import io
import struct
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
TRUTH = np.dtype(
    [("class", "u1"), ("ignore", "u1"), ("zero", "<u2"), ("box", "<f4", 4), ("visible", "<f4")]
)
TRAINING_SEEDS, VALIDATION_SEEDS = 1_000_000, 2_000_000
HEIGHT, WIDTH, PADDING, GREY = 192, 320, 6, 114


def export(seed_from, seeds, frames_per_scene, step=37):
    """Yields (picture, truths) of the scenes, from the exporter of omma-scenes."""
    command = (
        f"cargo run --quiet --release -p omma-scenes --example export -- --seed-from {seed_from}"
        f" --seeds {seeds} --frames-per-scene {frames_per_scene} --step {step} --out -"
    )
    with subprocess.Popen(command.split(), cwd=ROOT, stdout=subprocess.PIPE, bufsize=1 << 22) as process:
        stream = process.stdout
        if stream.read(4) != b"OMSC":
            raise RuntimeError("the exporter did not start")
        version, width, height, frames = struct.unpack("<4I", stream.read(16))
        if version != 1:
            raise RuntimeError(f"export format {version}, this script reads 1")
        for _ in range(frames):
            count = struct.unpack("<QIQI", stream.read(24))[3]
            truths = np.frombuffer(stream.read(TRUTH.itemsize * count), TRUTH)
            picture = np.frombuffer(stream.read(width * height * 3), np.uint8)
            yield picture.reshape(height, width, 3), truths


def halved(picture, quality, path):
    """The picture after JPEG at half size; `path` is "draft", "box" or "bilinear"."""
    packet = io.BytesIO()
    Image.fromarray(picture).save(packet, "JPEG", quality=quality, subsampling=2)
    image = Image.open(io.BytesIO(packet.getvalue()))
    size = (picture.shape[1] // 2, picture.shape[0] // 2)
    if path == "draft":
        # The decoder's own scaling, in the transform's domain: what production does.
        image.draft("RGB", size)
        image = image.convert("RGB")
    else:
        how = {"box": Image.Resampling.BOX, "bilinear": Image.Resampling.BILINEAR}[path]
        image = image.convert("RGB").resize(size, how)
    if image.size != size:
        raise RuntimeError(f"half of the picture came out as {image.size}")
    return np.asarray(image)


def letterboxed(halves):
    """[n,180,320,3] bytes to the model's input, [n,3,192,320] in 0..1."""
    out = np.full((len(halves), HEIGHT, WIDTH, 3), GREY, np.uint8)
    out[:, PADDING : HEIGHT - PADDING] = halves
    return np.ascontiguousarray(out.transpose(0, 3, 1, 2)).astype(np.float32) / 255


def boxes_in_input(truths):
    """Boxes of truths in the model's pixels."""
    return truths["box"] * 0.5 + np.array([0, PADDING, 0, PADDING], np.float32)
