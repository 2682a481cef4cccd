"""Results are read as the sinks write them, and what is none of them is refused."""

import sys
from pathlib import Path

from omma.results import Classified, Error, Found, ResultError, Results, Tensor, lines, parse

START = '{"v":1,"camera":"gate","sequence":7,"captured_at":"","captured_at_ns":5,"timing_ms":{"total":1.5}'

# The example of the reference page, to the last digit.
page = Path(sys.argv[1], "docs/ref/results.md").read_text(encoding="utf-8")
example = parse(page.split("```json\n")[1].split("\n```")[0])
assert (example.camera, example.sequence, example.captured_at) == ("gate-3", 1041, 1767225599123456789)
assert (example.size, example.model, example.model_version) == ((640, 360), "yolov8n", 3)
assert example.detections == [Found(0, "person", 0.9121, (103.5, 88.25, 141.0, 201.75))]
assert example.error is None and example.timing_ms["total"] == 13.686

for more, name, expected in [
    ("", "detections", None),
    ('"detections":[]', "detections", []),
    ('"classes":[{"class":2,"score":0.5}]', "classes", [Classified(2, None, 0.5)]),
    ('"embedding":[1.0,-2.0]', "embedding", [1.0, -2.0]),
    ('"tensors":[{"name":"a","shape":[2],"values":[1,null]}]', "tensors", [Tensor("a", (2,), [1, None])]),
    ('"error":{"reason":"picture_corrupt","detail":"x"}', "error", Error("picture_corrupt", "x")),
]:
    result = parse(START + ("," + more if more else "") + "}")
    assert getattr(result, name) == expected, (more, result)
    assert (result.camera, result.sequence) == ("gate", 7)

for text, words in [
    ("", "no JSON"),
    (b"\x82\xa1v\x01", 'format = "json"'),
    ("{", "unreadable"),
    ("{}", "unreadable"),
    ('{"v":2}', "version 2"),
    (START.replace('"camera":"gate",', "") + "}", "camera"),
    (START + ',"detections":[{"class":0,"score":1,"box":[1,2,3]}]}', "unreadable"),
    (START + ',"detections":7}', "unreadable"),
]:
    try:
        parse(text)
    except ResultError as error:
        assert words in str(error), (text, error)
    else:
        raise AssertionError(f"{text!r} was taken for a result")

assert [result.sequence for result in lines([START + "}\n", "\n", (START + "}").encode()])] == [7, 7]

for more, words in [
    ({"stream": "results"}, "one {camera} or one {shard}"),
    ({"stream": "{camera}{shard}", "cameras": ["a"]}, "one {camera} or one {shard}"),
    ({}, "no cameras"),
]:
    try:
        Results(object(), **more)
    except ValueError as error:
        assert words in str(error), (more, error)
    else:
        raise AssertionError(f"{more} were accepted")


class Server:
    """What redis-py's client says of one stream; an id is one number."""

    def __init__(self, entries):
        self.entries = entries

    def xread(self, streams, count, block):
        after = {key: int(entry.split("-")[0]) for key, entry in streams.items()}
        newer = [[key, [entry for entry in self.entries if int(entry[0]) > after[key]][:count]] for key in streams]
        return [stream for stream in newer if stream[1]]


def numbered(sequence):
    return {b"data": START.replace('"sequence":7', f'"sequence":{sequence}').encode() + b"}"}


# What is no result is told once and in its place, and costs no other.
for bad, words in [({b"data": b"{"}, "unreadable"), ({b"other": b"1"}, "the fields other, expected one named data")]:
    for at in range(3):
        stored = [numbered(1), numbered(2)]
        stored.insert(at, bad)
        results = Results(Server([(str(n + 1), fields) for n, fields in enumerate(stored)]), ["gate"], since="oldest")
        seen = []
        for _ in range(5):
            try:
                seen += [result.sequence for result in results.read()]
            except ResultError as error:
                assert words in str(error) and f"entry {at + 1} of omma:results:gate" in str(error), error
                seen.append("bad")
        expected = [1, 2]
        expected.insert(at, "bad")
        assert seen == expected, (bad, at, seen)
