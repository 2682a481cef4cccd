"""The process that omma starts for each instance of a model in Python: ``python -m omma.worker``.

Descriptor 3 is a socket of packets to omma: first one load request (JSON, with the output memory), then batches as
fixed-size requests. A batch's pictures lie in shared memory and are handed to ``predict`` without a copy. When omma
goes, the socket ends and so does this process; the kernel ends it too, even while a call into native code hangs.
"""

from __future__ import annotations

import array
import importlib
import inspect
import json
import mmap
import os
import socket
import sys
import traceback
import types
from typing import Any, Callable, Dict, List, Optional, Tuple

from . import Input
from . import _wire as wire
from ._outputs import DETECTIONS, Layout, Packed, Packer, ResultError, WrongCount, numpy_packer

CONTROL = 3


class LoadError(Exception):
    """Why a model cannot be loaded, for people."""


def receive(control: socket.socket, size: int) -> Tuple[bytes, Optional[int]]:
    """One packet, and the descriptor that came with it."""
    data, ancillary, _, _ = control.recvmsg(size, socket.CMSG_LEN(4), socket.MSG_CMSG_CLOEXEC)
    descriptor = None
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptor = array.array("i", content[:4])[0]
    return data, descriptor


class Regions:
    """The input memories that omma has shown, and arrays over them."""

    def __init__(self, batch_as: str, device: str) -> None:
        self.batch_as = batch_as
        self.pins = batch_as == "torch" and device == "cuda"
        self.pinned: Dict[int, int] = {}
        self.maps: Dict[int, mmap.mmap] = {}
        self.arrays: Dict[Tuple[int, int, int, Tuple[int, ...]], Any] = {}

    def add(self, region: int, descriptor: int, size: int) -> None:
        # Torch has no read-only tensors: writing to one would be a crash instead of an exception.
        access = mmap.ACCESS_WRITE if self.batch_as == "torch" else mmap.ACCESS_READ
        try:
            self.maps[region] = mmap.mmap(descriptor, size, access=access)
        finally:
            os.close(descriptor)
        if self.pins:
            self.pin(region, size)

    def pin(self, region: int, size: int) -> None:
        """Locks the pages, so that the GPU fetches a batch itself, without a copy on the way and while the CPU goes on.

        Where that is refused (a limit on locked memory), batches are copied as from any other memory.
        """
        import torch

        address = torch.frombuffer(self.maps[region], dtype=torch.uint8, count=1).data_ptr()
        if int(torch.cuda.cudart().cudaHostRegister(address, size, 0)) == 0:
            self.pinned[region] = address

    def forget(self, region: int) -> None:
        address = self.pinned.pop(region, None)
        if address is not None:
            import torch

            torch.cuda.cudart().cudaHostUnregister(address)
        # Unmapped when the last array over it is gone; who keeps one keeps the memory.
        self.maps.pop(region, None)
        for key in [key for key in self.arrays if key[0] == region]:
            del self.arrays[key]

    def batch(self, region: int, dtype: int, shape: Tuple[int, ...]) -> Any:
        key = (region, dtype, shape[0], shape)
        known = self.arrays.get(key)
        if known is None:
            known = self.arrays[key] = self.view(self.maps[region], dtype, shape)
        return known

    def view(self, memory: mmap.mmap, dtype: int, shape: Tuple[int, ...]) -> Any:
        cells = 1
        for side in shape:
            cells *= side
        if self.batch_as == "buffer":
            whole = memoryview(memory)[: cells * wire.DTYPE_BYTES[dtype]]
            return whole.cast({wire.U8: "B", wire.F16: "e", wire.F32: "f"}[dtype], shape)
        if self.batch_as == "torch":
            import torch

            kind = {wire.U8: torch.uint8, wire.F16: torch.float16, wire.F32: torch.float32}[dtype]
            return torch.frombuffer(memory, dtype=kind, count=cells).reshape(shape)
        import numpy as np

        kind = {wire.U8: "u1", wire.F16: "<f2", wire.F32: "<f4"}[dtype]
        return np.frombuffer(memory, np.dtype(kind), cells).reshape(shape)


class Model:
    """The user's class or function, loaded."""

    def __init__(self, request: Dict[str, Any], memory: memoryview) -> None:
        batch_as = request["batch_as"]
        self.versions = {"python": sys.version.split()[0], "numpy": None, "torch": None}
        for needed in ("numpy", "torch") if batch_as == "torch" else ("numpy",):
            self.versions[needed] = self.require(needed, batch_as)
        target = self.find(request["entry"])
        parameters = dict(request["parameters"])
        self.object: Any = target
        if isinstance(target, type):
            self.object = self.call(target, {}, "its constructor")
            load = getattr(self.object, "load", None)
            if load is not None:
                if "device" not in parameters and takes(load, "device"):
                    parameters["device"] = request["device"]
                self.call(load, parameters, "load")
            predict = getattr(self.object, "predict", None)
            if not callable(predict):
                raise LoadError(f"{request['entry']} has no method predict(self, batch)")
            self.predict: Callable[[Any], Any] = predict
        elif callable(target):
            self.predict = (lambda batch: target(batch, **parameters)) if parameters else target
        else:
            raise LoadError(f"{request['entry']} is {type(target).__name__}, expected a class or a function")
        self.input = self.read_input()
        self.batch_max = self.number("batch_max", None)
        detections_max = self.number("detections_max", 300) or 300
        declared = self.read_outputs(detections_max)
        packer = numpy_packer if self.versions["numpy"] else Packer
        self.packer: Packer = packer(memory, detections_max, declared)

    @staticmethod
    def require(name: str, batch_as: str) -> Optional[str]:
        try:
            return str(importlib.import_module(name).__version__)
        except ImportError as error:
            if batch_as == "buffer":
                return None
            raise LoadError(
                f"the interpreter {sys.executable} has no {name} ({error}), which batch_as = {json.dumps(batch_as)} "
                f'needs: install it there, name another interpreter (interpreter = "..."), or set batch_as = "buffer"'
            ) from None

    @staticmethod
    def find(entry: str) -> Any:
        module_name, _, name = entry.partition(":")
        try:
            found: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is not None and (module_name + ".").startswith(error.name + "."):
                raise LoadError(
                    f"there is no module {error.name} in {os.getcwd()} nor where {sys.executable} looks for modules"
                ) from None
            raise
        for part in name.split("."):
            try:
                found = getattr(found, part)
            except AttributeError:
                names = [
                    known
                    for known, value in vars(found).items()
                    if not known.startswith("_") and callable(value) and getattr(value, "__module__", None) == module_name
                ]
                has = f"it has {', '.join(names[:10])}" if names else "it has no classes or functions of its own"
                raise LoadError(f"the module {module_name} has no {part}; {has}") from None
        return found

    @staticmethod
    def call(function: Callable[..., Any], parameters: Dict[str, Any], what: str) -> Any:
        try:
            inspect.signature(function).bind(**parameters)
        except TypeError as error:
            given = ", ".join(parameters) or "none"
            raise LoadError(f"{what} does not take the model's parameters ({given}): {error}") from None
        except ValueError:
            pass  # Native code does not tell its signature.
        return function(**parameters)

    def number(self, name: str, absent: Optional[int]) -> Optional[int]:
        value = getattr(self.object, name, absent)
        if value is None or (isinstance(value, int) and 1 <= value <= 65_536):
            return value
        raise LoadError(f"{name} is {value!r}, expected a whole number from 1 to 65536")

    def read_input(self) -> Optional[Dict[str, Any]]:
        declared = getattr(self.object, "input", None)
        if declared is None:
            return None
        if isinstance(declared, dict):
            declared = Input(**declared)
        if not isinstance(declared, Input):
            raise LoadError(f"input is {type(declared).__name__}, expected omma.Input")
        return dict(declared._asdict())

    def read_outputs(self, detections_max: int) -> Optional[List[Layout]]:
        declared = getattr(self.object, "outputs", None)
        if declared is None:
            return None
        if declared == DETECTIONS:
            return [Layout(DETECTIONS, wire.F32, (detections_max, 6))]
        try:
            layouts = [
                Layout(str(name), wire.DTYPE_NAMES.index(dtype), tuple(int(side) for side in shape))
                for name, (dtype, shape) in declared.items()
            ]
        except (AttributeError, TypeError, ValueError):
            raise LoadError(
                f'outputs is {declared!r}, expected "detections" or names with type and shape of one frame: '
                '{"scores": ("f32", (80,))}'
            ) from None
        return layouts


def takes(function: Callable[..., Any], name: str) -> bool:
    try:
        return name in inspect.signature(function).parameters
    except ValueError:
        return False


def last_lines(error: BaseException) -> str:
    """The end of a traceback on one line: what was raised, and where in the user's code."""
    what = "".join(traceback.format_exception_only(type(error), error)).strip()
    frames = traceback.extract_tb(error.__traceback__)
    own = os.path.dirname(__file__)
    outside = [frame for frame in frames if not frame.filename.startswith((own, "<"))]
    places = [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in reversed(outside[-3:])]
    return f"{what} ({'; called from '.join(places)})" if places else what


def answer_ok(number: int, packed: Packed) -> bytes:
    # An answer is one packet: many failures share its room.
    room = min(wire.FAILURE_BYTES_MAX, wire.FAILURES_BYTES_MAX // max(1, len(packed.failures)))
    text = b"".join(
        wire.FAILURE.pack(index, len(message)) + message
        for index, message in ((index, wire.cut(message, room)) for index, message in packed.failures)
    )
    head = wire.ANSWER.pack(
        wire.ANSWER_MAGIC, wire.STATUS_OK, number, len(packed.outputs), len(packed.failures), len(text), 0, 0, 0, 0, 0
    )
    outputs = b"".join(
        wire.OUTPUT.pack(
            layout.name.encode(),
            layout.dtype,
            len(layout.shape) + 1,
            offset,
            count,
            *layout.shape,
            *(0,) * (wire.RANK_MAX - 1 - len(layout.shape)),
        )
        for layout, offset, count in packed.outputs
    )
    return head + outputs + text


def answer_failed(number: int, status: int, message: str) -> bytes:
    text = wire.cut(message, wire.TEXT_BYTES_MAX)
    return wire.ANSWER.pack(wire.ANSWER_MAGIC, status, number, 0, 0, len(text), 0, 0, 0, 0, 0) + text


def run(model: Model, regions: Regions, packet: bytes, descriptor: Optional[int]) -> bytes:
    """Answers one request."""
    magic, flags, number, region, forget, count, dtype, a, b, c, _, size = wire.REQUEST.unpack(packet)
    if magic != wire.REQUEST_MAGIC:
        raise SystemExit("omma.worker: a packet that is no request: another version of omma?")
    if forget:
        regions.forget(forget)
    if flags & wire.FLAG_REGION and descriptor is not None:
        regions.add(region, descriptor, size)
    try:
        batch = regions.batch(region, dtype, (count, a, b, c))
        packed = model.packer.pack(model.predict(batch), count)
    except WrongCount as error:
        return answer_failed(number, wire.STATUS_WRONG_COUNT, str(error))
    except ResultError as error:
        return answer_failed(number, wire.STATUS_FAILED, str(error))
    except Exception as error:
        traceback.print_exc()
        return answer_failed(number, wire.STATUS_FAILED, last_lines(error))
    return answer_ok(number, packed)


def load(control: socket.socket) -> Tuple[Model, Regions]:
    packet, descriptor = receive(control, wire.LOAD_BYTES_MAX)
    if not packet:
        raise SystemExit(0)
    request = json.loads(packet)
    try:
        if request["protocol"] != wire.PROTOCOL or descriptor is None:
            raise LoadError(f"omma speaks version {request['protocol']} of the worker's protocol, here is {wire.PROTOCOL}")
        name_process(request["name"])
        memory = mmap.mmap(descriptor, request["output_bytes"])
        os.close(descriptor)
        model = Model(request, memoryview(memory))
    except LoadError as error:
        refuse(control, str(error))
    except Exception as error:
        traceback.print_exc()
        refuse(control, last_lines(error))
    described = {
        "ok": True,
        "versions": model.versions,
        "input": model.input,
        "batch_max": model.batch_max,
        "executable": sys.executable,
    }
    control.send(json.dumps(described).encode())
    return model, Regions(request["batch_as"], request["device"])


def refuse(control: socket.socket, problem: str) -> None:
    text = wire.cut(problem, wire.TEXT_BYTES_MAX).decode("utf-8")
    control.send(json.dumps({"ok": False, "problem": text}).encode())
    sys.stderr.flush()
    raise SystemExit(1)


def name_process(name: str) -> None:
    """What `top` shows; the kernel keeps 15 bytes."""
    try:
        with open("/proc/self/comm", "w", encoding="utf-8") as comm:
            comm.write(name[:15])
    except OSError:
        pass


def main() -> None:
    import faulthandler

    faulthandler.enable()
    try:
        os.set_inheritable(CONTROL, False)
        control = socket.socket(fileno=CONTROL)
        if control.family != socket.AF_UNIX:
            raise OSError("not a socket of omma")
    except OSError:
        sys.exit("omma.worker is started by omma (runtime = \"python\" in a model's configuration), not by hand")
    # Not yet in a module's namespace of its own when started with -m: pickles of the user's code name modules.
    sys.modules.setdefault("omma.worker", sys.modules[__name__])
    model, regions = load(control)
    while True:
        try:
            packet, descriptor = receive(control, wire.REQUEST.size)
        except ConnectionResetError:
            break
        if len(packet) != wire.REQUEST.size:
            break
        try:
            control.send(run(model, regions, packet, descriptor))
        except (BrokenPipeError, ConnectionResetError):
            break
    close = getattr(model.object, "close", None)
    if close is not None and not isinstance(model.object, types.FunctionType):
        close()


if __name__ == "__main__":
    main()
