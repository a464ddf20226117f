"""match/common_reading.py: two graphs brought to what both are known to be, where one comes from weights that do not tell all.

Tensor names and shapes say nothing of strides, pooling and frequencies; front ends that see no more leave these out or put in
what costs most symmetry. Two graphs that agree in everything that weights show are given one reading, whose group is one of
both: of each difference the side that claims less. Knows graphs; no number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nfn_cli.graph.activations import ACTIVATIONS
from nfn_cli.graph.model import Graph, GraphInput, Network, Op
from nfn_cli.match.common_operation import POSITIONS, Apart, agreed, averaging, joining, known, largest, same_order

_STRIDES, _PADDINGS, _POOLING, _EPSILON = "strides", "paddings", "pooling", "ε of norms"
_FREQUENCY, _SUMS, _FUNCTION = "frequencies", "whether blocks add their input", "where activations stand"
_END = "what follows the last layer"

# The same behind the last layer.
_BEHIND = POSITIONS | {"softmax", "pointwise", "clip", "scalar"}


@dataclass(frozen=True)
class CommonReading:
    """Two lists of networks, each over its own tensors, alike wherever a file does not tell.

    Attributes:
        left, right: as they were given where both tell all, or where more differs than one of them leaves open.
        assumed: what at least one of the files does not tell and is taken to be alike in both; empty if they tell all.
        joined: whether any two were not alike as they were given.
    """

    left: tuple[Network, ...]
    right: tuple[Network, ...]
    assumed: tuple[str, ...]
    joined: bool

    @property
    def note(self) -> tuple[str, ...]:
        """What to say of it where the files were read differently."""
        return (assumption(self.assumed),) if self.joined else ()


def common_reading(left: Sequence[Network], right: Sequence[Network]) -> CommonReading:
    """Bring the networks of two checkpoints, in order, to one reading; nothing is refused here."""
    ours, theirs, assumed, joined = list(left), list(right), [], False
    for number, (one, other) in enumerate(zip(left, right, strict=False)):
        open_ = [*untold(one.graph), *untold(other.graph)]
        found = _joined(one.graph, other.graph) if open_ and not _equal(one.graph, other.graph) else None
        assumed += open_
        if found is not None:
            ours[number], theirs[number] = (
                replace(network, graph=graph) for network, graph in zip((one, other), found.graphs, strict=True)
            )
            assumed += [_END] if found.cut else []
            joined = True
    return CommonReading(tuple(ours), tuple(theirs), tuple(dict.fromkeys(assumed)), joined)


def assumption(assumed: Sequence[str]) -> str:
    """What to say of it; there is some."""
    *first, last = assumed
    listed = f"{', '.join(first)} and {last}" if first else last
    return f"not told by both files and taken to be alike: {listed}"


def untold(graph: Graph) -> tuple[str, ...]:
    """What the file of a graph does not tell of the network's function."""
    return tuple(dict.fromkeys(what for op in graph.ops for what in _untold(op)))


def _untold(op: Op) -> Iterator[str]:
    attributes = op.attributes
    if op.kind == "conv" and "stride" not in attributes:
        yield from (_STRIDES, _PADDINGS, _POOLING)
    if op.kind in ("batch_norm", "layer_norm") and "eps" not in attributes:
        yield _EPSILON
    if op.kind == "pool" and attributes.get("statistic") == "unknown":
        yield _POOLING
    if attributes.get("assumed") and op.kind in ("max_pool", "add"):
        yield _POOLING if op.kind == "max_pool" else _SUMS
    if attributes.get("assumed") and op.kind == "pointwise":
        yield _FREQUENCY if ACTIVATIONS[attributes["function"]].frequency else _FUNCTION


def _equal(left: Graph, right: Graph) -> bool:
    """Whether they are one up to names."""
    return [(op.kind, op.attributes) for op in left.ops] == [(op.kind, op.attributes) for op in right.ops]


@dataclass(frozen=True)
class _Joined:
    graphs: tuple[Graph, Graph]
    cut: bool


def _joined(left: Graph, right: Graph) -> _Joined | None:
    try:
        return _Join(left, right).joined()
    except Apart:
        return None


@dataclass
class _Side:
    """One of the two graphs, what weights do not show set aside.

    Attributes:
        open_: whether its file is silent about what becomes of positions.
        averages, largest: whether it says that any are averaged, or that of any the largest counts.
        ops: what is left, in order.
        common: value -> its name in the common graph.
    """

    graph: Graph
    open_: bool = field(init=False)
    averages: bool = field(init=False)
    largest: bool = field(init=False)
    made: dict[str, Op] = field(init=False)
    ends: tuple[str, ...] = field(init=False)
    ops: tuple[Op, ...] = field(init=False)
    common: dict[str, str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.open_ = _POOLING in untold(self.graph)
        self.averages = any(averaging(op) for op in self.graph.ops)
        self.largest = any(largest(op) and not op.attributes.get("assumed") for op in self.graph.ops)
        self.made = {op.output: op for op in self.graph.ops}
        reads = [name for op in self.graph.ops for name in op.inputs] + list(self.graph.outputs)
        behind: set[str] = set()
        ends = []
        for name in self.graph.outputs:
            while (op := self.made.get(name)) is not None and _plain_step(op, _BEHIND) and reads.count(name) == 1:
                behind.add(name)
                name = op.inputs[0]
            ends.append(name)
        self.ends = tuple(ends)
        aside = {op.output for op in self.graph.ops if _plain_step(op, POSITIONS)} | behind
        self.ops = tuple(op for op in self.graph.ops if op.output not in aside)

    def before(self, name: str) -> tuple[str, list[Op]]:
        """The value that weights made, and what became of its positions since."""
        steps: list[Op] = []
        while (op := self.made.get(name)) is not None and _plain_step(op, POSITIONS):
            steps.insert(0, op)
            name = op.inputs[0]
        return name, steps

    def behind(self, output: int) -> list[Op]:
        """What follows the last layer that leads to an output."""
        name = self.graph.outputs[output]
        steps: list[Op] = []
        while name != self.ends[output]:
            steps.insert(0, self.made[name])
            name = self.made[name].inputs[0]
        return steps


def _plain_step(op: Op, kinds: frozenset[str]) -> bool:
    if op.kind == "reshape":  # only what joins channels and positions
        return op.kind in kinds and len(op.attributes["shape"]) == 2 and len(op.inputs) == 1
    if op.kind == "reduce" and (op.attributes.get("statistic") != "mean" or min(op.attributes["axes"]) < 2):
        return False
    return op.kind in kinds and len(op.inputs) == 1 and not op.parameters


class _Join:
    """Walks both graphs op by op and writes the common one, once with each side's tensors."""

    def __init__(self, left: Graph, right: Graph) -> None:
        self.sides = _Side(left), _Side(right)
        self.ops: tuple[list[Op], list[Op]] = ([], [])
        self.written: dict[tuple[str, str], str] = {}
        self.cut = False

    def joined(self) -> _Joined:
        one, other = self.sides
        inputs = self._inputs()
        if any(a.open_ and a.averages and b.largest for a, b in (self.sides, self.sides[::-1])):
            raise Apart  # the pooling was stated for the file that does not tell, and is another
        if len(one.ops) != len(other.ops) or len(one.graph.outputs) != len(other.graph.outputs):
            raise Apart
        for mine, theirs in zip(one.ops, other.ops, strict=True):
            if mine.kind != theirs.kind or len(mine.inputs) != len(theirs.inputs):
                raise Apart
            pairs = zip(mine.inputs, theirs.inputs, strict=True)
            self._write(mine, theirs, [self._value(*pair) for pair in pairs])
        outputs = tuple(self._output(number) for number in range(len(one.graph.outputs)))
        graphs = [
            Graph(inputs, tuple(ops), outputs, side.graph.parameter_shapes)
            for side, ops in zip(self.sides, self.ops, strict=True)
        ]
        return _Joined((graphs[0], graphs[1]), self.cut)

    def _inputs(self) -> tuple[GraphInput, ...]:
        one, other = self.sides
        if len(one.graph.inputs) != len(other.graph.inputs):
            raise Apart
        found = []
        for here, there in zip(one.graph.inputs, other.graph.inputs, strict=True):
            lengths = list(zip(here.shape, there.shape, strict=False))
            if len(here.shape) != len(there.shape) or any(a != b and None not in (a, b) for a, b in lengths[1:]):
                raise Apart
            shape = tuple(a if a == b else None for a, b in lengths)
            found.append(GraphInput(here.name, shape))
            one.common[here.name] = other.common[there.name] = here.name
        return tuple(found)

    def _value(self, here: str, there: str) -> str:
        """The common value for two that are read at one place."""
        (base, mine), (other, theirs) = (side.before(n) for side, n in zip(self.sides, (here, there), strict=True))
        return self._steps(self._base(base, other), self._positions(mine, theirs))

    def _base(self, here: str, there: str) -> str:
        found = [side.common.get(name) for side, name in zip(self.sides, (here, there), strict=True)]
        if found[0] is None or found[0] != found[1]:
            raise Apart
        return found[0]

    def _steps(self, value: str, steps: Sequence[Op]) -> str:
        for step in steps:
            key = value, f"{step.kind} {sorted(step.attributes.items(), key=str)}"
            if key not in self.written:
                self.written[key] = self._add((step, step), [value], ({}, {}), (step.attributes, step.attributes))
            value = self.written[key]
        return value

    def _positions(self, mine: list[Op], theirs: list[Op]) -> list[Op]:
        """Of two ways in which positions are treated the one that claims less."""
        if [known(op) for op in mine] == [known(op) for op in theirs]:
            return mine
        one, other = self.sides
        if not (one.open_ or other.open_):
            raise Apart
        # the side that does not tell says what is certain
        safe, told = (mine, theirs) if one.open_ else (theirs, mine)
        if bool(joining(safe)) != bool(joining(told)) or not same_order(safe, told):
            raise Apart
        if any(largest(op) for op in told) and not any(largest(op) for op in safe):
            guard = Op("max_pool", ("",), "", {}, {"kernel": 1, "stride": 1, "assumed": True})
            return [guard, *safe]
        return safe

    def _write(self, mine: Op, theirs: Op, inputs: list[str]) -> None:
        if set(mine.parameters) != set(theirs.parameters):
            raise Apart
        attributes = agreed(mine, theirs)
        value = self._add((mine, theirs), inputs, (mine.parameters, theirs.parameters), attributes)
        for side, op in zip(self.sides, (mine, theirs), strict=True):
            side.common[op.output] = value

    def _add(
        self,
        ops: tuple[Op, Op],
        inputs: Sequence[str],
        parameters: tuple[Mapping[str, str], Mapping[str, str]],
        attributes: tuple[Mapping[str, Any], Mapping[str, Any]],
    ) -> str:
        value = f"c{len(self.ops[0])}"
        for out, op, roles, how in zip(self.ops, ops, parameters, attributes, strict=True):
            out.append(Op(op.kind, tuple(inputs), value, roles, how))
        return value

    def _output(self, number: int) -> str:
        one, other = self.sides
        value = self._base(one.ends[number], other.ends[number])
        mine, theirs = one.behind(number), other.behind(number)
        if [known(op) for op in mine] == [known(op) for op in theirs]:
            return self._steps(value, mine)
        silent = [side.open_ and not steps for side, steps in zip(self.sides, (mine, theirs), strict=True)]
        if not any(silent):
            raise Apart
        self.cut = True
        return value
