"""Frames into Redis Streams, where omma reads them (a source of ``type = "redis"``): as bytes, or as handles.

    from omma.publisher import Publisher

    with Publisher("redis://127.0.0.1:6379") as publisher:
        publisher.publish("gate", jpeg)

With a ring (:class:`omma.ring.Producer`) pictures go into shared memory of this machine, once, and only their handles
through Redis. Each camera has a stream and a count of its own. Needs redis-py for a URL; nothing else.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Type, Union

from ._redis import client
from .ring import FORMATS, Handle, Payload, Producer

__all__ = ["Frame", "Publisher"]

STREAM = "omma:frames:{camera}"


class Frame(NamedTuple):
    """One picture of one camera. Raw formats (rgb, bgr, gray, nv12, i420) need ``width`` and ``height``."""

    camera: str
    payload: Payload
    format: str = "jpeg"
    width: int = 0
    height: int = 0
    captured_at: Optional[int] = None
    """In nanoseconds since 1970; None: now."""
    sequence: Optional[int] = None
    """The camera's own count. None: the publisher counts; a gap means pictures that were lost before they came."""


class Publisher:
    """Writes frames of any number of cameras. Not for several threads at once: each may have its own.

    ``server`` is a URL (``redis://``, ``rediss://``, ``unix://``) or a client with ``pipeline`` as redis-py has it.
    ``entries_max`` is about how many frames a camera's stream keeps, read or not; None keeps all, for ever. What redis-py
    raises comes through; whether a frame was written is then unknown, and its number is not used again.
    """

    def __init__(
        self,
        server: Union[str, Any],
        *,
        stream: str = STREAM,
        entries_max: Optional[int] = 1000,
        ring: Optional[Producer] = None,
    ) -> None:
        if stream.count("{camera}") != 1:
            raise ValueError(f"stream is {stream!r}, expected a name with one {{camera}} in it")
        if entries_max is not None and entries_max < 1:
            raise ValueError(f"entries_max is {entries_max}, expected 1 or more, or None")
        self._owned = isinstance(server, str)
        self._client = client(server)
        self._stream = stream
        self._entries_max = entries_max
        self._ring = ring
        self._next: Dict[str, int] = {}

    def publish(
        self,
        camera: str,
        payload: Payload,
        *,
        format: str = "jpeg",
        width: int = 0,
        height: int = 0,
        captured_at: Optional[int] = None,
        sequence: Optional[int] = None,
    ) -> str:
        """Writes one frame; the id of its entry. Each call waits for Redis: for many frames, ``publish_all``."""
        return self.publish_all([Frame(camera, payload, format, width, height, captured_at, sequence)])[0]

    def publish_all(self, frames: Iterable[Frame]) -> List[str]:
        """Writes frames with one round trip; the ids of their entries, in order."""
        pipeline = self._client.pipeline(transaction=False)
        for frame in frames:
            pipeline.xadd(
                self._stream.replace("{camera}", frame.camera),
                self._fields(frame),
                maxlen=self._entries_max,
                approximate=True,
            )
        return [entry.decode() if isinstance(entry, bytes) else str(entry) for entry in pipeline.execute()]

    def _fields(self, frame: Frame) -> Dict[str, Any]:
        if not frame.camera:
            raise ValueError("the camera has no name")
        if frame.format not in FORMATS:
            raise ValueError(f"a payload's format is {frame.format!r}, expected one of {', '.join(FORMATS)}")
        sequence = self._next.get(frame.camera, 0) if frame.sequence is None else frame.sequence
        self._next[frame.camera] = sequence + 1
        captured_at = time.time_ns() if frame.captured_at is None else frame.captured_at
        fields: Dict[str, Any] = {"seq": sequence, "ts": captured_at}
        if self._ring is not None:
            handle: Handle = self._ring.write(
                frame.payload,
                format=frame.format,
                sequence=sequence,
                captured_at=captured_at,
                width=frame.width,
                height=frame.height,
            )
            fields.update(handle.fields())
            return fields
        if frame.width and frame.height:
            fields.update(w=frame.width, h=frame.height)
        fields.update(fmt=frame.format, data=memoryview(frame.payload).tobytes())
        return fields

    def close(self) -> None:
        """Closes the connection, if it is the publisher's own. The ring is its maker's."""
        if self._owned:
            self._client.close()

    def __enter__(self) -> Publisher:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()
