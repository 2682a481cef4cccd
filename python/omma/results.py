"""omma's results, read from Redis Streams as they come, or from the lines of a file.

    from omma.results import Results

    for result in Results("redis://127.0.0.1:6379", ["gate", "yard"]):
        for found in result.detections or []:
            print(result.camera, found.label, found.score, found.box)

The fields are those of docs/ref/results.md; ``raw`` has what this version does not know. Needs redis-py for a URL.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple, TypeVar, Union

from ._redis import client

__all__ = ["Classified", "Error", "Found", "Result", "ResultError", "Results", "Tensor", "lines", "parse"]

STREAM = "omma:results:{camera}"

Part = TypeVar("Part")


class ResultError(ValueError):
    """What was read is no result of omma."""


class Found(NamedTuple):
    """One thing that a detector found."""

    class_number: int
    label: Optional[str]
    score: float
    box: Tuple[float, float, float, float]
    """x1, y1, x2, y2 in pixels of the original picture."""


class Classified(NamedTuple):
    class_number: int
    label: Optional[str]
    score: float


class Tensor(NamedTuple):
    name: str
    shape: Tuple[int, ...]
    values: List[Optional[float]]
    """Row by row; None for what is no number."""


class Error(NamedTuple):
    """Why a frame has no output."""

    reason: str
    detail: Optional[str]


@dataclass(frozen=True)
class Result:
    """What became of one frame. At most one of the outputs and ``error`` is there."""

    camera: str
    sequence: int
    captured_at: int
    """In nanoseconds since 1970."""
    entry: Optional[str]
    """The frame's own entry in its stream."""
    size: Optional[Tuple[int, int]]
    """Width and height of the original picture."""
    model: Optional[str]
    model_version: Optional[int]
    detections: Optional[List[Found]]
    classes: Optional[List[Classified]]
    embedding: Optional[List[float]]
    tensors: Optional[List[Tensor]]
    error: Optional[Error]
    timing_ms: Mapping[str, float]
    raw: Mapping[str, Any]


def parse(text: Union[str, bytes]) -> Result:
    """One result, as a sink has written it."""
    if text[:1] not in ("{", b"{"):
        raise ResultError('a result that is no JSON: set format = "json" in the sink that writes it')
    try:
        raw = json.loads(text)
        return _result(raw)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ResultError(f"unreadable: {type(error).__name__} {error}: {text[:200]!r}") from error


def _result(raw: Dict[str, Any]) -> Result:
    if raw["v"] != 1:
        raise ResultError(f"version {raw['v']!r} of results, expected 1")
    size, error = raw.get("size"), raw.get("error")
    return Result(
        camera=raw["camera"],
        sequence=raw["sequence"],
        captured_at=raw["captured_at_ns"],
        entry=raw.get("entry"),
        size=(size["width"], size["height"]) if size else None,
        model=raw.get("model"),
        model_version=raw.get("model_version"),
        detections=_several(raw, "detections", _found),
        classes=_several(raw, "classes", _classified),
        embedding=raw.get("embedding"),
        tensors=_several(raw, "tensors", _tensor),
        error=Error(error["reason"], error.get("detail")) if error else None,
        timing_ms=raw["timing_ms"],
        raw=raw,
    )


def _several(raw: Dict[str, Any], name: str, read: Callable[[Dict[str, Any]], Part]) -> Optional[List[Part]]:
    return [read(part) for part in raw[name]] if name in raw else None


def _found(part: Dict[str, Any]) -> Found:
    x1, y1, x2, y2 = part["box"]
    return Found(part["class"], part.get("label"), part["score"], (x1, y1, x2, y2))


def _classified(part: Dict[str, Any]) -> Classified:
    return Classified(part["class"], part.get("label"), part["score"])


def _tensor(part: Dict[str, Any]) -> Tensor:
    return Tensor(part["name"], tuple(part["shape"]), part["values"])


def lines(file: Iterable[Union[str, bytes]]) -> Iterator[Result]:
    """The results of a file that the JSON lines sink has written."""
    for line in file:
        if line.strip():
            yield parse(line)


class Results:
    """Results of the cameras named, each camera's in order. Not for several threads at once.

    ``server`` is a URL or a client with ``xread`` and ``pipeline`` as redis-py has them, ``stream`` what the sink says.
    Where one stream has the results of many cameras, as with ``{shard}``, all ``shards`` of them are read.
    ``since`` is ``"new"``, ``"oldest"`` or an entry's id, after which reading begins in every stream. Reading takes nothing
    from the streams: any number of readers see everything, as long as the sink's ``entries_max`` keeps it.
    """

    def __init__(
        self,
        server: Union[str, Any],
        cameras: Sequence[str] = (),
        *,
        stream: str = STREAM,
        shards: int = 32,
        since: str = "new",
    ) -> None:
        by_camera = "{camera}" in stream
        if by_camera == ("{shard}" in stream):
            raise ValueError(f"stream is {stream!r}, expected a name with one {{camera}} or one {{shard}} in it")
        if by_camera and not cameras:
            raise ValueError("no cameras are named")
        self._owned = isinstance(server, str)
        self._client = client(server)
        self._wanted = frozenset(cameras)
        names = cameras if by_camera else [str(shard) for shard in range(shards)]
        keys = [stream.replace("{camera}", name).replace("{shard}", name) for name in names]
        self._after: Dict[str, str] = dict.fromkeys(keys, "0-0" if since == "oldest" else since)
        if since == "new":
            self._begin_at_the_end()

    def _begin_at_the_end(self) -> None:
        # Not "$", which would mean something else in every call: what comes between two of them would be lost.
        pipeline = self._client.pipeline(transaction=False)
        for key in self._after:
            pipeline.xrevrange(key, count=1)
        for key, newest in zip(list(self._after), pipeline.execute()):
            self._after[key] = _text(newest[0][0]) if newest else "0-0"

    def read(self, timeout_s: float = 1.0, *, count: int = 100) -> List[Result]:
        """What has come since, at most ``count`` of each stream; empty if nothing comes within the time.

        An entry that is no result raises ``ResultError`` once, after what came before it has been returned; reading goes on
        behind it.
        """
        if timeout_s <= 0:
            raise ValueError(f"timeout_s is {timeout_s}, expected more than 0")
        answer = self._client.xread(self._after, count=count, block=max(1, int(timeout_s * 1000)))
        found: List[Result] = []
        for key, entry, fields in _entries(answer):
            try:
                result = parse(_data(fields))
            except ResultError as error:
                if found:
                    # It is read again, as the first.
                    return found
                self._after[_text(key)] = _text(entry)
                raise ResultError(f"entry {_text(entry)} of {_text(key)}: {error}") from error
            self._after[_text(key)] = _text(entry)
            if not self._wanted or result.camera in self._wanted:
                found.append(result)
        return found

    def __iter__(self) -> Iterator[Result]:
        """Results for ever."""
        while True:
            yield from self.read()

    def close(self) -> None:
        if self._owned:
            self._client.close()

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _entries(answer: Any) -> Iterator[Tuple[Any, Any, Any]]:
    """Stream, entry and fields, in either of the forms in which redis-py tells them."""
    if isinstance(answer, dict):
        answer = [(key, [entry for part in parts for entry in part]) for key, parts in answer.items()]
    for key, entries in answer or []:
        for entry, fields in entries:
            yield key, entry, fields


def _data(fields: Mapping[Any, Any]) -> Union[str, bytes]:
    for name in (b"data", "data"):
        if name in fields:
            data: Union[str, bytes] = fields[name]
            return data
    names = ", ".join(str(_text(name)) for name in list(fields)[:8])
    raise ResultError(f"it has the fields {names}, expected one named data")


def _text(value: Union[str, bytes]) -> str:
    return value.decode() if isinstance(value, bytes) else value
