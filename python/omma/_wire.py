"""The fixed layouts that omma and a worker exchange over a socket of packets. Little-endian.

The other side is crates/adapters/src/infer/python/wire.rs; every test with a real worker holds the two together.
Pictures and outputs never pass through the socket: they lie in shared memory.
"""

from __future__ import annotations

import struct

PROTOCOL = 1

REQUEST_MAGIC = 0x31514D4F  # "OMQ1"
ANSWER_MAGIC = 0x31414D4F  # "OMA1"

# magic, flags, number, region, forget, count, dtype, three dimensions, reserved, bytes of the region
REQUEST = struct.Struct("<IIQQQIIIIIIQ")
# magic, status, number, outputs, failures, bytes of text, reserved
ANSWER = struct.Struct("<IIQIIIIQQQQ")
# name, dtype, rank, offset, dimensions
OUTPUT = struct.Struct("<64sIIQ8Q")
# index of the frame, bytes of its message
FAILURE = struct.Struct("<II")

FLAG_REGION = 1  # the region's descriptor comes with the request

STATUS_OK = 0
STATUS_FAILED = 1
STATUS_WRONG_COUNT = 2

U8, F32, I32, I64, F16 = range(5)
# Of outputs; a batch has F16, U8 or F32.
DTYPE_NAMES = ("u8", "f32", "i32", "i64")
DTYPE_BYTES = (1, 4, 4, 8, 2)

RANK_MAX = 8
OUTPUTS_MAX = 32
NAME_BYTES_MAX = 64
TEXT_BYTES_MAX = 32 * 1024
FAILURE_BYTES_MAX = 500
FAILURES_BYTES_MAX = 64 * 1024  # the messages of all failures of a batch together
LOAD_BYTES_MAX = 128 * 1024
ALIGNMENT = 64


def cut(text: str, bytes_max: int) -> bytes:
    """UTF-8 of at most that many bytes, not cut inside a character."""
    data = text.encode("utf-8", "replace")
    return data if len(data) <= bytes_max else data[:bytes_max].decode("utf-8", "ignore").encode("utf-8")
