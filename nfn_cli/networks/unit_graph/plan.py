"""unit_graph/plan.py: what a plan of message passing over one graph consists of. Plain data; no tensor values, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nfn_cli.networks.unit_graph.slots import Link, Slots
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.solve import Symmetry

BoolArray = np.ndarray[Any, np.dtype[np.bool_]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """How a weight tensor lies: as blocks (groups, p, q, positions).

    Attributes:
        name: of the tensor.
        out_axis, in_axis: its axes without the batch; a vector (a factor for each slot) has in_axis −1.
        groups: blocks on the diagonal.
        transposed: the grouped axis is the one written, not the one read.
        positions: of a linear layer behind a flatten; 1 otherwise.
        channel_outer: whether the flattened axis is (channel, position).
        signed: whether any sign moves an entry.
    """

    name: str
    out_axis: int
    in_axis: int
    groups: int
    transposed: bool
    positions: int
    channel_outer: bool
    signed: bool


@dataclass(frozen=True, slots=True, eq=False)
class Bias:
    """A vector added to the slots of a value.

    Attributes:
        name: of the tensor.
        odd: (n,) bool: it flips as the slots do, so it may be used as it is.
        phase: (n,) π/ω where a phase count shifts it, else 0.
    """

    name: str
    odd: BoolArray
    phase: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class LayerStep:
    """An op with a weight: `number` counts layers from the input."""

    reads: str
    writes: str
    number: int
    weights: Weights
    bias: Bias | None
    link: Link
    stride: int


@dataclass(frozen=True, slots=True, eq=False)
class ShiftStep:
    """A parameter added to a value."""

    reads: str
    writes: str
    bias: Bias


@dataclass(frozen=True, slots=True)
class PointwiseStep:
    """A function applied to every entry; `name` is "" for what only passes slots on (pools, means, norms).

    `parameter` is its slope or ω where the graph says it.
    """

    reads: str
    writes: str
    name: str
    parameter: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class JoinStep:
    """Values added or multiplied slot by slot; `keep` (n,): where their signs agree."""

    reads: tuple[str, ...]
    writes: str
    product: bool
    keep: BoolArray


@dataclass(frozen=True, slots=True, eq=False)
class TakeStep:
    """Slots of several values, one after another, then `index` of them."""

    reads: tuple[str, ...]
    writes: str
    index: IntArray


@dataclass(frozen=True, slots=True)
class BlurStep:
    """An op that is not followed slot by slot: the result is an average over what it reads."""

    reads: tuple[str, ...]
    writes: str


Step = LayerStep | ShiftStep | PointwiseStep | JoinStep | TakeStep | BlurStep


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Message passing over one graph.

    Attributes:
        symmetry: of the lowered graph.
        values: name -> its slots; None where only an average is kept.
        inputs, outputs: names of values.
        steps: in the order of the ops.
        layers: the LayerSteps among them.
        activations: for each layer the functions its output meets before the next layer, in order.
        joins: numbers of additions and products of values.
    """

    symmetry: Symmetry
    values: Mapping[str, Slots | None]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    steps: tuple[Step, ...]
    layers: tuple[LayerStep, ...]
    activations: tuple[tuple[str, ...], ...]
    joins: int
