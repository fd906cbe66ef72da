"""Reads the pickle in a file that torch.save has written, without running any of it.

A pickle is a program for a stack machine, which may ask for any Python function and call it. This machine
knows the few instructions that describe a dictionary of tensors; all others are refused, and nothing is ever
called.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from pickletools import genops
from typing import Any, NamedTuple

# The names of PyTorch's types of stored values, and NumPy's for the same.
_DTYPES = {
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "DoubleStorage": "float64",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
_TENSOR = "torch._utils _rebuild_tensor_v2"
_PARAMETER = "torch._utils _rebuild_parameter"
_DICTIONARY = "collections OrderedDict"


class Storage(NamedTuple):
    """Values that tensors share: `num_values` values in the entry `key` of the file."""

    dtype: str
    key: str
    num_values: int


class PickledTensor(NamedTuple):
    """A tensor: the place of its first value in its storage, and its shape and strides, counted in values."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Name(NamedTuple):
    """The name of a function or class that the pickle asks for."""

    text: str


class _Mark(NamedTuple):
    """Where a group of values begins on the stack."""


def read_tensors(program: bytes) -> dict[str, PickledTensor]:
    """Return the tensors of a pickle by name. Raises ValueError for one that describes anything else."""
    machine = _Machine()
    try:
        for opcode, argument, _ in genops(program):
            machine.run(opcode.name, argument)
        (found,) = machine.stack
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError("it is malformed") from error
    if not isinstance(found, dict) or not all(isinstance(value, PickledTensor) for value in found.values()):
        raise ValueError("it is not a dictionary of tensors")
    return found


class _Machine:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, name: str, argument: Any) -> None:
        """Carry out one instruction."""
        if name in _NOTHING:
            return
        if name in _ARGUMENTS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _STEPS:
            _STEPS[name](self, argument)
        else:
            raise ValueError(f"it has the instruction {name}, which tensors don't need")

    def put(self, argument: int | None) -> None:
        self._memo[len(self._memo) if argument is None else argument] = self.stack[-1]

    def get(self, argument: int) -> None:
        self.stack.append(self._memo[argument])

    def name(self, argument: str) -> None:
        self.stack.append(_Name(argument))

    def name_of_two(self, _: None) -> None:
        module, name = self._pop(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("it has a name that is no text")
        self.name(f"{module} {name}")

    def group(self, _: None) -> None:
        self.stack.append(self._pop_group())

    def tuple_of(self, count: int) -> None:
        self.stack.append(self._pop(count))

    def storage(self, _: None) -> None:
        (found,) = self._pop(1)
        kind, name, key, _, count = found
        if kind != "storage" or not isinstance(name, _Name) or not isinstance(key, str):
            raise ValueError("it refers to something that is no tensor's storage")
        dtype = _DTYPES.get(name.text.removeprefix("torch "))
        if dtype is None:
            raise ValueError(f"it has tensors of the type {reprlib.repr(name.text)}")
        self.stack.append(Storage(dtype, key, _size(count)))

    def call(self, _: None) -> None:
        function, arguments = self._pop(2)
        self.stack.append(_called(function, arguments))

    def build(self, _: None) -> None:
        """Leave out the attributes of an object: dictionaries of PyTorch have notes about versions there."""
        self._pop(1)

    def set_items(self, _: None) -> None:
        self._set(self._pop_group())

    def set_item(self, _: None) -> None:
        self._set(self._pop(2))

    def _set(self, items: tuple[Any, ...]) -> None:
        """Set keys and values, which alternate, in the dictionary on the stack."""
        keys = items[::2]
        if not isinstance(self.stack[-1], dict) or not all(isinstance(key, str) for key in keys):
            raise ValueError("it has other keys than names")
        self.stack[-1].update(zip(keys, items[1::2], strict=True))

    def _pop(self, count: int) -> tuple[Any, ...]:
        if len(self.stack) < count:
            raise ValueError("it is malformed")
        found = tuple(self.stack[-count:])
        del self.stack[-count:]
        return found

    def _pop_group(self) -> tuple[Any, ...]:
        count = 0
        while not isinstance(self.stack[-1 - count], _Mark):
            count += 1
        found = tuple(self.stack[len(self.stack) - count :])
        del self.stack[-1 - count :]
        return found


def _called(function: Any, arguments: Any) -> Any:
    """What PyTorch's functions would make of these arguments, of those that describe tensors."""
    match function, arguments:
        case _Name(text=text), () if text == _DICTIONARY:
            return {}
        case _Name(text=text), (Storage() as storage, offset, tuple(shape), tuple(strides), *_) if (
            text == _TENSOR and len(shape) == len(strides)
        ):
            sizes, steps = tuple(map(_size, shape)), tuple(map(_size, strides))
            return PickledTensor(storage, _size(offset), sizes, steps)
        case _Name(text=text), (PickledTensor() as tensor, *_) if text == _PARAMETER:
            return tensor
        case _Name(text=text), _:
            raise ValueError(f"it calls {reprlib.repr(text)}")
    raise ValueError("it is malformed")


def _size(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError("a tensor's size is not a number")
    return value


_NOTHING = frozenset({"PROTO", "FRAME", "STOP"})
_ARGUMENTS = frozenset(
    {"BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
)
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "MARK": _Mark,
}
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.put),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Machine.get),
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.name_of_two,
    "TUPLE": _Machine.group,
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "BINPERSID": _Machine.storage,
    "REDUCE": _Machine.call,
    "BUILD": _Machine.build,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
}
