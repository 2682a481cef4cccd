"""Frames as bytes and as handles through a running omma, and its results back: a picture of one colour is that colour."""

import sys
import time

from omma.publisher import Frame, Publisher
from omma.results import Results
from omma.ring import Producer

URL, RING = sys.argv[1:3]
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "grey": (90, 90, 90)}
ROUNDS = 5


def collect(results, count):
    found, end = [], time.monotonic() + 30
    while len(found) < count:
        assert time.monotonic() < end, f"{len(found)} results of {count}"
        found += results.read(0.2)
    return found


cameras = list(COLOURS)
with Producer(RING, 1 << 20) as ring:
    results = Results(URL, cameras, since="oldest")
    for publisher in (Publisher(URL), Publisher(URL, ring=ring)):
        for number in range(ROUNDS):
            publisher.publish_all(
                Frame(name, bytes(colour) * (32 * 32), "rgb", 32, 32, captured_at=number + 1, sequence=None)
                for name, colour in COLOURS.items()
            )
        found = collect(results, ROUNDS * len(COLOURS))
        for camera in cameras:
            own = [result for result in found if result.camera == camera]
            assert [result.sequence for result in own] == list(range(ROUNDS)), own
            assert [result.captured_at for result in own] == list(range(1, ROUNDS + 1)), own
            assert all(result.classes and result.classes[0].label == camera for result in own), own
            assert all(result.size == (32, 32) and result.entry for result in own), own
        # Whoever begins now sees only what comes from now on.
        assert Results(URL, cameras).read(0.01) == []
