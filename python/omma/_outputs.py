"""From what ``predict`` returned to tensors in the output memory that omma reads in place.

The first batch (one black picture, when the worker starts) fixes the outputs: their names, types and the shape of one
frame. A frame that differs later fails alone, by name, so that no frame's result depends on its company.
"""

from __future__ import annotations

import array
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from . import Failed
from . import _wire as wire

DETECTIONS = "detections"
SINGLE = "output"


class ResultError(Exception):
    """What predict returned cannot be read as results of this batch."""


class WrongCount(ResultError):
    """Another number of results than frames."""


class Unfit(Exception):
    """One frame's result is unlike what the model gives."""


class Layout(NamedTuple):
    """One output: the part of one frame."""

    name: str
    dtype: int
    shape: Tuple[int, ...]


class Packed(NamedTuple):
    outputs: List[Tuple[Layout, int, int]]
    """Layout, offset and number of frames."""
    failures: List[Tuple[int, str]]


def describe(shape: Sequence[int]) -> str:
    return "[" + ", ".join(str(side) for side in shape) + "]"


class Packer:
    """Without numpy: numbers, tuples of numbers (nested to any depth), ``array.array``, ``bytes`` and memoryviews."""

    def __init__(self, memory: memoryview, detections_max: int, declared: Optional[List[Layout]] = None) -> None:
        self.memory = memory
        self.detections_max = detections_max
        self.layout: Optional[List[Layout]] = declared
        self.named = declared is not None and len(declared) > 1
        self.lists = declared is not None and len(declared) == 1 and declared[0].name == DETECTIONS

    # What the numpy packer does otherwise.

    def is_array(self, value: Any) -> bool:
        return isinstance(value, (int, float, tuple, array.array, bytes, bytearray, memoryview))

    def measure(self, value: Any) -> Tuple[int, Tuple[int, ...]]:
        """Type and shape of one frame's array."""
        if isinstance(value, bool) or isinstance(value, (int, float)):
            return wire.F32, ()
        if isinstance(value, tuple):
            if not value:
                return wire.F32, (0,)
            return wire.F32, (len(value), *self.measure(value[0])[1])
        view = memoryview(value)
        codes = {"B": wire.U8, "f": wire.F32, "d": wire.F32, "i": wire.I32, "q": wire.I64, "l": wire.I64}
        if view.format not in codes:
            raise Unfit(f"holds values of format {view.format!r}, expected B, f, d, i or q")
        return codes[view.format], tuple(view.shape or ())

    def write(self, layout: Layout, offset: int, values: List[Tuple[int, Any]], count: int) -> List[Tuple[int, str]]:
        """Writes each frame's part; gives back those that do not fit."""
        step = wire.DTYPE_BYTES[layout.dtype]
        for side in layout.shape:
            step *= side
        failures = []
        for index, value in values:
            try:
                _, shape = self.measure(value)
                if shape != layout.shape:
                    raise Unfit(f"has shape {describe(shape)}, this model's frames have {describe(layout.shape)}")
                cells = array.array("Bfiq"[layout.dtype], self.flatten(value))
                at = offset + index * step
                self.memory[at : at + step] = memoryview(cells).cast("B")
            except (Unfit, TypeError, ValueError, OverflowError) as error:
                failures.append((index, f"output {layout.name}: {error}"))
        return failures

    def flatten(self, value: Any) -> List[Any]:
        if isinstance(value, tuple):
            cells: List[Any] = []
            for part in value:
                cells.extend(self.flatten(part))
            return cells
        if isinstance(value, (int, float)):
            return [value]
        view = memoryview(value)
        flat: "array.array[Any]" = array.array(view.format)
        flat.frombytes(view.tobytes())
        return list(flat)

    def write_rows(self, offset: int, values: List[Tuple[int, Any]], count: int) -> List[Tuple[int, str]]:
        step = self.detections_max * 24
        failures = []
        for index, rows in values:
            try:
                cells = array.array("f")
                self.check_rows(rows)
                for row in rows:
                    if len(row) != 6:
                        raise Unfit(f"a detection has {len(row)} numbers, expected x1, y1, x2, y2, score, class")
                    cells.extend(float(cell) for cell in row)
                data = cells.tobytes()
                at = offset + index * step
                self.memory[at : at + step] = data + bytes(step - len(data))
            except (Unfit, TypeError, ValueError) as error:
                failures.append((index, str(error)))
        return failures

    def whole(self, results: Any, count: int) -> Optional[Packed]:
        """Results that are one array for the whole batch, if this packer knows any."""
        return None

    # What both do.

    def check_rows(self, rows: Any) -> None:
        if len(rows) > self.detections_max:
            raise Unfit(f"{len(rows)} detections, expected at most detections_max, which is {self.detections_max}")

    def pack(self, results: Any, count: int) -> Packed:
        packed = self.whole(results, count)
        if packed is not None:
            return packed
        if not isinstance(results, (list, tuple)):
            raise ResultError(
                f"predict returned {type(results).__name__}, expected a list with one result for each frame"
            )
        if len(results) != count:
            raise WrongCount(f"predict returned {len(results)} results for {count} frames")
        failures: List[Tuple[int, str]] = []
        frames: List[Tuple[int, Any]] = []
        for index, result in enumerate(results):
            if isinstance(result, Failed):
                failures.append((index, result.message))
            else:
                frames.append((index, result))
        if not frames:
            return Packed([], failures)
        if self.layout is None:
            self.learn(frames[0][1])
        layout = self.layout or []
        if self.lists:
            good = []
            for index, result in frames:
                if isinstance(result, list):
                    good.append((index, result))
                else:
                    failures.append((index, f"the result is {self.kind(result)}, expected a list of detections"))
            offset = self.place(layout, count)[0]
            failures += self.write_rows(offset, good, count)
            return Packed([(layout[0], offset, count)], failures)
        columns: List[List[Tuple[int, Any]]] = [[] for _ in layout]
        names = [output.name for output in layout]
        for index, result in frames:
            if self.named:
                if not isinstance(result, dict) or list(result) != names and set(result) != set(names):
                    found = ", ".join(map(str, result)) if isinstance(result, dict) else self.kind(result)
                    failures.append((index, f"the result is {found}, this model gives a dict of {', '.join(names)}"))
                    continue
                for column, name in zip(columns, names):
                    column.append((index, result[name]))
            elif isinstance(result, (dict, list)) or not self.is_array(result):
                failures.append((index, f"the result is {self.kind(result)}, this model gives one array for a frame"))
            else:
                columns[0].append((index, result))
        offsets = self.place(layout, count)
        for output, offset, column in zip(layout, offsets, columns):
            failures += self.write(output, offset, column, count)
        return Packed([(output, offset, count) for output, offset in zip(layout, offsets)], failures)

    @staticmethod
    def kind(result: Any) -> str:
        return "a list" if isinstance(result, list) else type(result).__name__

    def learn(self, result: Any) -> None:
        """Fixes the outputs by the first result that there is."""
        try:
            if isinstance(result, list):
                self.lists = True
                self.layout = [Layout(DETECTIONS, wire.F32, (self.detections_max, 6))]
            elif isinstance(result, dict):
                self.named = True
                self.layout = [self.learned(str(name), value) for name, value in result.items()]
            else:
                self.layout = [self.learned(SINGLE, result)]
        except Unfit as error:
            raise ResultError(f"the result of a frame {error}") from None
        if not 0 < len(self.layout) <= wire.OUTPUTS_MAX:
            raise ResultError(f"a frame's result has {len(self.layout)} outputs, expected 1 to {wire.OUTPUTS_MAX}")

    def learned(self, name: str, value: Any) -> Layout:
        if not 0 < len(name.encode()) <= wire.NAME_BYTES_MAX:
            raise Unfit(f"has an output named {name[:80]!r}, expected 1 to {wire.NAME_BYTES_MAX} bytes")
        if not self.is_array(value):
            raise Unfit(f"is {self.kind(value)}, expected an array, a dict of arrays, a list of detections or Failed")
        dtype, shape = self.measure(value)
        if len(shape) >= wire.RANK_MAX:
            raise Unfit(f"has {len(shape)} dimensions, expected at most {wire.RANK_MAX - 1}")
        return Layout(name, dtype, shape)

    def place(self, layout: List[Layout], count: int) -> List[int]:
        """Where each output begins; refuses what the memory has no room for."""
        offsets, end = [], 0
        for output in layout:
            offsets.append(end)
            size = wire.DTYPE_BYTES[output.dtype] * count
            for side in output.shape:
                size *= side
            end += -(-size // wire.ALIGNMENT) * wire.ALIGNMENT
        if end > len(self.memory):
            raise ResultError(
                f"the outputs of {count} frames have {end} bytes, the output memory has {len(self.memory)}: "
                "raise output_bytes_max"
            )
        return offsets


def numpy_packer(memory: memoryview, detections_max: int, declared: Optional[List[Layout]] = None) -> Packer:
    """The packer for results of numpy and torch. Only where numpy is present."""
    import numpy as np

    types = (np.dtype("u1"), np.dtype("<f4"), np.dtype("<i4"), np.dtype("<i8"))
    codes: Dict[Any, int] = {
        np.dtype(name): code
        for code, names in (
            (wire.U8, ("u1", "?")),
            (wire.F32, ("f2", "f4", "f8")),
            (wire.I32, ("i1", "i2", "u2", "i4")),
            (wire.I64, ("u4", "i8")),
        )
        for name in names
    }

    class NumpyPacker(Packer):
        def __init__(self) -> None:
            super().__init__(memory, detections_max, declared)
            self.views: Dict[Tuple[str, int, int], Any] = {}

        def is_array(self, value: Any) -> bool:
            return isinstance(value, (np.ndarray, np.generic, int, float, tuple)) or is_tensor(value)

        def measure(self, value: Any) -> Tuple[int, Tuple[int, ...]]:
            if is_tensor(value):
                kind = str(value.dtype).rpartition(".")[2]
                kinds = {"uint8": 0, "bool": 0, "int8": 2, "int16": 2, "int32": 2, "int64": 3}
                if kind not in kinds and "float" not in kind:
                    raise Unfit(f"holds {value.dtype}, expected whole or floating numbers")
                return kinds.get(kind, wire.F32), tuple(value.shape)
            if isinstance(value, (int, float, tuple)):
                found = np.asarray(value)
                return wire.F32 if found.dtype.kind in "fiu" else self.code(found), found.shape
            return self.code(value), tuple(value.shape)

        @staticmethod
        def code(value: Any) -> int:
            code = codes.get(value.dtype.newbyteorder("="))
            if code is None:
                raise Unfit(f"holds {value.dtype}, expected whole or floating numbers of at most 64 bits")
            return code

        def view(self, layout: Layout, offset: int, count: int) -> Any:
            """The output as an array over the memory; made once for each place and size."""
            key = (layout.name, offset, count)
            view = self.views.get(key)
            if view is None:
                if len(self.views) > 256:
                    self.views.clear()
                shape = (count, *layout.shape)
                view = np.ndarray(shape, types[layout.dtype], self.memory, offset)
                self.views[key] = view
            return view

        def write(self, layout: Layout, offset: int, values: List[Tuple[int, Any]], count: int) -> List[Tuple[int, str]]:
            view = self.view(layout, offset, count)
            # Into whole numbers numpy would cut floats without a word.
            if len(values) == count and not layout.shape and layout.dtype == wire.F32:
                plain = [value for _, value in values]
                if all(type(value) is float for value in plain):
                    view[:] = plain
                    return []
            failures = []
            for index, value in values:
                try:
                    self.set(view, index, value, layout)
                except (Unfit, TypeError, ValueError, OverflowError) as error:
                    failures.append((index, f"output {layout.name}: {error}"))
            return failures

        def set(self, view: Any, index: int, value: Any, layout: Layout) -> None:
            if is_tensor(value):
                value = plain_tensor(value).numpy()
            elif not isinstance(value, (np.ndarray, np.generic)):
                value = np.asarray(value)
            if value.shape != layout.shape:
                raise Unfit(f"has shape {describe(value.shape)}, this model's frames have {describe(layout.shape)}")
            if value.dtype.kind not in "fiub" or (value.dtype.kind == "f" and layout.dtype != wire.F32):
                raise Unfit(f"holds {value.dtype}, this model gives {wire.DTYPE_NAMES[layout.dtype]}")
            view[index] = value

        def write_rows(self, offset: int, values: List[Tuple[int, Any]], count: int) -> List[Tuple[int, str]]:
            view = self.view((self.layout or [])[0], offset, count)
            failures = []
            for index, rows in values:
                try:
                    self.check_rows(rows)
                    if rows:
                        found = np.asarray(rows, dtype="<f4")
                        if found.ndim != 2 or found.shape[1] != 6:
                            raise Unfit("a detection is not six numbers: x1, y1, x2, y2, score, class")
                        view[index, : len(rows)] = found
                    view[index, len(rows) :] = 0
                except (Unfit, TypeError, ValueError) as error:
                    failures.append((index, str(error)))
            return failures

        def whole(self, results: Any, count: int) -> Optional[Packed]:
            single = isinstance(results, np.ndarray) or is_tensor(results)
            if not single and not isinstance(results, dict):
                return None
            arrays = {SINGLE: results} if single else results
            for name, value in arrays.items():
                if not isinstance(value, np.ndarray) and not is_tensor(value):
                    raise ResultError(f"predict returned a dict whose {name!r} is {self.kind(value)}, expected an array")
                if value.ndim == 0 or value.shape[0] != count:
                    raise WrongCount(f"output {name} has shape {describe(value.shape)} for {count} frames")
            if self.layout is None:
                self.learn({name: value[0] for name, value in arrays.items()} if not single else results[0])
            layout = self.layout or []
            if {output.name for output in layout} != set(arrays):
                names = ", ".join(output.name for output in layout)
                raise ResultError(f"predict returned {', '.join(map(str, arrays))}, this model gives {names}")
            offsets = self.place(layout, count)
            for output, offset in zip(layout, offsets):
                value = arrays[output.name]
                if tuple(value.shape[1:]) != output.shape:
                    raise ResultError(
                        f"output {output.name} has shape {describe(value.shape)}, "
                        f"expected {describe((count, *output.shape))}"
                    )
                if self.measure(value)[0] == wire.F32 != output.dtype:
                    raise ResultError(f"output {output.name} holds {value.dtype}, this model gives whole numbers")
                view = self.view(output, offset, count)
                if is_tensor(value):
                    import torch

                    # From wherever it is straight into the shared memory, type conversion included.
                    torch.from_numpy(view).copy_(value.detach())
                else:
                    view[...] = value
            return Packed([(output, offset, count) for output, offset in zip(layout, offsets)], [])

    return NumpyPacker()


def is_tensor(value: Any) -> bool:
    """A torch tensor, told without importing torch."""
    return type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach")


def plain_tensor(value: Any) -> Any:
    value = value.detach().cpu()
    return value.float() if "float" in str(value.dtype) else value
