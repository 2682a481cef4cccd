"""Both of Triton's clients, as its users write them, on a running omma: `python SCRIPT HTTP GRPC`."""

import sys
from contextlib import contextmanager

import numpy as np
import tritonclient.grpc as grpc
import tritonclient.http as http
from tritonclient.utils import InferenceServerException

HTTP, GRPC = sys.argv[1:3]


def clients():
    """(module, client) of each transport."""
    return [(http, http.InferenceServerClient(HTTP)), (grpc, grpc.InferenceServerClient(GRPC))]


def pictures(count, first=0):
    """Distinct values, each a whole number that f32 holds."""
    cells = np.arange(count * 3 * 8 * 8, dtype=np.float32) + first
    return cells.reshape(count, 3, 8, 8)


def given(module, values, name="images", datatype="FP32", **how):
    tensor = module.InferInput(name, list(values.shape), datatype)
    tensor.set_data_from_numpy(values, **how)
    return tensor


@contextmanager
def refused(status, *words):
    """What is done within fails with the status and says all of the words."""
    try:
        yield
    except InferenceServerException as error:
        said = f"{error.status()}: {error.message()}"
        found = str(error.status() or "")
        assert found.endswith(status), f"{said}, expected {status}"
        for word in words:
            assert word in said, f"{said}, expected {word}"
    else:
        raise AssertionError(f"nothing was refused, expected {status}")


def code(module, by_http, by_grpc):
    return by_http if module is http else by_grpc
