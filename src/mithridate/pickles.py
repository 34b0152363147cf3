"""A reader of other people's pickles that runs nothing: a small machine for the few opcodes that plain data need.

Python's own unpickler imports and calls whatever a file names, and filtering the names still leaves library code
(numpy's ``__setstate__``, ``torch.load``) to run on hostile bytes. Here a name is only a key of a table of functions
below, which build numpy arrays from bytes after checking every number; no other opcode calls, imports or sets anything.
Extension codes, instances, sets and persistent ids do not exist (but for the one id inside a tensor's storage).

Images, arrays and CPU tensors come out as :class:`Pixels`, numpy scalars as numbers, the rest as plain Python data.
Nothing recurses, and steps and bytes are counted, so that a small file cannot ask for much time or memory.
"""

from __future__ import annotations

import io
import math
import pickletools
import struct
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mithridate.errors import FormatError

Array = npt.NDArray[Any]

LARGEST_FILE = 1 << 30
"""Bytes of the largest file that is read. 1 281 ImageNet poisons (0.1 %) take 0.2 GB."""
MOST_STEPS = 2_000_000
"""Opcodes after which a pickle is refused: each may take 100 bytes. 500 CIFAR-10 poisons need 10 000."""

_IMAGE_MODES = {"L": 1, "RGB": 3}
_NUMBERS = {"b1", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"}
_STORAGES = {
    "torch.FloatStorage": "<f4",
    "torch.DoubleStorage": "<f8",
    "torch.HalfStorage": "<f2",
    "torch.ByteStorage": "u1",
    "torch.IntStorage": "<i4",
    "torch.LongStorage": "<i8",
}
_STORAGE_MAGIC, _STORAGE_VERSION = 0x1950A86A20F9469CFC6C, 1001  # torch.serialization, legacy format


def read_pickle(path: Path) -> Any:
    """The data in the pickle at ``path``.

    Raises :class:`FormatError` naming the file where it is missing, too large or damaged, or asks for anything but
    plain data.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise FormatError(f"'{path}' is larger than {LARGEST_FILE >> 20} MiB, which no such file needs to be")
        content = path.read_bytes()
    except OSError as error:
        raise FormatError(f"cannot read '{path}': {error.strerror or error}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pickletools remarks on escapes in strings, whose opcodes are refused
            return _Machine(_FUNCTIONS, _Allowance(MOST_STEPS, 4 * len(content))).run(io.BytesIO(content))
    except FormatError as error:
        raise FormatError(f"'{path}' {error}; nothing in it was run") from None
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, struct.error) as error:
        raise FormatError(f"'{path}' is cut short, damaged or no pickle ({type(error).__name__})") from error


class Pixels:
    """An image, array or tensor; a pickle makes it empty first and fills it later."""

    def __init__(self, values: Array | None = None, *, image: bool = False) -> None:
        self.image = image
        """Whether it was a PIL image: ``(H, W)`` or ``(H, W, channels)`` uint8."""
        self.values: Array = np.zeros(0, np.uint8) if values is None else values
        """Its values, in the shape and type it had."""


class _Numbers:
    """A numpy dtype: made with its code, given its byte order later."""

    def __init__(self, code: str) -> None:
        self.dtype = np.dtype(code)

    def order(self, sign: str) -> None:
        if sign not in ("<", ">", "|"):
            raise ValueError("no byte order")
        self.dtype = np.dtype(sign + self.dtype.str[1:])


class _Name:
    """A name that the file asked for and may have."""

    def __init__(self, text: str) -> None:
        self.text = text


class _Allowance:
    """How many opcodes may still be read and how many bytes made, by a pickle and those inside it."""

    def __init__(self, steps: int, room: int) -> None:
        self.steps, self.room = steps, room

    def spend(self, *, steps: int = 0, room: int = 0) -> None:
        self.steps, self.room = self.steps - steps, self.room - room
        if self.steps < 0 or self.room < 0:
            raise FormatError("unfolds into far more than any such file needs")


Function = Callable[["_Machine", tuple[Any, ...]], Any]


class _Machine:
    """Stack, marks and memo of one pickle stream, and the functions it may name (None: only passed on)."""

    def __init__(self, functions: Mapping[str, Function | None], allowance: _Allowance) -> None:
        self.functions, self.allowance = functions, allowance
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, stream: io.BytesIO) -> Any:
        """The data of one pickle; ``stream`` is left behind its STOP."""
        for opcode, argument, _ in pickletools.genops(stream):
            self.allowance.spend(steps=1)
            if opcode.name == "STOP":
                break
            if opcode.name not in _STEPS:
                raise FormatError(f"uses the opcode {opcode.name}, which plain data of pickle protocols 2 to 5 do not")
            _STEPS[opcode.name](self, argument)
        return self.stack.pop()

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop_items(self) -> list[Any]:
        """What was pushed since the last mark, taken off."""
        place = self.marks.pop()
        items = self.stack[place:]
        del self.stack[place:]
        return items

    def pop_tuple(self, count: int) -> None:
        items = [self.stack.pop() for _ in range(count)]
        self.push(tuple(reversed(items)))

    def name(self, text: str) -> None:
        if text not in self.functions:
            raise FormatError(f"asks for {text[:80]!a}, but a pickle that names code can run any program")
        self.push(_Name(text))

    def stack_name(self) -> None:
        name, module = _of(str, self.stack.pop()), _of(str, self.stack.pop())
        self.name(f"{module}.{name}")

    def call(self) -> None:
        arguments, name = _of(tuple, self.stack.pop()), _of(_Name, self.stack.pop())
        function = self.functions[name.text]
        if function is None:
            raise FormatError(f"calls {name.text}, which these files never do")
        self.push(function(self, arguments))

    def new(self) -> None:
        arguments, name = self.stack.pop(), _of(_Name, self.stack.pop())
        if name.text != "PIL.Image.Image" or arguments != ():
            raise FormatError(f"makes a {name.text}, which these files never do")
        self.push(Pixels(image=True))

    def build(self) -> None:
        state, made = self.stack.pop(), self.stack[-1]
        if isinstance(made, _Numbers):
            made.order(_of(str, _of(tuple, state)[1]))
        elif _of(Pixels, made).image:
            made.values = _image(_of(list, state))
        else:
            _, shape, numbers, fortran, data = _of(tuple, state)
            made.values = _array(data, numbers, shape, "F" if fortran else "C")

    def append(self, items: Sequence[Any]) -> None:
        _of(list, self.stack[-1]).extend(items)

    def update(self, items: Sequence[Any]) -> None:
        for key, value in zip(items[::2], items[1::2], strict=True):
            _of(dict, self.stack[-1])[_of(str, key)] = value  # other keys could take forever to hash

    def storage_type(self) -> None:
        """Inside a tensor's storage, the one persistent id: ``("storage", type, key, device, count, view)``."""
        if self.functions is not _STORAGE_NAMES:
            raise FormatError("uses a persistent id")
        self.push(_of(_Name, _of(tuple, self.stack.pop())[1]).text)


def _of(kind: type[Any], value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError(kind)
    return value


def _numbers(machine: _Machine, arguments: tuple[Any, ...]) -> _Numbers:
    """``numpy.dtype(code, align, copy)``."""
    code = _of(str, arguments[0])
    if code not in _NUMBERS:
        raise FormatError(f"holds an array of {code[:80]!a}, but only numbers are read")
    return _Numbers(code)


def _empty(machine: _Machine, arguments: tuple[Any, ...]) -> Pixels:
    """``numpy._core.multiarray._reconstruct(ndarray, (0,), b"b")``: filled by BUILD."""
    if _of(_Name, arguments[0]).text != "numpy.ndarray":
        raise FormatError(f"makes a {arguments[0].text} as an array")
    return Pixels()


def _scalar(machine: _Machine, arguments: tuple[Any, ...]) -> int | float | bool:
    """``numpy._core.multiarray.scalar(dtype, bytes)``."""
    numbers, data = arguments
    number: int | float | bool = _array(data, numbers, (1,), "C").item()
    return number


def _buffer(machine: _Machine, arguments: tuple[Any, ...]) -> Pixels:
    """``numpy._core.numeric._frombuffer(buffer, dtype, shape, order, axes=None)``, as protocol 5 writes arrays."""
    data, numbers, shape, order, *axes = arguments
    values = _array(data, numbers, shape, order)
    return Pixels(values.transpose(_sizes(axes[0])) if order == "K" else values)


def _array(data: bytes | bytearray, numbers: _Numbers, shape: tuple[int, ...], order: str) -> Array:
    """A view of ``data``, which must have as many bytes as the shape needs; nothing is copied."""
    values = np.frombuffer(data, _of(_Numbers, numbers).dtype)
    return values.reshape(_sizes(shape), order="F" if order == "F" else "C")


def _image(state: list[Any]) -> Array:
    """The state of a PIL image: ``[info, mode, (width, height), palette, bytes]``."""
    _, mode, (width, height), _, data = state[:5]
    if _of(str, mode) not in _IMAGE_MODES:
        raise FormatError(f"holds an image of mode {mode[:80]!a}, but only {', '.join(_IMAGE_MODES)} are read")
    channels = _IMAGE_MODES[mode]
    return _array(data, _Numbers("u1"), (height, width, channels) if channels > 1 else (height, width), "C")


def _encoded(machine: _Machine, arguments: tuple[Any, ...]) -> bytes:
    """``_codecs.encode(text, "latin1")``: how protocol 2 writes bytes."""
    text, encoding = arguments
    if encoding != "latin1":
        raise ValueError(encoding)
    machine.allowance.spend(room=len(_of(str, text)))
    return bytes(text, "latin1")


def _mapping(machine: _Machine, arguments: tuple[Any, ...]) -> dict[str, Any]:
    """``collections.OrderedDict()``: the hooks of a tensor, always empty."""
    if arguments:
        raise ValueError("an OrderedDict with arguments")
    return {}


def _storage(machine: _Machine, arguments: tuple[Any, ...]) -> Array:
    """``torch.storage._load_from_bytes(bytes)``: five small pickles, a count and the numbers, none of it by torch."""
    (data,) = arguments
    stream = io.BytesIO(_of(bytes, data))
    magic, version, _, kind, _ = (_Machine(_STORAGE_NAMES, machine.allowance).run(stream) for _ in range(5))
    if (magic, version) != (_STORAGE_MAGIC, _STORAGE_VERSION):
        raise ValueError("no storage of a tensor")
    (count,) = struct.unpack("<q", stream.read(8))
    dtype = np.dtype(_STORAGES[_of(str, kind)])
    if count < 0 or count * dtype.itemsize != len(data) - stream.tell():
        raise ValueError("the bytes do not fit the storage")
    return np.frombuffer(data, dtype, offset=stream.tell()) if count else np.zeros(0, dtype)


def _tensor(machine: _Machine, arguments: tuple[Any, ...]) -> Pixels:
    """``torch._utils._rebuild_tensor_v2(storage, offset, size, stride, ...)``: a view, seen to stay in its storage."""
    storage, offset, size, stride = arguments[:4]
    count = math.prod(_sizes(size))
    (offset,), strides = _sizes((offset,)), _sizes(stride)
    last = offset + sum((n - 1) * step for n, step in zip(size, strides, strict=True))
    if not 0 < count <= len(_of(np.ndarray, storage)) or last >= len(storage):
        raise ValueError("the tensor leaves its storage")
    steps = [step * storage.itemsize for step in strides]
    return Pixels(np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False))


def _sizes(shape: Any) -> tuple[int, ...]:
    if len(_of(tuple, shape)) > 8 or any(_of(int, size) < 0 for size in shape):
        raise ValueError("no shape")
    return tuple(shape)


_FUNCTIONS: Mapping[str, Function | None] = {
    "numpy.ndarray": None,
    "numpy.dtype": _numbers,
    **{f"numpy.{core}.multiarray._reconstruct": _empty for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _buffer for core in ("core", "_core")},
    "_codecs.encode": _encoded,
    "collections.OrderedDict": _mapping,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch.storage._load_from_bytes": _storage,
    "PIL.Image.Image": None,
}
"""Everything a pickle may name. Both spellings of numpy's core: before and since numpy 2."""
_STORAGE_NAMES: Mapping[str, Function | None] = dict.fromkeys(_STORAGES)

_LITERALS = (
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
)
_STEPS: Mapping[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda machine, _: None),
    **dict.fromkeys(_LITERALS, lambda machine, argument: machine.push(argument)),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_items())),
    "TUPLE1": lambda machine, _: machine.pop_tuple(1),
    "TUPLE2": lambda machine, _: machine.pop_tuple(2),
    "TUPLE3": lambda machine, _: machine.pop_tuple(3),
    "APPEND": lambda machine, _: machine.append([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.pop_items()),
    "SETITEM": lambda machine, _: machine.update([machine.stack.pop(-2), machine.stack.pop()]),
    "SETITEMS": lambda machine, _: machine.update(machine.pop_items()),
    "BINPUT": lambda machine, place: machine.memo.update({place: machine.stack[-1]}),
    "LONG_BINPUT": lambda machine, place: machine.memo.update({place: machine.stack[-1]}),
    "MEMOIZE": lambda machine, _: machine.memo.update({len(machine.memo): machine.stack[-1]}),
    "BINGET": lambda machine, place: machine.push(machine.memo[place]),
    "LONG_BINGET": lambda machine, place: machine.push(machine.memo[place]),
    "GLOBAL": lambda machine, text: machine.name(text.replace(" ", ".", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.stack_name(),
    "REDUCE": lambda machine, _: machine.call(),
    "NEWOBJ": lambda machine, _: machine.new(),
    "BUILD": lambda machine, _: machine.build(),
    "BINPERSID": lambda machine, _: machine.storage_type(),
}
"""What each opcode does. One that is not here is refused."""
