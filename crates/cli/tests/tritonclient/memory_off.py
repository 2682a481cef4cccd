"""System shared memory, where the configuration does not allow it: refused, and said how to allow it."""

import tritonclient.utils.shared_memory as shm

from clients import clients, code, refused

for module, client in clients():
    off = code(module, "400", "FAILED_PRECONDITION")
    region = shm.create_shared_memory_region("pictures", "/omma-test-off", 4096)
    try:
        with refused(off, "direct.client_shared_memory = true"):
            client.register_system_shared_memory("pictures", "/omma-test-off", 4096)
        tensor = module.InferInput("images", [1, 3, 8, 8], "FP32")
        tensor.set_shared_memory("pictures", 768)
        with refused(off, "direct.client_shared_memory = true"):
            client.infer("same", [tensor])
    finally:
        shm.destroy_shared_memory_region(region)
    # Asked for by clients before they begin.
    client.unregister_system_shared_memory()
