"""symmetry/extras/shift_system.py: which constants may be added where: variables and the constraints ops put on them. No op."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from nfn_cli.graph.model import Op
from nfn_cli.symmetry.extras.extra import FloatArray
from nfn_cli.symmetry.extras.shift import Segment, Shift, one
from nfn_cli.symmetry.extras.survey import Survey

BoolArray = np.ndarray[tuple[int], np.dtype[np.bool_]]


@dataclass(frozen=True, eq=False)
class Variable:
    """A free constant: what the tensor makes its op add, beyond what its input brings.

    Attributes:
        tensor: the tensor that is moved; "" for a variable that another shift determines.
        role: "bias" (of a layer or a norm) or "running_mean".
        size: its length.
        dead: (size,) entries that move nothing, because a factor behind them is 0.
    """

    tensor: str
    role: str
    size: int
    dead: BoolArray


@dataclass(frozen=True, eq=False)
class Absorption:
    """An op whose tensors take up what comes in and give out variables.

    Attributes:
        op: a linear layer, a convolution or a norm.
        incoming: the shift that its input carries.
        variables: role -> number of the variable; "output" where the weight alone passes the shift on.
    """

    op: Op
    incoming: Shift | None
    variables: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class Row:
    """Σ coefficient · variable[start + i] = 0 for i < size; with `runs`, only equal within each of so many equal runs."""

    size: int
    terms: Mapping[tuple[int, int], float]
    runs: int = 0


@dataclass(eq=False)
class ShiftSystem:
    """What the shift rules write into. Mutable; `spaces` reads it."""

    survey: Survey
    variables: list[Variable] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    absorptions: list[Absorption] = field(default_factory=list)
    gains: dict[int, FloatArray] = field(default_factory=dict)
    absorbers: dict[int, set[str]] = field(default_factory=dict)

    def variable(self, op: Op, role: str, size: int, axis: int, dead: BoolArray | None = None) -> tuple[int, Shift]:
        number = len(self.variables)
        tensor = op.parameters.get(role, "")
        self.variables.append(Variable(tensor, role, size, np.zeros(size, bool) if dead is None else dead))
        return number, one(number, size, axis)

    def pin(self, shift: Shift | None) -> None:
        """This constant must stay 0."""
        for segment in shift.segments if shift is not None else ():
            if segment.terms:
                self.rows.append(Row(segment.size, segment.terms))

    def tie(self, shift: Shift | None, kind: str, runs: int = 1) -> None:
        """This constant may be any that is the same along each of `runs` equal runs of the axis."""
        if shift is None:
            return
        if len(shift.segments) > 1 or shift.segments[0].repeat > 1:
            self.pin(shift)  # safe: one direction less is claimed
            return
        (segment,) = shift.segments
        if segment.terms:
            self.rows.append(Row(segment.size, segment.terms, runs))
            self.absorbed(shift, kind)

    def absorbed(self, shift: Shift | None, kind: str) -> None:
        """Note for the report what takes up this constant."""
        for variable, _ in shift.terms if shift is not None else ():
            self.absorbers.setdefault(variable, set()).add(kind)

    def regauge(self, variable: int, gain: FloatArray) -> None:
        """The variable is from now on measured behind a factor."""
        old = self.variables[variable]
        self.variables[variable] = Variable(old.tensor, old.role, old.size, old.dead | (gain == 0))
        self.gains[variable] = self.gains.get(variable, np.ones(old.size)) * gain

    def settle(self) -> None:
        """Variables that a weight passes on, if anything constrains them, are given up: their source is pinned."""
        passed = {a.variables["output"]: a.incoming for a in self.absorptions if "output" in a.variables}
        done: set[int] = set()
        while True:
            touched = {v for row in self.rows for v, _ in row.terms if v in passed} - done
            if not touched:
                break
            done |= touched
            for variable in touched:
                self.pin(passed[variable])
        self.rows = [
            Row(row.size, terms, row.runs)
            for row in self.rows
            if (terms := {key: c for key, c in row.terms.items() if key[0] not in passed})
        ]


def zero_segment(size: int) -> Segment:
    return Segment(size, {})
