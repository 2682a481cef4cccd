#!/usr/bin/env python3
"""Writes a network of YOLOv8n's architecture with random weights: the benchmarks' workload.

Usage: python models/yolov8n_random.py FILE [--seed 1] [--size 320] [--classes 80] [--half] [--check]

It costs what the real one costs (3.15 M parameters, 12.6 MB, convolutions with SiLU, C2f
blocks, SPPF, a decoupled head whose distribution decode is in the graph) and detects nothing.
Input images [batch,3,size,size], output output0 [batch, 4 + classes, cells]: boxes as cx, cy,
w, h in input pixels, then scores; 2100 cells at 320. Normalisation is folded into the
convolutions, as exporters leave it. Weights are so scaled that a layer's output varies about
as much as its input, and class biases so low that suppression has little to do, as with a
trained network. The same seed gives the same bytes. With --half everything is half floats,
input and output too, as exports for GPUs are. Needs numpy and onnx.
"""

import argparse
from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

OPSET, IR_VERSION = 17, 8
# Widths and repeats of the "n" size.
WIDTHS = (16, 32, 64, 128, 256)
BINS = 16
# Second moment of SiLU of a standard normal: what scaling has to make up for.
SILU = 0.3557


class Graph:
    """Nodes and constants in the order written, and names that tell their place."""

    def __init__(self, seed, kind):
        self.rng, self.kind = np.random.default_rng(seed), kind
        self.nodes, self.constants, self.parameters, self.count = [], [], 0, 0

    def constant(self, values, kind=None):
        self.count += 1
        name = f"c{self.count}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype=kind or self.kind), name))
        return name

    def node(self, kind, inputs, outputs=1, **attributes):
        self.count += 1
        names = [f"n{self.count}_{i}" if outputs > 1 else f"n{self.count}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, f"{kind}_{self.count}", **attributes))
        return names[0] if outputs == 1 else names

    def convolution(self, x, inputs, outputs, kernel=1, stride=1, scale=1.0, bias=0.0):
        fan = inputs * kernel * kernel
        weight = self.rng.normal(0, scale / np.sqrt(fan * SILU), (outputs, inputs, kernel, kernel))
        biases = np.full(outputs, bias) + self.rng.normal(0, 0.02, outputs)
        self.parameters += weight.size + biases.size
        return self.node(
            "Conv",
            [x, self.constant(weight), self.constant(biases)],
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
        )

    def conv(self, x, inputs, outputs, kernel=1, stride=1, scale=1.0):
        y = self.convolution(x, inputs, outputs, kernel, stride, scale)
        return self.node("Mul", [y, self.node("Sigmoid", [y])])

    def concat(self, parts, axis=1):
        return self.node("Concat", parts, axis=axis)

    def c2f(self, x, inputs, outputs, repeats, shortcut):
        half = outputs // 2
        y = self.conv(x, inputs, outputs)
        parts = self.node("Split", [y, self.constant([half, half], np.int64)], outputs=2, axis=1)
        for _ in range(repeats):
            # A shortcut adds two of about equal size; scaled so that the sum does not grow.
            z = self.conv(self.conv(parts[-1], half, half, 3), half, half, 3, scale=0.7)
            parts.append(self.node("Add", [parts[-1], z]) if shortcut else z)
        return self.conv(self.concat(parts), half * len(parts), outputs)

    def sppf(self, x, channels):
        half = channels // 2
        parts = [self.conv(x, channels, half)]
        for _ in range(3):
            pooled = self.node("MaxPool", [parts[-1]], kernel_shape=[5, 5], strides=[1, 1], pads=[2] * 4)
            parts.append(pooled)
        # Maxima are larger than what they are of.
        return self.conv(self.concat(parts), half * 4, channels, scale=0.6)

    def doubled(self, x):
        scales = self.constant([1, 1, 2, 2], np.float32)
        return self.node(
            "Resize", [x, "", scales], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
        )

    def reshape(self, x, *shape):
        return self.node("Reshape", [x, self.constant(shape, np.int64)])


def build(graph, size, classes):
    a, b, c, d, e = WIDTHS
    g = graph
    x = g.conv(g.conv("images", 3, a, 3, 2), a, b, 3, 2)
    x = g.c2f(x, b, b, 1, True)
    p3 = g.c2f(g.conv(x, b, c, 3, 2), c, c, 2, True)
    p4 = g.c2f(g.conv(p3, c, d, 3, 2), d, d, 2, True)
    p5 = g.sppf(g.c2f(g.conv(p4, d, e, 3, 2), e, e, 1, True), e)
    up4 = g.c2f(g.concat([g.doubled(p5), p4]), e + d, d, 1, False)
    n3 = g.c2f(g.concat([g.doubled(up4), p3]), d + c, c, 1, False)
    n4 = g.c2f(g.concat([g.conv(n3, c, c, 3, 2), up4]), c + d, d, 1, False)
    n5 = g.c2f(g.concat([g.conv(n4, d, d, 3, 2), p5]), d + e, e, 1, False)

    boxes, scores, centres, strides = [], [], [], []
    box_width, class_width = max(16, c // 4, BINS * 4), max(c, min(classes, 100))
    for level, channels, stride in ((n3, c, 8), (n4, d, 16), (n5, e, 32)):
        side = size // stride
        y = g.conv(g.conv(level, channels, box_width, 3), box_width, box_width, 3)
        boxes.append(g.reshape(g.convolution(y, box_width, 4 * BINS), -1, 4 * BINS, side * side))
        y = g.conv(g.conv(level, channels, class_width, 3), class_width, class_width, 3)
        y = g.convolution(y, class_width, classes, scale=0.6, bias=-6.0)
        scores.append(g.reshape(y, -1, classes, side * side))
        ys, xs = np.mgrid[:side, :side] + 0.5
        centres.append(np.stack([xs.ravel(), ys.ravel()]))
        strides.append(np.full(side * side, stride))
    cells = sum(len(s) for s in strides)

    # Each side's distance is the mean of a distribution over bins, in strides.
    bins = g.reshape(g.concat(boxes, axis=2), -1, 4, BINS, cells)
    bins = g.node("Softmax", [g.node("Transpose", [bins], perm=[0, 2, 1, 3])], axis=1)
    weight = g.constant(np.arange(BINS).reshape(1, BINS, 1, 1))
    sides = g.reshape(g.node("Conv", [bins, weight], kernel_shape=[1, 1]), -1, 4, cells)
    halves = g.constant([2, 2], np.int64)
    low, high = g.node("Split", [sides, halves], outputs=2, axis=1)
    grid = g.constant(np.concatenate(centres, 1)[None])
    first, last = g.node("Sub", [grid, low]), g.node("Add", [grid, high])
    middle = g.node("Mul", [g.node("Add", [first, last]), g.constant([0.5])])
    box = g.concat([middle, g.node("Sub", [last, first])])
    box = g.node("Mul", [box, g.constant(np.concatenate(strides)[None, None])])
    score = g.node("Sigmoid", [g.concat(scores, axis=2)])
    g.nodes.append(helper.make_node("Concat", [box, score], ["output0"], "output", axis=1))
    return cells


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("file", type=Path)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--size", type=int, default=320)
    arguments.add_argument("--classes", type=int, default=80)
    arguments.add_argument("--half", action="store_true", help="half floats throughout")
    arguments.add_argument("--check", action="store_true", help="run it once with onnxruntime")
    options = arguments.parse_args()
    if options.size < 32 or options.size % 32:
        arguments.error("--size must be a multiple of 32")
    graph = Graph(options.seed, np.float16 if options.half else np.float32)
    cells = build(graph, options.size, options.classes)
    element = TensorProto.FLOAT16 if options.half else TensorProto.FLOAT
    tensor = lambda name, shape: helper.make_tensor_value_info(name, element, shape)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "yolov8n_random",
            [tensor("images", ["batch", 3, options.size, options.size])],
            [tensor("output0", ["batch", 4 + options.classes, cells])],
            initializer=graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="omma",
    )
    checker.check_model(model, full_check=True)
    options.file.write_bytes(model.SerializeToString(deterministic=True))
    print(f"{options.file}: {graph.parameters} parameters, {options.file.stat().st_size} bytes")
    if options.check:
        check(options, cells)


def check(options, cells):
    import onnxruntime

    session = onnxruntime.InferenceSession(options.file, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(3).random((2, 3, options.size, options.size), np.float32)
    images = images.astype(np.float16 if options.half else np.float32)
    out = session.run(None, {"images": images})[0]
    assert out.shape == (2, 4 + options.classes, cells), out.shape
    assert np.isfinite(out).all()
    alone = session.run(None, {"images": images[1:]})[0]
    assert np.abs(alone[0] - out[1]).max() < (1 if options.half else 1e-2)
    sizes, scores = out[:, 2:4], out[:, 4:]
    print(f"boxes {sizes.min():.1f} to {sizes.max():.1f} pixels; scores {scores.min():.4f} to {scores.max():.4f}, {(scores > 0.25).any(1).sum() / 2:.0f} cells above 0.25 a picture")


if __name__ == "__main__":
    main()
