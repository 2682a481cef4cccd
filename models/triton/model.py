"""The models that omma's tests and measurements run in a real Triton, all in this one file.

Each model's config.pbtxt says by its parameter "does" which of them it is. They are as small as can be: what is tested
is what lies between omma and the server.
"""

import json
import time

import numpy as np
import triton_python_backend_utils as pb_utils


def identity(pictures):
    return pictures


def statistics(pictures):
    """Four numbers that depend on every pixel of each picture, and on nothing else."""
    flat = pictures.reshape(len(pictures), -1).astype(np.float64)
    ramp = np.arange(flat.shape[1])
    return np.stack(
        [flat.mean(1), flat.max(1), flat.min(1), (flat * ramp).mean(1)], axis=1
    ).astype(np.float32)


def first(pictures):
    return pictures.reshape(len(pictures), -1)[:, :1].astype(np.float32)


def failing(pictures):
    """Refuses a batch in which a picture begins with 255."""
    if (pictures.reshape(len(pictures), -1)[:, 0] == 255).any():
        raise ValueError("a picture begins with 255")
    return first(pictures)


def scripted(pictures):
    """What the eight bytes of a picture of the tests' doubles say: refuses a batch that shall fail, else two numbers."""
    flat = pictures.reshape(len(pictures), 8)
    if flat[:, 1].any():
        raise ValueError("told to fail")
    values = np.ascontiguousarray(flat[:, 4:]).view("<u4")
    return np.concatenate([flat[:, 2:3], values], axis=1).astype(np.int64)


def encoded(pictures):
    """Length and sum of the bytes of encoded pictures."""
    return np.array(
        [[len(bytes_), sum(bytes_)] for bytes_ in pictures.reshape(-1)], dtype=np.int64
    )


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        text = {name: value["string_value"] for name, value in config["parameters"].items()}
        self.does = globals()[text["does"]]
        self.base_s = float(text.get("base_ms", 0)) / 1000
        self.item_s = float(text.get("item_ms", 0)) / 1000
        self.input = config["input"][0]["name"]
        self.output = config["output"][0]["name"]

    def execute(self, requests):
        arrays = [pb_utils.get_input_tensor_by_name(request, self.input).as_numpy() for request in requests]
        if self.base_s or self.item_s:
            time.sleep(self.base_s + self.item_s * sum(len(array) for array in arrays))
        responses = []
        for array in arrays:
            try:
                output = pb_utils.Tensor(self.output, self.does(array))
                responses.append(pb_utils.InferenceResponse(output_tensors=[output]))
            except ValueError as error:
                responses.append(pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error))))
        return responses
