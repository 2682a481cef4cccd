"""What the publisher writes into Redis: omma's fields, a count for each camera; and what it refuses."""

import sys
import time

import redis

from omma.publisher import Frame, Publisher
from omma.ring import Producer, RingError

URL, FOLDER = sys.argv[1:3]
server = redis.Redis.from_url(URL)


def written(camera):
    return [fields for _, fields in server.xrange(f"omma:frames:{camera}")]


before = time.time_ns()
with Publisher(URL) as publisher:
    entry = publisher.publish("gate", b"\xff\xd8picture")
    assert server.xrange("omma:frames:gate")[0][0] == entry.encode()
    entries = publisher.publish_all(
        [
            Frame("gate", bytearray(b"png"), "png", captured_at=7),
            Frame("yard", memoryview(bytes(144)), "rgb", 8, 6),
            Frame("gate", b"later", sequence=40),
            Frame("gate", b"latest"),
        ]
    )
    assert len(entries) == 4
gate = written("gate")
assert [int(fields[b"seq"]) for fields in gate] == [0, 1, 40, 41]
assert before <= int(gate[0][b"ts"]) <= time.time_ns() and gate[1][b"ts"] == b"7"
assert [fields[b"data"] for fields in gate] == [b"\xff\xd8picture", b"png", b"later", b"latest"]
assert gate[1][b"fmt"] == b"png"
(yard,) = written("yard")
assert (yard[b"fmt"], yard[b"w"], yard[b"h"], len(yard[b"data"])) == (b"rgb", b"8", b"6", 144)

# With a ring only the handle goes through Redis.
with Producer("tests", 1 << 16, folder=FOLDER) as ring, Publisher(server, ring=ring) as publisher:
    publisher.publish("handles", bytes(144), format="rgb", width=8, height=6)
    (handle,) = written("handles")
    assert (handle[b"seg"], handle[b"len"]) == (b"omma-tests", b"144") and b"data" not in handle, handle
    try:
        publisher.publish("handles", bytes(143), format="rgb", width=8, height=6)
    except RingError as error:
        assert "expected 144" in str(error)
    else:
        raise AssertionError("a picture of another size was accepted")

# A stream keeps about as much as it is told; redis trims whole nodes of a hundred entries.
with Publisher(server, stream="short:{camera}", entries_max=100) as publisher:
    publisher.publish_all(Frame("gate", b"x") for _ in range(1000))
    assert server.xlen("short:gate") < 300

publisher = Publisher(server)
for wrong in (
    lambda: publisher.publish("", b"x"),
    lambda: publisher.publish("gate", b"x", format="gif"),
    lambda: Publisher(server, stream="frames"),
    lambda: Publisher(server, entries_max=0),
):
    try:
        wrong()
    except ValueError as error:
        assert str(error)
    else:
        raise AssertionError("a mistake was accepted")

# Without redis-py a URL is refused with what to do, and without its password.
sys.modules["redis"] = None
try:
    Publisher("redis://user:secret@127.0.0.1:1")
except ImportError as error:
    assert "pip install redis" in str(error) and "secret" not in str(error), error
else:
    raise AssertionError("connected without redis-py")
