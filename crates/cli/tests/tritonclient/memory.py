"""System shared memory, where the configuration allows it: in, out, both; what does not fit is an error."""

import os

import numpy as np
import tritonclient.utils.shared_memory as shm

from clients import clients, code, given, http, pictures, refused

values = pictures(2)
size = values.nbytes

for module, client in clients():
    key = f"/omma-test-{os.getpid()}-{module.__name__.rpartition('.')[2]}"
    region = shm.create_shared_memory_region("pictures", key, 2 * size)
    try:
        shm.set_shared_memory_region(region, [values])
        client.register_system_shared_memory("pictures", key, 2 * size)
        status = client.get_system_shared_memory_status() if module is http else client.get_system_shared_memory_status(as_json=True)["regions"].values()
        (told,) = status
        assert told["name"] == "pictures" and int(told["byte_size"]) == 2 * size, told

        tensor = module.InferInput("images", list(values.shape), "FP32")
        tensor.set_shared_memory("pictures", size)
        output = module.InferRequestedOutput("output")
        output.set_shared_memory("pictures", size, offset=size)
        result = client.infer("same", [tensor], outputs=[output])
        found = shm.get_contents_as_numpy(region, np.float32, values.shape, offset=size)
        assert np.array_equal(found, values)
        told = result.get_output("output")
        shape = told["shape"] if module is http else told.shape
        assert list(shape) == list(values.shape)

        # One way only, each.
        assert np.array_equal(client.infer("same", [tensor]).as_numpy("output"), values)
        other = pictures(2, first=9)
        client.infer("same", [given(module, other)], outputs=[output])
        assert np.array_equal(shm.get_contents_as_numpy(region, np.float32, values.shape, offset=size), other)

        wrong = code(module, "400", "INVALID_ARGUMENT")
        with refused(wrong, "registered already"):
            client.register_system_shared_memory("pictures", key, size)
        with refused(wrong, "cannot be opened"):
            client.register_system_shared_memory("others", key + "-not", size)
        with refused(wrong, "which has"):
            client.register_system_shared_memory("others", key, 3 * size)
        tensor.set_shared_memory("pictures", size, offset=2 * size)
        with refused(wrong, "pictures", "which has"):
            client.infer("same", [tensor])
        small = module.InferRequestedOutput("output")
        small.set_shared_memory("pictures", size - 4)
        with refused(wrong, "its place in shared memory"):
            client.infer("same", [given(module, values)], outputs=[small])

        client.unregister_system_shared_memory("pictures")
        tensor.set_shared_memory("pictures", size)
        with refused(code(module, "404", "NOT_FOUND"), "pictures"):
            client.infer("same", [tensor])
        # What is gone already is as good as gone, and nobody has any of CUDA's.
        client.unregister_system_shared_memory("pictures")
        client.unregister_system_shared_memory()
        client.unregister_cuda_shared_memory()
    finally:
        shm.destroy_shared_memory_region(region)
