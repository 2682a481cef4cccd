"""What a client can get wrong, by both transports: the status, and what was found and expected. Nothing of it harms."""

import http.client
import json

import numpy as np

from clients import HTTP, clients, code, given, pictures, refused

WHOLE = pictures(1)

for module, client in clients():
    wrong = code(module, "400", "INVALID_ARGUMENT")
    absent = code(module, "404", "NOT_FOUND")

    def infer(tensors, model="same", **more):
        return client.infer(model, tensors, **more)

    with refused(wrong, "images", "[n, 3, 8, 8]"):
        infer([given(module, np.zeros((1, 3, 8, 9), np.float32))])
    with refused(wrong, "[n, 3, 8, 8]"):
        infer([given(module, np.zeros((3, 8, 8), np.float32))])
    with refused(wrong, "n from 1 to 128"):
        infer([given(module, np.zeros((129, 3, 8, 8), np.float32))])
    with refused(wrong, "UINT8", "FP32"):
        infer([given(module, np.zeros((1, 3, 8, 8), np.uint8), datatype="UINT8")])
    with refused(wrong, "pixels", "images"):
        infer([given(module, WHOLE, name="pixels")])
    with refused(wrong):
        infer([given(module, WHOLE), given(module, WHOLE)])
    with refused(wrong, "nothing_such"):
        infer([given(module, WHOLE)], outputs=[module.InferRequestedOutput("nothing_such")])
    short = module.InferInput("images", [2, 3, 8, 8], "FP32")
    short.set_data_from_numpy(pictures(2))
    short.set_shape([1, 3, 8, 8])
    with refused(wrong, "byte"):
        infer([short])
    with refused(absent, "nobody"):
        infer([given(module, WHOLE)], model="nobody")
    with refused(absent, "version"):
        infer([given(module, WHOLE)], model_version="9")
    with refused(absent, "nobody"):
        client.get_model_metadata("nobody")
    with refused(absent, "nobody"):
        client.get_model_config("nobody")
    with refused(code(module, "413", "")):
        infer([given(module, pictures(2000))])
    assert np.array_equal(infer([given(module, WHOLE)]).as_numpy("output"), WHOLE)


def post(body, headers=()):
    connection = http.client.HTTPConnection(HTTP, timeout=20)
    connection.request("POST", "/v2/models/same/infer", body, dict(headers))
    answer = connection.getresponse()
    told = json.loads(answer.read())
    connection.close()
    return answer.status, told["error"]


# What no client sends: JSON that is none, or of another shape; headers that lie.
whole = {"inputs": [{"name": "images", "shape": [1, 3, 8, 8], "datatype": "FP32", "data": [0.0] * 192}]}
for body, headers, status in [
    (b"{", {}, 400),
    (b"", {}, 400),
    (b"[]", {}, 400),
    (b'{"inputs": 7}', {}, 400),
    (b'{"inputs": []}', {}, 400),
    (json.dumps(whole).replace("192", "x").encode()[:-9], {}, 400),
    (json.dumps({"inputs": [{**whole["inputs"][0], "data": [0.0] * 191}]}).encode(), {}, 400),
    (json.dumps({"inputs": [{**whole["inputs"][0], "data": ["a"] * 192}]}).encode(), {}, 400),
    (json.dumps({"inputs": [{**whole["inputs"][0], "shape": [-1, 3, 8, 8]}]}).encode(), {}, 400),
    (json.dumps({"inputs": [{**whole["inputs"][0], "shape": [1 << 62, 3, 8, 8]}]}).encode(), {}, 400),
    (json.dumps(whole).encode(), {"Inference-Header-Content-Length": "-1"}, 400),
    (json.dumps(whole).encode(), {"Inference-Header-Content-Length": "99999999"}, 400),
    (json.dumps(whole).encode(), {"Inference-Header-Content-Length": "5"}, 400),
    (json.dumps(whole).encode(), {"Content-Encoding": "gzip"}, 415),
    (json.dumps({"inputs": [{**{k: v for k, v in whole["inputs"][0].items() if k != "data"}, "parameters": {"binary_data_size": 768}}]}).encode(), {}, 400),
]:
    found, said = post(body, headers)
    assert found == status and said, (body[:80], headers, found, said)
