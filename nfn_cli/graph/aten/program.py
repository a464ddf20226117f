"""graph/aten/program.py: a program run on stand-ins, whoever reads it: which tensor shares memory with which, what is stale.

An in-place op gives its variable a new entry. Whatever else shares that memory is stale from then on; who reads it still
gets some function of all that was written there, which rules freeze: the graph has values only, no memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nfn_cli.errors import Refused
from nfn_cli.graph.aten.capture import Capture, Parameter, Shape, Value
from nfn_cli.graph.aten.registry import Result, Results, sharing, translated
from nfn_cli.graph.model import Graph
from nfn_cli.printable import printable


@dataclass(eq=False)
class Memory:
    """What several tensors may lie in, and what was written to it in place."""

    written: list[Value] = field(default_factory=list)


@dataclass(eq=False)
class Tensor:
    """What a variable of the program holds.

    Attributes:
        entry: what it stands for in the capture.
        floating: whether its numbers are floating-point.
        content: what the reader of the program wants to keep beside it.
        memories: where it may lie.
        seen: how much had been written to each when the entry was made.
    """

    entry: Value | Parameter
    floating: bool = True
    content: Any = None
    memories: tuple[Memory, ...] = field(default_factory=lambda: (Memory(),))
    seen: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self.seen = self._writes()

    def _writes(self) -> tuple[int, ...]:
        return tuple(len(memory.written) for memory in self.memories)

    @property
    def shape(self) -> Shape:
        return self.entry.shape

    def read(self, capture: Capture) -> Value | Parameter:
        if self.seen != self._writes():
            written = [entry for memory in self.memories for entry in memory.written]
            names = dict.fromkeys(written)
            self.entry = capture.op("aten.written", (self.entry, *names), self.shape, shape=list(self.shape))
            self.seen = self._writes()
        return self.entry

    def write(self, entry: Value) -> None:
        for memory in self.memories:
            memory.written.append(entry)
        self.seen, self.entry = self._writes(), entry


class Program:
    """The tensors of a program and what has been done to them."""

    def __init__(self) -> None:
        self.capture = Capture()

    def input(self, name: str, shape: Shape, floating: bool = True, content: Any = None) -> Tensor:
        return Tensor(self.capture.input(name, shape), floating, content)

    def parameter(self, name: str, shape: Shape, trained: bool, floating: bool = True, content: Any = None) -> Tensor:
        """A tensor of the checkpoint. One that holds integers may be read, but is no weight of a layer."""
        return Tensor(self.capture.parameter(name, shape, trained, floating), floating, content)

    def constant(self, shape: Shape, values: Any, floating: bool = True, content: Any = None) -> Tensor:
        """Numbers (nested lists) that stand in the program itself; None where there are too many of them."""
        return Tensor(self.capture.constant(shape, values), floating, content)

    def call(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], out: Results) -> Any:
        """One ATen op.

        Args:
            name: without overload, with the "_" of an in-place variant.
            args, kwargs: plain values, `Tensor`s and lists of them; keyword arguments only where ATen has them so.
            out: what comes out: one `Result`, a list where there are several, None where it is no tensor.

        Returns:
            `Tensor`, or a list with None for results that nothing in our vocabulary stands for.
        """
        if "out" in kwargs:
            raise Refused(f"{printable(name, 60)} writes into a tensor given to it", code="not-capturable")
        in_place = _is_in_place(name)
        plain = (
            name.strip("_").removeprefix("i") if name.startswith("__") else name.removesuffix("_") if in_place else name
        )
        passed = {key: self._read(value) for key, value in kwargs.items() if key not in ("dtype", "memory_format")}
        made = translated(self.capture, plain, [self._read(entry) for entry in args], passed, out)
        first = args[0] if args and isinstance(args[0], Tensor) else None
        if in_place and first is not None:
            if isinstance(first.entry, Parameter):
                raise Refused(
                    "the program writes into its weights", where=printable(first.entry.tensor), code="not-capturable"
                )
            if isinstance(made, (Value, Parameter)):
                first.write(self.capture.value(made))
            return first
        return self._held(plain, made, out, first, [*_tensors(args), *_tensors(list(kwargs.values()))])

    def _held(self, name: str, made: Any, out: Results, first: Tensor | None, given: list[Tensor]) -> Any:
        how = sharing(name)
        if how == "same" and first is not None and made is first.entry:
            return first
        memories = tuple(dict.fromkeys(m for t in given for m in t.memories)) if how != "fresh" else ()
        results = [out] if isinstance(out, Result) else list(out or ())
        entries = made if isinstance(made, list) else [made]
        held = [
            Tensor(entry, result.floating if result else True, memories=memories or (Memory(),))
            if isinstance(entry, (Value, Parameter))
            else None
            for entry, result in zip(entries, results, strict=False)
        ]
        return held if isinstance(made, list) else (held[0] if held else None)

    def _read(self, entry: Any) -> Any:
        if isinstance(entry, (list, tuple)):
            return [self._read(part) for part in entry]
        return entry.read(self.capture) if isinstance(entry, Tensor) else entry

    def graph(self, outputs: Sequence[Any]) -> Graph:
        """The graph that leads to the outputs; what is no tensor among them is passed over."""
        return self.capture.graph([tensor.read(self.capture) for tensor in outputs if isinstance(tensor, Tensor)])


def _is_in_place(name: str) -> bool:
    return name.startswith("__i") if name.startswith("__") else name.endswith("_")


def _tensors(entry: Any) -> list[Tensor]:
    if isinstance(entry, (list, tuple)):
        return [tensor for part in entry for tensor in _tensors(part)]
    return [entry] if isinstance(entry, Tensor) else []
