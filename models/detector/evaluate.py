#!/usr/bin/env python3
"""Measures omma-demo.onnx on held-out scenes: quality by the Rust scorer, size, latency.

Usage: python models/detector/evaluate.py [MODEL] [--seeds 250] [--frames 4] [--path draft]

Renders scenes of seeds 2,000,000 and up, none of which any training saw, takes them through
JPEG (quality 80, 4:2:0) at half scale, runs the model with ONNX Runtime on the CPU, applies
per-class suppression, and has `cargo run --example score` of omma-scenes compare. Also checks
that a batch of eight gives what eight single pictures give. Prints lines for report.md.
"""

import argparse
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime

import frames

HERE = Path(__file__).resolve().parent
SUPPRESS, LEAST = 0.5, 0.01


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def suppressed(output):
    """[7, cells] of one picture to rows class, score, x1, y1, x2, y2 in input pixels."""
    rows = []
    for c, scores in enumerate(output[4:]):
        keep = np.flatnonzero(scores >= LEAST)
        keep = keep[np.argsort(-scores[keep], kind="stable")][:300]
        x, y, w, h = output[:4, keep]
        boxes = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1)
        alive = np.ones(len(keep), bool)
        for i, box in enumerate(boxes):
            if not alive[i]:
                continue
            rows.append((c, scores[keep[i]], *box))
            low, high = np.maximum(boxes[:, :2], box[:2]), np.minimum(boxes[:, 2:], box[2:])
            shared = (high - low).clip(0).prod(1)
            area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
            iou = shared / (area + area[i] - shared + 1e-9)
            alive &= ~((iou > SUPPRESS) & (np.arange(len(keep)) > i))
    return rows


def measure(model, options):
    with tempfile.TemporaryDirectory() as folder:
        exported, said = Path(folder) / "frames.bin", Path(folder) / "said.txt"
        count = options.seeds * options.frames
        with open(exported, "wb") as copy, open(said, "w") as lines:
            copy.write(b"OMSC" + struct.pack("<4I", 1, 640, 360, count))
            scenes = frames.export(frames.VALIDATION_SEEDS, options.seeds, options.frames)
            for index, (picture, truths) in enumerate(scenes):
                copy.write(struct.pack("<QIQI", 0, 0, index, len(truths)))
                copy.write(truths.tobytes() + picture.tobytes())
                half = frames.halved(picture, 80, options.path)
                output = model.run(None, {"images": frames.letterboxed(half[None])})[0][0]
                for c, score, *box in suppressed(output):
                    box = (np.array(box) - [0, frames.PADDING, 0, frames.PADDING]) * 2
                    box = box.clip(0, [640, 360, 640, 360])
                    lines.write(f"{index} {c} {score:.5f} {' '.join(f'{v:.2f}' for v in box)}\n")
        scorer = "cargo run --quiet --release -p omma-scenes --example score --"
        subprocess.run([*scorer.split(), exported, said, str(options.confidence)], check=True, cwd=frames.ROOT)


def latency(model, batch):
    images = np.random.default_rng(1).random((batch, 3, 192, 320), np.float32)
    times = []
    for _ in range(20 + 200 // batch):
        start = time.perf_counter()
        model.run(None, {"images": images})
        times.append((time.perf_counter() - start) * 1e3 / batch)
    times = np.sort(times)
    print(f"latency: batch {batch}, one thread: median {np.median(times):.2f}, least {times[0]:.2f} ms a picture")


def batches_agree(model):
    images = np.random.default_rng(2).random((8, 3, 192, 320), np.float32)
    together = model.run(None, {"images": images})[0]
    alone = np.concatenate([model.run(None, {"images": images[i : i + 1]})[0] for i in range(8)])
    difference = np.abs(together - alone).max()
    print(f"batch of 8 against 8 alone: shape {together.shape}, largest difference {difference:.2e}")
    if difference > 1e-3:
        raise SystemExit("a batch changes the answer")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("model", type=Path, nargs="?", default=HERE / "omma-demo.onnx")
    arguments.add_argument("--seeds", type=int, default=250)
    arguments.add_argument("--frames", type=int, default=4)
    arguments.add_argument("--path", choices=["draft", "box", "bilinear"], default="draft")
    arguments.add_argument("--confidence", type=float, default=0.4)
    options = arguments.parse_args()
    model = session(options.model)
    print(f"size: {options.model.stat().st_size} bytes; onnxruntime {onnxruntime.__version__}")
    batches_agree(model)
    latency(model, 1)
    latency(model, 8)
    measure(model, options)


if __name__ == "__main__":
    main()
