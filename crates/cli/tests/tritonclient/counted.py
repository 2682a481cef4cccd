"""Statistics count what was asked and answered, and what failed."""

from clients import clients, code, given, http, pictures, refused


def counts(module, client):
    told = client.get_inference_statistics("same") if module is http else client.get_inference_statistics("same", as_json=True)
    (model,) = told["model_stats"]
    spans = model["inference_stats"]
    count = lambda name: int(spans.get(name, {}).get("count", 0))
    ns = lambda name: int(spans.get(name, {}).get("ns", 0))
    assert ns("queue") + ns("compute_infer") <= ns("success"), spans
    return int(model["inference_count"]), int(model["execution_count"]), count("success"), count("fail")


for module, client in clients():
    items, batches, good, bad = counts(module, client)
    for _ in range(5):
        client.infer("same", [given(module, pictures(4))])
    # The first is in the model, which takes a minute; the second waits for it in vain.
    with refused(code(module, "504", "UNAVAILABLE")):
        client.infer("slow", [given(module, pictures(1))], timeout=1_000_000)
    after = counts(module, client)
    assert after[0] == items + 20 and batches < after[1] <= batches + 20, (items, batches, after)
    assert after[2:] == (good + 5, bad), after
    (slow,) = (client.get_inference_statistics("slow") if module is http else client.get_inference_statistics("slow", as_json=True))["model_stats"]
    assert int(slow["inference_stats"]["fail"]["count"]) >= 1, slow
    with refused(code(module, "404", "NOT_FOUND"), "nobody"):
        client.get_inference_statistics("nobody")
