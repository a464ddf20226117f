"""checkpoint/pickle_scan.py: which classes and functions a pickle asks for, read from its opcodes. Runs nothing."""

from __future__ import annotations

import pickletools
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO

_MAX_OPCODES = 3_000_000
_TEXT = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"}
# What tensors and plain values need; everything else in a pickle is a class of somebody's own.
_HARMLESS_PREFIXES = ("torch._utils._rebuild_", "torch._tensor._rebuild_", "torch.storage.")
_HARMLESS = {
    "collections.OrderedDict",
    "collections.Counter",
    "torch.Size",
    "torch.device",
    "torch.Tensor",
    "torch.nn.parameter.Parameter",
    "torch.serialization._get_layout",
    "builtins.set",
    "builtins.complex",
    "_codecs.encode",
    "copyreg._reconstructor",
    "builtins.object",
    "copy_reg._reconstructor",
    "__builtin__.object",
    "__builtin__.set",
}


def globals_of(stream: BinaryIO, pickles: int = 1) -> Iterator[str]:
    """`module.name` of each global the next `pickles` pickles of a stream ask for, in order, each once.

    Damaged pickles end the listing early; nothing is raised.
    """
    seen: set[str] = set()
    for _ in range(pickles):
        try:
            for name in _globals(stream):
                if name not in seen:
                    seen.add(name)
                    yield name
        except (ValueError, KeyError, IndexError, EOFError, MemoryError, OverflowError, UnicodeError):
            return


def first_foreign(names: list[str]) -> str:
    """The first global that is not part of saved tensors; "" where there is none."""
    return next((name for name in names if not _is_harmless(name)), "")


def _is_harmless(name: str) -> bool:
    storage = name.startswith("torch.") and name.endswith("Storage")
    return (
        storage
        or name in _HARMLESS
        or (name.startswith(_HARMLESS_PREFIXES) and name != "torch.storage._load_from_bytes")
    )


def _globals(stream: BinaryIO) -> Iterator[str]:
    recent: deque[str] = deque(maxlen=2)
    memo: dict[int, str] = {}
    pushed = ""
    memoized = 0
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        name = opcode.name
        if count > _MAX_OPCODES:
            return
        if name in _TEXT and argument is not None:
            pushed = str(argument)
            recent.append(pushed)
        elif name in ("GLOBAL", "INST") and argument is not None:
            yield str(argument).replace(" ", ".", 1)
            pushed = ""
        elif name == "STACK_GLOBAL":
            yield ".".join(recent)
            pushed = ""
        elif name == "MEMOIZE":
            memo[memoized] = pushed
            memoized += 1
        elif name in ("BINPUT", "LONG_BINPUT", "PUT") and argument is not None:
            memo[int(argument)] = pushed
        elif name in ("BINGET", "LONG_BINGET", "GET") and argument is not None:
            text = memo.get(int(argument), "")
            if text:
                recent.append(text)
            pushed = text
        else:
            pushed = ""
