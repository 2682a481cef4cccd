#!/usr/bin/env python3
"""Trains the demo's detector on prepared scenes and writes omma-demo.onnx beside this script.

Usage: python models/detector/prepare.py FOLDER
       python models/detector/train.py FOLDER --minutes 20 [--threads 1]

Time is the budget, not epochs: the learning rate follows the clock down to nothing, so any
budget ends with a finished model. bfloat16 on the CPU, which halves the time of a step.
With --begin WEIGHTS it goes on from an earlier run; with --minutes 0 it only exports those.
"""

import argparse
import copy
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

import network

HERE = Path(__file__).resolve().parent
GREY, PADDING = 114, 6
# Cells that may answer for one truth, and how much a box weighs against its class.
CELLS, BOX_WEIGHT = 9, 5.0


class Batches:
    """Endless shuffled batches of mapped pictures, mirrored and re-lit at random."""

    def __init__(self, folder, size, rng):
        self.pictures = np.load(folder / "pictures.npy", mmap_mode="r")
        truths = np.load(folder / "truths.npz")
        ends = np.cumsum(truths["counts"])
        self.truths = np.split(truths["rows"], ends[:-1])
        self.size, self.rng, self.order = size, rng, np.array([], int)
        self.seen = 0

    def next(self):
        if len(self.order) < self.size:
            self.order = self.rng.permutation(len(self.truths))
        picked, self.order = np.sort(self.order[: self.size]), self.order[self.size :]
        self.seen += self.size
        images = np.full((self.size, 192, 320, 3), GREY, np.uint8)
        most = max(1, max(len(self.truths[i]) for i in picked))
        rows = np.full((self.size, most, 6), -1, np.float32)
        for k, i in enumerate(picked):
            picture, found = self.pictures[i], self.truths[i]
            if self.rng.random() < 0.5:
                picture = picture[:, ::-1]
                found = found[:, [0, 1, 4, 3, 2, 5]] * [1, 1, -1, 1, -1, 1] + [0, 0, 320, 0, 320, 0]
            images[k, PADDING:-PADDING] = self.relit(picture)
            rows[k, : len(found)] = found
        batch = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        return batch, torch.from_numpy(rows)

    def relit(self, picture):
        # One table per channel: gain, contrast about the middle, and a tint.
        gain = self.rng.uniform(0.75, 1.25) * self.rng.uniform(0.92, 1.08, 3)
        shift = self.rng.uniform(-14, 14)
        steps = np.arange(256)[:, None] * gain + shift
        table = steps.clip(0, 255).astype(np.uint8)
        return np.stack([table[picture[..., c], c] for c in range(3)], axis=-1)


def overlaps(a, b):
    """IoU of boxes [..., 4] as corners."""
    low = torch.maximum(a[..., :2], b[..., :2])
    high = torch.minimum(a[..., 2:], b[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    area = lambda x: (x[..., 2:] - x[..., :2]).clamp(min=0).prod(-1)
    return shared / (area(a) + area(b) - shared + 1e-7)


def complete_loss(a, b, iou):
    """1 - CIoU: overlap, distance of centres and likeness of shape."""
    span = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    gap = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2
    size = lambda x: (x[..., 2:] - x[..., :2]).clamp(min=1e-3)
    wa, wb = size(a), size(b)
    turn = torch.atan(wa[..., 0] / wa[..., 1]) - torch.atan(wb[..., 0] / wb[..., 1])
    shape = 4 / np.pi**2 * turn**2
    with torch.no_grad():
        weight = shape / (1 - iou + shape + 1e-7)
    return 1 - iou + (gap**2).sum(-1) / ((span**2).sum(-1) + 1e-7) + weight * shape


def corners(boxes):
    """[n,4,cells] of cx, cy, w, h to [n,cells,4] of x1, y1, x2, y2."""
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return torch.cat([centre - half, centre + half], 1).transpose(1, 2)


@torch.no_grad()
def assign(net, boxes, scores, rows):
    """Which truth each cell answers for, how sure it should be, and which cells are excused."""
    n, most, cells = rows.shape[0], rows.shape[1], boxes.shape[1]
    wanted, ignored = rows[..., 1] == 0, rows[..., 1] == 1
    targets = rows[..., 2:]
    centres, strides = net.centres[0].T, net.strides[0, 0]
    slack = 0.5 * strides[None, None, :, None]
    low = targets[:, :, None, :2] - slack
    high = targets[:, :, None, 2:] + slack
    inside = ((centres > low) & (centres < high)).all(-1)
    excused = (inside & ignored[..., None]).any(1)
    iou = overlaps(boxes[:, None], targets[:, :, None])
    classes = rows[..., 0].clamp(min=0).long()
    said = scores.gather(1, classes[..., None].expand(-1, -1, cells))
    # Cells that say the right thing in the right place; a nearness that only breaks ties
    # gives a beginner something to start from.
    middle = (targets[..., :2] + targets[..., 2:]) / 2
    away = (centres[None, None] - middle[:, :, None]).pow(2).sum(-1)
    merit = (said.sqrt() * iou**4 + 1e-6 / (1 + away)) * inside * wanted[..., None]
    best, index = merit.topk(CELLS, dim=-1)
    chosen = torch.zeros_like(merit).scatter_(-1, index, (best > 0).float())
    # A cell wanted by two truths takes the one it overlaps best.
    rank = chosen * (iou + 1e-6)
    owner = rank.argmax(1)
    mine = rank.amax(1) > 0
    chosen = chosen * functional.one_hot(owner, most).transpose(1, 2) * mine[:, None]
    merit, fit = merit * chosen, iou * chosen
    sure = merit / (merit.amax(-1, keepdim=True) + 1e-12) * fit.amax(-1, keepdim=True)
    aims = torch.zeros(n, net.classes, cells)
    aims.scatter_add_(1, classes[..., None].expand(-1, -1, cells), sure * chosen)
    at = targets.gather(1, owner[..., None].expand(-1, -1, 4))
    return mine, at, aims, excused & ~mine


def loss_of(net, raw, rows):
    boxes = corners(net.boxes(raw))
    logits = raw[:, 4:]
    mine, targets, aims, excused = assign(net, boxes.detach(), logits.detach().sigmoid(), rows)
    total = aims.sum().clamp(min=1)
    scored = functional.binary_cross_entropy_with_logits(logits, aims, reduction="none")
    scored = (scored * ~excused[:, None]).sum() / total
    a, b, weight = boxes[mine], targets[mine], aims.sum(1)[mine]
    iou = overlaps(a, b)
    boxed = (complete_loss(a, b, iou) * (weight + 0.1)).sum() / total
    return scored + BOX_WEIGHT * boxed, scored.item(), boxed.item()


def export(net, path):
    """Folds normalisation and writes ONNX with only the batch left open."""
    net = copy.deepcopy(net).float().eval().fold()
    batch = {0: "batch"}
    torch.onnx.export(
        net,
        (torch.zeros(1, 3, network.HEIGHT, network.WIDTH),),
        str(path),
        input_names=["images"],
        output_names=["output0"],
        dynamic_axes={"images": batch, "output0": batch},
        opset_version=17,
        dynamo=False,
    )
    plain(path)


def plain(path):
    """Drops what the exporter says about itself and where it ran, and states the output's
    shape, which it leaves open."""
    import onnx

    model = onnx.load(path)
    model.producer_name, model.producer_version, model.doc_string = "omma", "", ""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    cells = sum(network.HEIGHT // s * (network.WIDTH // s) for s in network.STRIDES)
    shape = model.graph.output[0].type.tensor_type.shape
    for size, value in zip(shape.dim[1:], (4 + len(network.CLASSES), cells)):
        size.Clear()
        size.dim_value = value
    onnx.helper.set_model_props(model, {"names": ",".join(network.CLASSES), "task": "detect"})
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--minutes", type=float, default=20)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--batch", type=int, default=32)
    arguments.add_argument("--rate", type=float, default=3e-3)
    arguments.add_argument("--begin", type=Path, help="weights to go on from")
    arguments.add_argument("--out", type=Path, default=HERE / "omma-demo.onnx")
    arguments.add_argument("--weights", type=Path, default=Path("/tmp/omma-demo.pt"))
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    net = network.Detector()
    if options.begin:
        net.load_state_dict(torch.load(options.begin))
    net = net.to(memory_format=torch.channels_last).train()
    mean = copy.deepcopy(net).eval()
    decayed = [p for p in net.parameters() if p.dim() > 1]
    others = [p for p in net.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=options.rate, betas=(0.9, 0.98))
    batches = Batches(options.folder, options.batch, np.random.default_rng(2))
    start, budget, step, told = time.monotonic(), options.minutes * 60, 0, [0.0, 0.0]
    saved = start
    while (elapsed := time.monotonic() - start) < budget:
        share = elapsed / budget
        rate = options.rate * min(1, (step + 1) / 200) * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * share)))
        for group in optimiser.param_groups:
            group["lr"] = rate
        images, rows = batches.next()
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            raw = net.raw(images)
        loss, scored, boxed = loss_of(net, raw.float(), rows)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        optimiser.step()
        step += 1
        # A running mean of the weights measures better than any one step's.
        keep = min(0.998, step / (step + 50))
        with torch.no_grad():
            for a, b in zip(mean.state_dict().values(), net.state_dict().values()):
                if a.dtype.is_floating_point:
                    a.lerp_(b, 1 - keep)
        told = [0.98 * told[0] + 0.02 * scored, 0.98 * told[1] + 0.02 * boxed]
        if step % 200 == 0:
            bias = 1 - 0.98**step
            epochs = batches.seen / len(batches.truths)
            print(
                f"{elapsed / 60:5.1f} min  step {step}  epochs {epochs:.2f}"
                f"  class {told[0] / bias:.3f}  box {told[1] / bias:.3f}",
                flush=True,
            )
        if time.monotonic() - saved > 240:
            export(mean, options.out)
            torch.save(mean.state_dict(), options.weights)
            saved = time.monotonic()
    torch.save(mean.state_dict(), options.weights)
    export(mean, options.out)
    epochs = batches.seen / len(batches.truths)
    print(f"{step} steps, {epochs:.2f} epochs; {options.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
