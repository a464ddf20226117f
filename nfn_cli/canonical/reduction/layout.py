"""canonical/reduction/layout.py: which unit every slot of every value and tensor belongs to. Knows the rules; no weight.

The equations are those of the symmetry group; only what is asked of them differs: a unit can be left out where all of
its slots can, whether or not it may change places with another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nfn_cli.graph.model import Network
from nfn_cli.symmetry.axis import Axis, IntArray
from nfn_cli.symmetry.relations import BoolArray
from nfn_cli.symmetry.rules import Entry, apply_rule, settled
from nfn_cli.symmetry.slots import solved
from nfn_cli.symmetry.system import System

AxisUnits = IntArray | int | None


@dataclass(frozen=True, eq=False)
class Place:
    """One axis of one tensor: the unit of each slot.

    Attributes:
        makes: whether the tensor makes the axis (a row of a weight, a bias), rather than reads it.
        groups: as in `symmetry.system.Incidence`.
    """

    tensor: str
    dim: int
    units: IntArray
    makes: bool
    groups: int


@dataclass(frozen=True, eq=False)
class Layout:
    """All networks of a checkpoint, slot by slot.

    Attributes:
        values: per network: value -> for each axis its units, or a plain length, or None where the length is unknown.
        fixed: (units,) whether the unit must stay.
        places: all axes of all tensors, in the order of the ops.
        opaque: what was not understood.
    """

    values: tuple[Mapping[str, tuple[AxisUnits, ...]], ...]
    fixed: BoolArray
    places: tuple[Place, ...]
    opaque: tuple[str, ...]

    def length(self, network: int, value: str, axis: int) -> int | None:
        """Length of an axis, counted from the end; None where unknown."""
        axes = self.values[network][value]
        if -axis > len(axes):
            return None
        entry = axes[axis]
        return len(entry) if isinstance(entry, np.ndarray) else entry

    def units(self, network: int, value: str, axis: int) -> IntArray | None:
        axes = self.values[network][value]
        entry = axes[axis] if -axis <= len(axes) else None
        return entry if isinstance(entry, np.ndarray) else None


def find_layout(networks: Sequence[Network], aliases: Mapping[str, str]) -> Layout:
    """Raises Refused where shapes disagree (code "shape-mismatch")."""
    shapes = {name: tuple(shape) for network in networks for name, shape in network.graph.parameter_shapes.items()}
    count = sum(len(network.graph.ops) for network in networks)
    # a depthwise convolution's outputs are slots of its input's units: neither can be left out without the other
    system = System(shapes, dict(aliases), unsplit=frozenset(range(1, count + 1)))
    found: list[dict[str, tuple[Entry, ...]]] = []
    for network in networks:
        values: dict[str, tuple[Entry, ...]] = {
            entry.name: tuple(
                size if size is None or axis == 0 else system.fixed(size) for axis, size in enumerate(entry.shape)
            )
            for entry in network.graph.inputs
        }
        for op in network.graph.ops:
            system.use += 1
            values[op.output] = apply_rule(op, [values[name] for name in op.inputs], system)
        for name in network.graph.outputs:
            for axis in settled(values[name], system):
                system.pin(axis)
        found.append(values)
    incidences = list(system.incidences)
    system.tie_shared_tensors()
    solution = solved(system)
    places = tuple(Place(i.tensor, i.dim, solution.unit[i.axis.unit], i.exponent == 1, i.groups) for i in incidences)
    rooted = tuple(
        {name: tuple(_units(entry, solution.unit) for entry in value) for name, value in values.items()}
        for values in found
    )
    return Layout(rooted, solution.fixed[solution.unit], places, tuple(dict.fromkeys(system.opaque)))


def _units(entry: Entry, root: IntArray) -> AxisUnits:
    """A part of a cut axis counts as a plain length: `pinned_by_shape` keeps its units."""
    if isinstance(entry, Axis):
        return root[entry.unit]
    return entry if entry is None or isinstance(entry, int) else len(entry)
