"""checkpoint/tree_pickle.py: pickles of tensors and of TorchScript objects as plain trees. Runs nothing, imports nothing.

A pickle machine for the opcodes that torch writes. Classes are names; an object is its class's name and its state.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nfn_cli.checkpoint.storage import StoredTensor, integers
from nfn_cli.errors import Refused
from nfn_cli.printable import printable

_MOST_OPCODES = 3_000_000


@dataclass(frozen=True)
class Class:
    """A class or function that the pickle names."""

    name: str


@dataclass(eq=False)
class Object:
    """An instance of a class of the program's own."""

    kind: str
    state: Any = None


@dataclass(frozen=True)
class _Storage:
    member: str
    dtype: str


class _Mark:
    pass


# torch's storage classes -> names of element types as safetensors has them
_STORAGES = {
    "FloatStorage": "F32", "DoubleStorage": "F64", "HalfStorage": "F16", "BFloat16Storage": "BF16", "ByteStorage": "U8",
    "CharStorage": "I8", "ShortStorage": "I16", "IntStorage": "I32", "LongStorage": "I64", "BoolStorage": "BOOL",
}  # fmt: skip


def read_tree(data: bytes, directory: str) -> Any:
    """The value of a pickle: dict, list, tuple, numbers, text, `StoredTensor`, `Object`, `Class`.

    Args:
        directory: of the archive's members that hold its storages, with a slash at the end.

    Raises:
        Refused: damaged, or it asks for what has no plain value here.
    """
    try:
        return _Machine(directory).run(data)
    except Refused:
        raise
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, MemoryError, RecursionError):
        raise Refused("the pickle is damaged", fix="download or export the file again", code="truncated") from None


class _Machine:
    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            name: str = opcode.name
            if name == "STOP":
                return self.stack.pop()
            if count > _MOST_OPCODES:
                raise Refused("the pickle is too long", code="too-large")
            if name in _PUSHED:
                self.stack.append(argument)
            elif name in ("BINPUT", "LONG_BINPUT"):
                self.memo[int(argument or 0)] = self.stack[-1]
            elif name in ("BINGET", "LONG_BINGET"):
                self.stack.append(self.memo[int(argument or 0)])
            elif name == "MEMOIZE":
                self.memo[len(self.memo)] = self.stack[-1]
            elif name == "GLOBAL":
                self.stack.append(Class(str(argument).replace(" ", ".", 1)))
            elif name not in ("PROTO", "FRAME"):
                _OPCODES[name](self)
        raise ValueError

    def marked(self) -> list[Any]:
        """What lies above the last mark, which goes."""
        at = len(self.stack) - 1
        while not isinstance(self.stack[at], _Mark):
            at -= 1
            if at < 0:
                raise IndexError
        found = self.stack[at + 1 :]
        del self.stack[at:]
        return found

    def tuple_of(self, count: int) -> None:
        found = tuple(self.stack[len(self.stack) - count :])
        if len(found) != count:
            raise IndexError
        del self.stack[len(self.stack) - count :]
        self.stack.append(found)

    def append(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise TypeError
        target.extend(values)

    def set_items(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(values) % 2:
            raise TypeError
        target.update(zip(values[::2], values[1::2], strict=True))

    def new_object(self) -> None:
        self.stack.pop()
        self.stack.append(Object(self.stack.pop().name))

    def build(self) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Object):
            self.stack[-1].state = state
        elif type(self.stack[-1]) is not dict:  # attributes of a dictionary (_metadata) are passed over
            raise TypeError

    def persistent(self) -> None:
        kind, storage, key, *_ = self.stack.pop()
        dtype = _STORAGES.get(storage.name.rpartition(".")[2])
        if kind != "storage" or dtype is None or not isinstance(key, str):
            shown = printable(storage.name, 80)
            raise Refused(f"values of type {shown} are not read", code="quantized" if "Q" in shown else "unknown-dtype")
        self.stack.append(_Storage(self.directory + key, dtype))

    def reduce(self) -> None:
        arguments = self.stack.pop()
        called = self.stack.pop().name
        if "qtensor" in called or "quantized" in called:
            raise Refused("the tensors are quantized", fix="use the float model", code="quantized")
        make = _CALLS.get(called)
        if make is None:
            raise Refused(f"the pickle needs {printable(called, 100)}, which is no plain value", code="unsafe-pickle")
        self.stack.append(make(*arguments))


def _tensor(
    storage: _Storage, offset: int, shape: Any, strides: Any, requires_grad: Any = False, *_: Any
) -> StoredTensor:
    sizes, steps = integers(shape), integers(strides)
    if not isinstance(storage, _Storage) or sizes is None or steps is None or type(offset) is not int:
        raise TypeError
    return StoredTensor(storage.member, storage.dtype, sizes, steps, offset, bool(requires_grad))


def _first(value: Any, *_: Any) -> Any:
    return value


_PUSHED = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING",
    "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "INT", "LONG",
}  # fmt: skip
_OPCODES: dict[str, Callable[[_Machine], None]] = {
    "NONE": lambda m: m.stack.append(None),
    "NEWTRUE": lambda m: m.stack.append(True),
    "NEWFALSE": lambda m: m.stack.append(False),
    "MARK": lambda m: m.stack.append(_Mark()),
    "EMPTY_TUPLE": lambda m: m.stack.append(()),
    "EMPTY_LIST": lambda m: m.stack.append([]),
    "EMPTY_DICT": lambda m: m.stack.append({}),
    "TUPLE": lambda m: m.stack.append(tuple(m.marked())),
    "TUPLE1": lambda m: m.tuple_of(1),
    "TUPLE2": lambda m: m.tuple_of(2),
    "TUPLE3": lambda m: m.tuple_of(3),
    "APPEND": lambda m: m.append([m.stack.pop()]),
    "APPENDS": lambda m: m.append(m.marked()),
    "SETITEM": lambda m: m.set_items([m.stack.pop(-2), m.stack.pop()]),
    "SETITEMS": lambda m: m.set_items(m.marked()),
    "NEWOBJ": lambda m: m.new_object(),
    "BUILD": lambda m: m.build(),
    "BINPERSID": lambda m: m.persistent(),
    "REDUCE": lambda m: m.reduce(),
}
_CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": lambda items=(): dict(items),
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch.Size": _first,
    "torch.device": lambda *_: "cpu",
    "torch.jit._pickle.restore_type_tag": _first,
    **{f"torch.jit._pickle.build_{kind}list": _first for kind in ("int", "double", "bool", "tensor")},
}
