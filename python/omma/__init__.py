"""What Python users of omma import.

A model in Python is a class with ``load`` and ``predict``, or a plain function, named by ``entry`` in omma's
configuration (``runtime = "python"``). omma starts the worker processes itself; nothing need be installed for that.

    import omma

    class Brightness:
        def predict(self, batch):                  # batch: numpy, as the model's input says, e.g. [n, 3, 320, 320]
            return [frame.mean() for frame in batch]   # one result for each frame

``omma.publisher`` writes frames into Redis for omma, ``omma.results`` reads what it says of them, ``omma.ring`` writes
pictures into shared memory that omma reads in place. Standard library only; numpy, torch and redis-py are
used where they are present.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

__all__ = ["Detection", "Failed", "Input"]
__version__ = "0.1.0"


class Failed:
    """In the place of a result: this frame alone failed, and why. The others of its batch are not touched."""

    __slots__ = ("message",)

    def __init__(self, message: str) -> None:
        self.message = str(message)

    def __repr__(self) -> str:
        return f"Failed({self.message!r})"


class Detection(NamedTuple):
    """One thing that was found: corners in pixels of the model's input, a score above 0, a class number.

    A frame's detections are a plain list of these (or of six numbers in this order); an empty list means that nothing
    was found.
    """

    x1: float
    y1: float
    x2: float
    y2: float
    score: float
    class_number: float


class Input(NamedTuple):
    """How a model wants its pictures, as the attribute ``input`` of its class. What is None, the configuration says.

    ``dtype`` is "u8", "f16" (not with ``batch_as = "buffer"``) or "f32", ``layout`` "nchw" or "nhwc".
    """

    width: Optional[int] = None
    height: Optional[int] = None
    dtype: Optional[str] = None
    layout: Optional[str] = None
    channels: Optional[int] = None
