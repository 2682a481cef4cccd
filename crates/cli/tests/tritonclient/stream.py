"""A gRPC stream: answers in the order of the requests; what is wrong with one is its answer, and the stream goes on."""

import queue

import numpy as np

from clients import GRPC, given, grpc, pictures

answers = queue.Queue()
client = grpc.InferenceServerClient(GRPC)
client.start_stream(callback=lambda result, error: answers.put((result, error)))
for first in range(50):
    client.async_stream_infer("same", [given(grpc, pictures(1, first))], request_id=str(first))
for first in range(50):
    result, error = answers.get(timeout=20)
    assert error is None, error
    assert result.get_response().id == str(first)
    assert np.array_equal(result.as_numpy("output"), pictures(1, first))

client.async_stream_infer("nobody", [given(grpc, pictures(1))])
client.async_stream_infer("same", [given(grpc, pictures(1))], enable_empty_final_response=True)
result, error = answers.get(timeout=20)
assert result is None and "nobody" in error.message(), (result, error)
result, error = answers.get(timeout=20)
assert error is None and result.get_response().parameters["triton_final_response"].bool_param
client.stop_stream()
