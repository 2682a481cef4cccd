"""Inference: values by JSON, binary and raw; outputs that are asked for; many at once; a model's own description."""

import numpy as np

from clients import HTTP, clients, given, http, pictures

for module, client in clients():
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("same")

    # All outputs unless some are named; the id and the version come back.
    values = pictures(3)
    result = client.infer("same", [given(module, values)], request_id="7")
    assert np.array_equal(result.as_numpy("output"), values)
    response = result.get_response()
    told = response if module is http else {"model_name": response.model_name, "id": response.id, "model_version": response.model_version}
    assert (told["model_name"], told["id"], told["model_version"]) == ("same", "7", "1"), told
    result = client.infer("same", [given(module, values)], outputs=[module.InferRequestedOutput("output")], model_version="1")
    assert np.array_equal(result.as_numpy("output"), values)

    # More items than one batch of the model.
    values = pictures(100, first=5)
    assert np.array_equal(client.infer("same", [given(module, values)]).as_numpy("output"), values)

    # Half floats are taken as they are; what comes out is full.
    values = pictures(3).astype(np.float16)
    halves = client.infer("halves", [given(module, values, datatype="FP16")]).as_numpy("output")
    assert halves.dtype == np.float32 and np.array_equal(halves, values.astype(np.float32))

    # A real model, whose answers are known: the means of four quadrants, of a picture that is 1 at the top left.
    face = np.zeros((1, 3, 32, 32), np.float32)
    face[:, :, :16, :16] = 1
    embedding = client.infer("faces", [given(module, face)]).as_numpy("embedding")
    assert np.allclose(embedding, [[1, 0, 0, 0, 0, 0, 0, 0]], atol=1e-6), embedding

    metadata = client.get_model_metadata("same") if module is http else client.get_model_metadata("same", as_json=True)
    (tensor,) = metadata["inputs"]
    assert (tensor["name"], tensor["datatype"], [int(side) for side in tensor["shape"]]) == ("images", "FP32", [-1, 3, 8, 8])
    config = client.get_model_config("same") if module is http else client.get_model_config("same", as_json=True)["config"]
    assert config["name"] == "same" and config["max_batch_size"] > 1, config

# By HTTP each way and each place of the values is a choice of its own.
client = http.InferenceServerClient(HTTP, concurrency=8)
for binary_in in (True, False):
    for binary_out in (True, False):
        values = pictures(2)
        outputs = [http.InferRequestedOutput("output", binary_data=binary_out)]
        result = client.infer("same", [given(http, values, binary_data=binary_in)], outputs=outputs)
        assert np.array_equal(result.as_numpy("output"), values), (binary_in, binary_out)

# Many at once on one client, each with its own answer.
waiting = [(first, client.async_infer("same", [given(http, pictures(1, first))])) for first in range(64)]
for first, answer in waiting:
    assert np.array_equal(answer.get_result().as_numpy("output"), pictures(1, first))
