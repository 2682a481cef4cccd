#!/usr/bin/env python3
"""Writes the very small ONNX files the tests run, into models/tiny/.

Every file answers a question whose right answer is known without the file, so that a test of
a runtime, of batching or of a post-processing step needs no golden output:

identity_8x8.onnx    images [batch,3,8,8] -> output [batch,3,8,8], the same numbers.
classifier_4.onnx    images [batch,3,32,32], RGB 0..1 -> scores [batch,4], a softmax.
                     Classes: 0 red, 1 green, 2 blue, 3 grey (labels in classifier_4.txt).
                     A channel's logit is 20 * (its mean - the mean of the other two means),
                     grey's logit is the constant 4: a colour wins where its mean exceeds the
                     others' by more than 0.2, and an even picture of any brightness is grey.
classifier_4_int8.onnx  the same in int8 (QDQ): the picture in steps of 1/255, whole weights of
                     0.2, logits in steps of 20/127. Scores are within 0.05 of classifier_4's.
embed_8.onnx         images [batch,3,32,32], RGB 0..1 -> embedding [batch,8], not normalised.
                     0..3: mean of all channels over the quadrants top left, top right,
                     bottom left, bottom right; 4..7: mean red minus mean blue, same quadrants.
fixed_batch_2.onnx   images [2,3,8,8] -> means [2,3], the mean of each channel. The batch is
                     fixed: anything but two pictures must be padded or refused.
yolo_end2end.onnx    images [batch,3,32,32] -> output0 [batch,6,6], rows of
                     x1,y1,x2,y2,score,class in input pixels, best first, as detectors with
                     suppression inside the graph give them. With m the mean of the picture
                     over all channels: row k of 0..4 is the box (2k, 3k, 2k+10, 3k+12), the
                     score m * (1 - 0.2 k), the class k mod 3. Row 5 is zeros: padding.

Usage: python models/tiny.py [--check]
--check runs each file with onnxruntime and compares it with the sentences above.
The bytes written are the same on every run; needs onnx and numpy (and onnxruntime to check).
"""

import argparse
from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

# Old enough for every runtime we load models with, new enough for the ops used.
OPSET = 17
IR_VERSION = 8
FOLDER = Path(__file__).resolve().parent / "tiny"


def constant(name, values, kind=np.float32):
    return numpy_helper.from_array(np.asarray(values, dtype=kind), name)


def save(name, nodes, inputs, outputs, constants=()):
    """Checks and writes one graph; `inputs` and `outputs` are (name, shape) pairs."""
    tensors = [
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in side]
        for side in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, name, tensors[0], tensors[1], initializer=list(constants))
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="omma",
    )
    checker.check_model(model, full_check=True)
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    print(f"{path.name}: {path.stat().st_size} bytes")


def identity():
    shape = ["batch", 3, 8, 8]
    save(
        "identity_8x8",
        [helper.make_node("Identity", ["images"], ["output"])],
        [("images", shape)],
        [("output", shape)],
    )


def classifier():
    # Rows are classes; columns the means of red, green and blue.
    weight = 20.0 * np.array([[1, -0.5, -0.5], [-0.5, 1, -0.5], [-0.5, -0.5, 1], [0, 0, 0]])
    save(
        "classifier_4",
        [
            helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["means"], axis=1),
            helper.make_node("Gemm", ["means", "weight", "bias"], ["logits"], transB=1),
            helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
        ],
        [("images", ["batch", 3, 32, 32])],
        [("scores", ["batch", 4])],
        [constant("weight", weight), constant("bias", [0, 0, 0, 4])],
    )
    (FOLDER / "classifier_4.txt").write_text("red\ngreen\nblue\ngrey\n")


def classifier_int8():
    # As quantising tools write it: every tensor goes through a pair of QuantizeLinear and
    # DequantizeLinear, which runtimes fold into integer kernels.
    steps = 100 * np.array([[1, -0.5, -0.5], [-0.5, 1, -0.5], [-0.5, -0.5, 1], [0, 0, 0]])
    save(
        "classifier_4_int8",
        [
            helper.make_node("QuantizeLinear", ["images", "x_scale", "x_zero"], ["x_q"]),
            helper.make_node("DequantizeLinear", ["x_q", "x_scale", "x_zero"], ["x"]),
            helper.make_node("DequantizeLinear", ["w_q", "w_scale", "w_zero"], ["w"]),
            helper.make_node("DequantizeLinear", ["b_q", "b_scale", "b_zero"], ["b"]),
            helper.make_node("Conv", ["x", "w", "b"], ["y_f"], kernel_shape=[1, 1]),
            helper.make_node("QuantizeLinear", ["y_f", "y_scale", "y_zero"], ["y_q"]),
            helper.make_node("DequantizeLinear", ["y_q", "y_scale", "y_zero"], ["y"]),
            helper.make_node("GlobalAveragePool", ["y"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["logits"], axis=1),
            helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
        ],
        [("images", ["batch", 3, 32, 32])],
        [("scores", ["batch", 4])],
        [
            constant("x_scale", 1 / 255),
            constant("x_zero", 0, np.uint8),
            constant("w_q", steps.reshape(4, 3, 1, 1), np.int8),
            constant("w_scale", 0.2),
            constant("w_zero", 0, np.int8),
            # The scale of a bias is the product of the other two.
            constant("b_q", [0, 0, 0, round(4 / (0.2 / 255))], np.int32),
            constant("b_scale", 0.2 / 255),
            constant("b_zero", 0, np.int32),
            constant("y_scale", 20 / 127),
            constant("y_zero", 0, np.int8),
        ],
    )


def embed():
    # The pooled picture is [batch,3,2,2]; flattened, column 4*channel + quadrant.
    weight = np.zeros((12, 8))
    for quadrant in range(4):
        for channel in range(3):
            weight[4 * channel + quadrant, quadrant] = 1 / 3
        weight[quadrant, 4 + quadrant] = 1
        weight[8 + quadrant, 4 + quadrant] = -1
    save(
        "embed_8",
        [
            helper.make_node(
                "AveragePool", ["images"], ["pooled"], kernel_shape=[16, 16], strides=[16, 16]
            ),
            helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "weight"], ["embedding"]),
        ],
        [("images", ["batch", 3, 32, 32])],
        [("embedding", ["batch", 8])],
        [constant("weight", weight)],
    )


def fixed_batch():
    save(
        "fixed_batch_2",
        [
            helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["means"], axis=1),
        ],
        [("images", [2, 3, 8, 8])],
        [("means", [2, 3])],
    )


def end2end_rows():
    """What is added to every picture's rows, and what its mean is multiplied with."""
    base, slope = np.zeros((1, 6, 6)), np.zeros((1, 6, 6))
    for k in range(5):
        base[0, k] = [2 * k, 3 * k, 2 * k + 10, 3 * k + 12, 0, k % 3]
        slope[0, k, 4] = 1 - 0.2 * k
    return base, slope


def end2end():
    base, slope = end2end_rows()
    save(
        "yolo_end2end",
        [
            helper.make_node("ReduceMean", ["images"], ["mean4"], axes=[1, 2, 3], keepdims=1),
            helper.make_node("Reshape", ["mean4", "shape"], ["mean"]),
            helper.make_node("Mul", ["mean", "slope"], ["scores"]),
            helper.make_node("Add", ["scores", "base"], ["output0"]),
        ],
        [("images", ["batch", 3, 32, 32])],
        [("output0", ["batch", 6, 6])],
        [constant("base", base), constant("slope", slope), constant("shape", [-1, 1, 1], np.int64)],
    )


def check():
    import onnxruntime

    def run(name, pictures):
        session = onnxruntime.InferenceSession(
            FOLDER / f"{name}.onnx", providers=["CPUExecutionProvider"]
        )
        return session.run(None, {"images": pictures.astype(np.float32)})[0]

    def close(name, got, want):
        assert got.shape == want.shape, (name, got.shape, want.shape)
        assert np.allclose(got, want, atol=1e-5), (name, got, want)
        print(f"{name}: as documented")

    rng = np.random.default_rng(7)
    small, large = rng.random((3, 3, 8, 8)), rng.random((3, 3, 32, 32))
    close("identity_8x8", run("identity_8x8", small), small)

    colours = np.array([[0.9, 0.1, 0.2], [0, 0.5, 0.1], [0.3, 0.2, 0.8], [0.6, 0.6, 0.6], [0, 0, 0]])
    scores = run("classifier_4", np.broadcast_to(colours[:, :, None, None], (5, 3, 32, 32)))
    close("classifier_4", scores.argmax(axis=1), np.array([0, 1, 2, 3, 3]))
    close("classifier_4", scores.sum(axis=1), np.ones(5))

    even = np.broadcast_to(colours[:, :, None, None], (5, 3, 32, 32))
    apart = np.abs(run("classifier_4_int8", even) - run("classifier_4", even)).max()
    assert apart <= 0.05, apart
    print(f"classifier_4_int8: within {apart:.3f} of classifier_4")

    quadrants = large.reshape(3, 3, 2, 16, 2, 16).mean(axis=(3, 5)).reshape(3, 3, 4)
    want = np.concatenate([quadrants.mean(axis=1), quadrants[:, 0] - quadrants[:, 2]], axis=1)
    close("embed_8", run("embed_8", large), want)

    close("fixed_batch_2", run("fixed_batch_2", small[:2]), small[:2].mean(axis=(2, 3)))

    base, slope = end2end_rows()
    want = base + slope * large.mean(axis=(1, 2, 3)).reshape(3, 1, 1)
    close("yolo_end2end", run("yolo_end2end", large), want)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--check", action="store_true", help="run the files, compare the answers")
    options = arguments.parse_args()
    identity()
    classifier()
    classifier_int8()
    embed()
    fixed_batch()
    end2end()
    if options.check:
        check()


if __name__ == "__main__":
    main()
