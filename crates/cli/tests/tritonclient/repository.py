"""The repository: an index, and models that are unloaded and loaded again."""

import numpy as np

from clients import clients, code, given, http, pictures, refused


def index(module, client):
    models = client.get_model_repository_index() if module is http else client.get_model_repository_index(as_json=True)["models"]
    return {model["name"]: (model.get("version", ""), model["state"]) for model in models}


for module, client in clients():
    known = index(module, client)
    assert set(known) == {"same", "halves", "faces", "slow"} and all(state == "READY" for _, state in known.values()), known

    client.unload_model("same")
    assert index(module, client)["same"][1] == "UNAVAILABLE"
    assert not client.is_model_ready("same")
    with refused(code(module, "404", "NOT_FOUND"), "same", "not loaded"):
        client.infer("same", [given(module, pictures(1))])

    client.load_model("same")
    assert index(module, client)["same"][1] == "READY" and client.is_model_ready("same")
    assert np.array_equal(client.infer("same", [given(module, pictures(1))]).as_numpy("output"), pictures(1))

    # In the place of the one that serves, without a moment in which nobody does.
    client.load_model("same")
    assert client.is_model_ready("same")

    for change in (client.load_model, client.unload_model):
        with refused(code(module, "404", "NOT_FOUND"), "nobody"):
            change("nobody")
