"""checkpoint/tree_pickle.py: pickles as plain trees. A pickle machine that runs nothing and imports nothing.

Classes are names; an object is its class's name, what it was made from, and its state. `pickle_calls.py` knows which
functions make plain values.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from io import BytesIO
from typing import Any, BinaryIO

from nfn_cli.checkpoint.pickle_calls import (
    CALLS,
    JOBLIB_ARRAY,
    array_behind,
    foreign,
    refuse_running,
    stored_state,
    typed_storage,
)
from nfn_cli.checkpoint.pickle_values import Blob, Class, Object, Storage
from nfn_cli.errors import Refused
from nfn_cli.printable import printable

__all__ = ["Class", "Machine", "Object", "Storage", "read_tree"]

_MOST_OPCODES = 3_000_000


def read_tree(data: bytes | BinaryIO, directory: str, objects: bool = False) -> Any:
    """The value of a pickle: dict, list, tuple, numbers, text, `StoredTensor`, `Object`, `Class`.

    Args:
        directory: of the archive's members that hold its storages, with a slash at the end.
        objects: whether calls of classes of the program's own give an `Object`; else they are refused.

    Raises:
        Refused: damaged, or it asks for what has no plain value here.
    """
    return Machine(directory, objects).run(data)


class _Mark:
    pass


class Machine:
    """Runs pickles one after another on one memory of storages.

    Args:
        directory, objects: as in `read_tree`.
        within: whether the pickle lies in bytes of another one; then it may hold no third.

    Attributes:
        blobs: member -> the bytes of storages that lie within the pickle itself.
        storages: member -> type of the storages that the pickle says lie beside it.
        of_torch: whether a tensor of torch lies within it.
    """

    def __init__(self, directory: str, objects: bool = False, within: bool = False) -> None:
        self.directory, self.objects, self.within = directory, objects, within
        self.blobs: dict[str, Blob] = {}
        self.storages: dict[str, str] = {}
        self.of_torch = False
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, data: bytes | BinaryIO) -> Any:
        """The value of the next pickle in a stream.

        Raises:
            Refused: as `read_tree`.
        """
        self.stack, self.memo = [], {}
        self.stream = BytesIO(data) if isinstance(data, bytes) else data
        try:
            return self._run(self.stream)
        except Refused:
            raise
        except (
            *(ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, MemoryError, RecursionError),
            EOFError,
        ):
            raise Refused("the pickle is damaged", fix="download or export the file again", code="truncated") from None

    def _run(self, stream: BinaryIO) -> Any:
        for count, (opcode, argument, position) in enumerate(pickletools.genops(stream)):
            name: str = opcode.name
            if name == "STOP":
                return self.stack.pop()
            if count > _MOST_OPCODES:
                raise Refused("the pickle is too long", code="too-large")
            if name in _PUSHED:
                self.stack.append(argument)
            elif name in _BYTES:
                start = None if position is None else position + _BYTES[name]
                self.stack.append(Blob(argument, start))  # type: ignore[arg-type]
            elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
                self.memo[int(argument or 0)] = self.stack[-1]
            elif name in ("BINGET", "LONG_BINGET", "GET"):
                self.stack.append(self.memo[int(argument or 0)])
            elif name == "MEMOIZE":
                self.memo[len(self.memo)] = self.stack[-1]
            elif name == "GLOBAL":
                self.stack.append(Class(str(argument).replace(" ", ".", 1)))
            elif name == "INST":
                self.called(Class(str(argument).replace(" ", ".", 1)), tuple(self.marked()))
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
        (target.listed if isinstance(target, Object) else _only(list, target)).extend(values)

    def set_items(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if len(values) % 2:
            raise TypeError
        entries = target.entries if isinstance(target, Object) else _only(dict, target)
        entries.update((_key(key), value) for key, value in zip(values[::2], values[1::2], strict=True))

    def global_(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(Class(f"{_only(str, module)}.{_only(str, name)}"))

    def new_object(self, keywords: bool = False) -> None:
        if keywords:
            self.stack.pop()
        arguments, kind = self.stack.pop(), self.stack.pop()
        # the second form of a call: what runs a program when it is called is no class
        refuse_running(kind.name)
        self.stack.append(Object(kind.name, arguments=_only(tuple, arguments)))

    def build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Object) and target.kind == JOBLIB_ARRAY:
            array_behind(self, target, state)
        elif isinstance(target, Object):
            target.state = stored_state(target, state, self.blobs)
        elif type(target) is not dict:  # attributes of a dictionary (_metadata) are passed over
            raise TypeError

    def persistent(self) -> None:
        kind, storage, *further = self.stack.pop()
        if kind == "module" and isinstance(storage, Class):  # torch used to save the source text of a class beside it
            self.stack.append(storage)
            return
        key, view = further[0], further[3] if len(further) > 3 else None
        if kind != "storage" or not isinstance(key, str) or view is not None:
            raise TypeError
        made = Storage(self.directory + key, typed_storage(storage.name))
        self.storages[made.member] = made.dtype
        self.stack.append(made)

    def reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.called(function, _only(tuple, arguments))

    def called(self, function: Any, arguments: tuple[Any, ...]) -> None:
        name = function.name
        if "qtensor" in name or "quantized" in name:
            raise Refused("the tensors are quantized", fix="use the float model", code="quantized")
        make = CALLS.get(name)
        if make is not None:
            self.stack.append(make(self, *arguments))
        elif self.objects:
            self.stack.append(foreign(name, arguments))
        else:
            raise Refused(f"the pickle needs {printable(name, 100)}, which is no plain value", code="unsafe-pickle")


def _only(kind: type[Any], value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError
    return value


def _key(value: Any) -> Any:
    """A key of a dictionary. Nested tuples could take forever to hash, so objects and tuples of them are keys by name."""
    plain = (str, int, float, bytes, type(None), Class)
    if isinstance(value, plain) or (isinstance(value, tuple) and all(isinstance(part, plain) for part in value)):
        return value
    return Object("key")


# opcodes that push bytes -> how many bytes stand before those
_BYTES = {"BINBYTES": 5, "SHORT_BINBYTES": 2, "BINBYTES8": 9, "BYTEARRAY8": 9}
_PUSHED = {
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINSTRING", "SHORT_BINSTRING", "INT", "LONG", "FLOAT", "UNICODE", "STRING",
}  # fmt: skip


def _dictionary(machine: Machine) -> None:
    values = machine.marked()
    machine.stack.append({})
    machine.set_items(values)


def _pop_mark(machine: Machine) -> None:
    machine.marked()


def _set_of(machine: Machine) -> None:
    machine.stack.append(Object("builtins.frozenset", listed=machine.marked()))


def _old_call(machine: Machine) -> None:
    function, *arguments = machine.marked()
    machine.called(function, tuple(arguments))


_OPCODES: dict[str, Callable[[Machine], None]] = {
    "NONE": lambda m: m.stack.append(None),
    "NEWTRUE": lambda m: m.stack.append(True),
    "NEWFALSE": lambda m: m.stack.append(False),
    "MARK": lambda m: m.stack.append(_Mark()),
    "POP": lambda m: m.stack.pop(),
    "POP_MARK": _pop_mark,
    "DUP": lambda m: m.stack.append(m.stack[-1]),
    "EMPTY_TUPLE": lambda m: m.stack.append(()),
    "EMPTY_LIST": lambda m: m.stack.append([]),
    "EMPTY_DICT": lambda m: m.stack.append({}),
    "EMPTY_SET": lambda m: m.stack.append(Object("builtins.set")),
    "TUPLE": lambda m: m.stack.append(tuple(m.marked())),
    "TUPLE1": lambda m: m.tuple_of(1),
    "TUPLE2": lambda m: m.tuple_of(2),
    "TUPLE3": lambda m: m.tuple_of(3),
    "LIST": lambda m: m.stack.append(m.marked()),
    "DICT": _dictionary,
    "FROZENSET": _set_of,
    "APPEND": lambda m: m.append([m.stack.pop()]),
    "APPENDS": lambda m: m.append(m.marked()),
    "ADDITEMS": lambda m: m.append(m.marked()),
    "SETITEM": lambda m: m.set_items([m.stack.pop(-2), m.stack.pop()]),
    "SETITEMS": lambda m: m.set_items(m.marked()),
    "STACK_GLOBAL": lambda m: m.global_(),
    "NEWOBJ": lambda m: m.new_object(),
    "NEWOBJ_EX": lambda m: m.new_object(keywords=True),
    "OBJ": _old_call,
    "BUILD": lambda m: m.build(),
    "BINPERSID": lambda m: m.persistent(),
    "REDUCE": lambda m: m.reduce(),
}
