"""checkpoint/pickle_values.py: what stands in a tree that was a pickle beside numbers, text and containers. No opcodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Class:
    """A class or function that the pickle names."""

    name: str


@dataclass(eq=False)
class Object:
    """An instance of a class of the program's own.

    Attributes:
        kind: name of its class.
        state: its attributes by name, or whatever else the class keeps as its state.
        arguments: what it was made from.
        listed, entries: what it holds where its class is a list, a set or a map.
    """

    kind: str
    state: Any = None
    arguments: tuple[Any, ...] = ()
    listed: list[Any] = field(default_factory=list)
    entries: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Storage:
    """Numbers of one type in a member of an archive, or in bytes of the pickle; the type as safetensors names it."""

    member: str
    dtype: str


class Blob(bytes):
    """Bytes in a pickle, and where in the file they start; None where the file spells them in another way."""

    position: int | None

    def __new__(cls, content: bytes | bytearray, position: int | None) -> Blob:
        made = super().__new__(cls, content)
        made.position = position
        return made
