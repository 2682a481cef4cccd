"""Frame handles: write pictures into a shared-memory ring that omma reads in place.

One ring has one producer, and one file in ``/dev/shm``. A picture is copied into it once; what goes through Redis, or
wherever else, is its handle: the segment's name, the picture's generation and its length. The producer never waits for
readers. It overwrites its oldest pictures, and readers notice (``handle_overwritten``).

    with Producer("gateway", 256 << 20) as ring:
        handle = ring.write(jpeg, format="jpeg", sequence=7, captured_at=time.time_ns())
        redis.xadd("omma:frames:gate", {"seq": 7, **handle.fields()})

The layout stands in docs/ref/frame-handles.md. Only the standard library is used. Sound on x86-64, where CPython's
locks are full memory barriers; on other machines the barriers are only as strong as their lock instructions.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import stat
import struct
import sys
import threading
import time
import weakref
from types import TracebackType
from typing import Dict, NamedTuple, Optional, Tuple, Type, Union

__all__ = ["FORMATS", "Handle", "Producer", "RingError"]

DEFAULT_FOLDER = "/dev/shm"

#: Formats of payloads: raw ones are rows packed without padding; NV12 and I420 have even sides.
FORMATS: Dict[str, int] = {"jpeg": 1, "png": 2, "rgb": 3, "bgr": 4, "gray": 5, "nv12": 6, "i420": 7}

#: How many bytes a raw picture has, in halves of its pixels.
_HALVES: Dict[str, int] = {"rgb": 6, "bgr": 6, "gray": 2, "nv12": 3, "i420": 3}

_FILE_HEADER = struct.Struct("<8sIIQQI28x")
_SLOT_HEADER = struct.Struct("<QQQQIII20x")
_U64 = struct.Struct("<Q")
_MAGIC = b"OMMARING"
_VERSION = 1
_DATA_AT = 4096
_RESERVED_AT = 64
_WRITTEN_AT = 128
_WRITTEN_TIME_AT = 136
_BYTES_MAX = 1 << 40
_NAME_MAX = 128
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
#: How long somebody else must hold a file's lock to count as its producer: a sweep holds it for microseconds.
_LOCK_PATIENCE_S = 0.25
_TRIES_MAX = 100

Payload = Union[bytes, bytearray, memoryview]


class RingError(Exception):
    """There is no ring, or a payload cannot be written."""


class Handle(NamedTuple):
    """Where a picture lies."""

    segment: str
    generation: int
    length: int

    def fields(self) -> Dict[str, Union[str, int]]:
        """The fields of a frame's message."""
        return {"seg": self.segment, "gen": self.generation, "len": self.length}


class Producer:
    """The one that writes a ring of at least ``size`` bytes, all of which are taken at once.

    Not for several threads at once. In a forked child it is closed: the ring stays the parent's.
    """

    def __init__(self, name: str, size: int, *, folder: str = DEFAULT_FOLDER, mode: int = 0o600) -> None:
        if sys.byteorder != "little":
            raise RingError("a ring's numbers are little endian, as this machine's are not")
        if not 1 <= len(name) <= _NAME_MAX or not _LETTERS.issuperset(name):
            raise RingError(f"a producer's name is {name!r}, expected 1 to {_NAME_MAX} letters, digits, '.', '_', '-'")
        if not 1 <= size <= _BYTES_MAX:
            raise RingError(f"a ring of {size} bytes is asked for, expected 1 to {_BYTES_MAX}")
        self.segment = "omma-" + name
        self.path = os.path.join(folder, self.segment)
        self.capacity = -(-size // 4096) * 4096
        self._closed = True
        self._barrier = threading.Lock()
        reserved = 0
        for _ in range(_TRIES_MAX):
            reserved = max(reserved, _take_over(self.path))
            if self._create(folder, mode, reserved):
                break
        else:
            raise RingError(f"{self.path}: others create and remove it faster than we can")
        self._closed = False
        _producers.add(self)

    def _create(self, folder: str, mode: int, reserved: int) -> bool:
        """Makes the ring without a name, then names it: False if the name is taken."""
        file_bytes = _DATA_AT + self.capacity
        fd = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, mode)
        try:
            try:
                # Pages that do not exist yet would be asked for while writing, where the answer "no room" is a signal.
                os.posix_fallocate(fd, 0, file_bytes)
            except OSError as error:
                raise RingError(f"{folder}: no room for a ring of {file_bytes} bytes: {error.strerror}") from error
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            memory = mmap.mmap(fd, file_bytes)
            now = time.time_ns()
            start = _first_position(reserved, now)
            header = _FILE_HEADER.pack(_MAGIC, _VERSION, _DATA_AT, self.capacity, now, os.getpid())
            memory[: len(header)] = header
            memory[_RESERVED_AT : _RESERVED_AT + 8] = _U64.pack(start)
            memory[_WRITTEN_AT : _WRITTEN_AT + 8] = _U64.pack(start)
            try:
                # `src_dir_fd` makes this linkat, which follows the link in /proc to the file itself.
                os.link(f"/proc/self/fd/{fd}", self.path, src_dir_fd=fd, follow_symlinks=True)
            except FileExistsError:
                memory.close()
                os.close(fd)
                return False
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        self._memory = memory
        # Each a single store of eight bytes, which no reader can see half done.
        self._reserved = memoryview(memory)[_RESERVED_AT : _RESERVED_AT + 8].cast("Q")
        self._written = memoryview(memory)[_WRITTEN_AT : _WRITTEN_AT + 8].cast("Q")
        self._written_time = memoryview(memory)[_WRITTEN_TIME_AT : _WRITTEN_TIME_AT + 8].cast("Q")
        self._position = start
        return True

    def write(
        self,
        payload: Payload,
        *,
        format: str,
        sequence: int = 0,
        captured_at: int = 0,
        width: int = 0,
        height: int = 0,
    ) -> Handle:
        """Copies a payload into the ring, over the oldest ones if need be.

        ``captured_at`` is in nanoseconds since 1970, 0 if unknown. Raw formats need ``width`` and ``height``. Anything
        with a contiguous buffer is a payload, a numpy array too.
        """
        if self._closed:
            raise RingError(f"{self.path}: the producer is closed")
        with memoryview(payload) as view:
            length = view.nbytes
            _check(format, length, width, height)
            # Positions count blocks of 64 bytes.
            blocks, ring_blocks = -(-(64 + length) // 64), self.capacity // 64
            if blocks > ring_blocks:
                raise RingError(f"the payload has {length} bytes, expected at most {self.capacity - 64}")
            generation = self._position
            offset = generation % ring_blocks
            if blocks > ring_blocks - offset:
                generation += ring_blocks - offset
                offset = 0
            # The order of what follows is the contract with the readers: what may be overwritten, the bytes, the header,
            # what is written. Taking a lock keeps the steps apart in memory too.
            self._position = generation + blocks
            self._reserved[0] = self._position
            with self._barrier:
                pass
            at = _DATA_AT + offset * 64
            self._memory[at + 64 : at + 64 + length] = view
        _SLOT_HEADER.pack_into(
            self._memory, at, generation, sequence, captured_at, length, FORMATS[format], width, height
        )
        with self._barrier:
            pass
        self._written_time[0] = time.time_ns()
        self._written[0] = generation + blocks
        return Handle(self.segment, generation, length)

    def close(self, *, keep: bool = False) -> None:
        """Ends. The segment is removed unless ``keep`` leaves it for readers that are behind."""
        if self._closed:
            return
        if not keep:
            try:
                if _identity(os.lstat(self.path)) == _identity(os.fstat(self._fd)):
                    os.unlink(self.path)
            except FileNotFoundError:
                pass
        self._let_go()

    def _let_go(self) -> None:
        """Gives up memory and lock, and leaves the file."""
        if self._closed:
            return
        self._closed = True
        for view in (self._reserved, self._written, self._written_time):
            view.release()
        self._memory.close()
        os.close(self._fd)

    def __enter__(self) -> Producer:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()


def _check(format: str, length: int, width: int, height: int) -> None:
    if format not in FORMATS:
        raise RingError(f"a payload's format is {format!r}, expected one of {', '.join(FORMATS)}")
    if length == 0:
        raise RingError("the payload has no bytes")
    if format in _HALVES and width * height * _HALVES[format] != length * 2:
        expected = width * height * _HALVES[format] // 2
        raise RingError(f"the payload has {length} bytes, expected {expected}: {format} of {width}x{height}")


def _identity(found: os.stat_result) -> Tuple[int, int]:
    return (found.st_dev, found.st_ino)


def _first_position(reserved: int, now: int) -> int:
    """Behind all positions that a predecessor has used, or can have used if its file is gone."""
    seconds, nanoseconds = divmod(now, 1_000_000_000)
    by_time = (seconds << 31) + (nanoseconds << 1)
    return max(by_time, reserved) if reserved < 1 << 63 else by_time


def _take_over(path: str) -> int:
    """Removes what a dead producer has left, and says up to where it had reserved: 0 if nothing is there."""
    deadline = time.monotonic() + _LOCK_PATIENCE_S
    for _ in range(_TRIES_MAX):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise RingError(f"{path}: cannot open what is there: {error.strerror}") from error
        try:
            found = os.fstat(fd)
            foreign = RingError(f"{path}: it is there and is no ring of ours; remove it or choose another name")
            if not stat.S_ISREG(found.st_mode):
                raise foreign
            header = os.pread(fd, _FILE_HEADER.size, 0)
            ring = len(header) == _FILE_HEADER.size and header.startswith(_MAGIC)
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        pid = _FILE_HEADER.unpack(header)[5] if ring else 0
                        raise RingError(f"{path}: a producer of this name is alive (process {pid})") from None
                    time.sleep(0.001)
            try:
                # Only whoever holds the lock of the file that the name means may remove it.
                if _identity(os.lstat(path)) != _identity(found):
                    continue
            except FileNotFoundError:
                continue
            if not ring and found.st_size > 0:
                raise foreign
            reserved = os.pread(fd, 8, _RESERVED_AT)
            os.unlink(path)
            return int(_U64.unpack(reserved)[0]) if len(reserved) == 8 else 0
        finally:
            os.close(fd)
    raise RingError(f"{path}: others create and remove it faster than we can")


_producers: weakref.WeakSet[Producer] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    # The lock belongs to the open file, which the child has inherited: it would keep a dead parent's name taken.
    for producer in list(_producers):
        producer._let_go()


os.register_at_fork(after_in_child=_after_fork_in_child)
