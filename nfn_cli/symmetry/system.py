"""symmetry/system.py: the equations a graph puts on its axes, collected by the op rules. No op is known here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from nfn_cli.errors import Refused
from nfn_cli.symmetry.axis import Axis, HashArray, IntArray, mix
from nfn_cli.symmetry.relations import Relation

KINDS = ("unit", "scale", "sign", "shift")


@dataclass(frozen=True, eq=False)
class Incidence:
    """What a group element does along one axis of one tensor.

    With m the product over slots of c**(power·exponent) and, where `signed`, the sign: new = m·(old + offset) − offset
    + shift·phase, after the units were permuted.

    Attributes:
        tensor: name of the parameter.
        dim: its axis.
        axis: type of that axis.
        exponent: +1 where the tensor makes the axis, −1 where it reads it, 2 for a variance, 0 for signs only.
        signed: whether the axis' sign multiplies the tensor.
        offset: ε of a batch norm's variance.
        phase: π/ω where a phase count is added to a bias, else 0.
        use: the op's number and the name it reads the tensor by, to notice tensors that are read more than once.
        groups: 1, or the number of groups of a convolution whose axis 1 is meant: `axis` then has groups · length slots,
            and row r of axis 0 reads those of its own group.
    """

    tensor: str
    dim: int
    axis: Axis
    exponent: int
    signed: bool
    offset: float = 0.0
    phase: float = 0.0
    use: tuple[int, str] = (0, "")
    groups: int = 1


@dataclass(frozen=True, eq=False)
class Membership:
    """Units that must stay together: unit node i belongs to block node i; blocks of one op may only be exchanged whole."""

    unit: IntArray
    block: IntArray
    use: int


@dataclass
class System:
    """Nodes, equations between nodes, and incidences. Mutable: the rules write into it, `solve` reads it."""

    shapes: dict[str, tuple[int, ...]]
    aliases: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 1))
    edges: dict[str, list[tuple[IntArray, IntArray]]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    relations: dict[str, list[Relation]] = field(default_factory=lambda: {"scale": [], "sign": []})
    pinned: dict[str, list[IntArray]] = field(default_factory=lambda: {kind: [np.zeros(1, np.int64)] for kind in KINDS})
    axes: list[Axis] = field(default_factory=list)
    incidences: list[Incidence] = field(default_factory=list)
    memberships: list[Membership] = field(default_factory=list)
    splittable: set[int] = field(default_factory=set)
    unsplit: frozenset[int] = frozenset()
    distinctions: list[tuple[IntArray, int]] = field(default_factory=list)
    slotwise: list[list[HashArray]] = field(default_factory=list)
    blocks: int = 1
    opaque: list[str] = field(default_factory=list)
    use: int = 0

    def nodes(self, kind: str, count: int) -> IntArray:
        start = self.counts[kind]
        self.counts[kind] = start + count
        return np.arange(start, start + count, dtype=np.int64)

    def fresh(self, size: int) -> Axis:
        """Atom(size): new units, each with a magnitude and a sign of its own."""
        return self.freed(
            Axis(
                self.nodes("unit", size),
                np.zeros(size, np.uint64),
                *(np.zeros(size, np.int64) for _ in range(4)),
            )
        )

    def freed(self, axis: Axis) -> Axis:
        """The same slots, carrying new magnitudes and signs (what an affine op's weights can absorb)."""
        size = len(axis)
        made = Axis(
            axis.unit,
            axis.label,
            self.nodes("scale", size),
            np.ones(size, np.int64),
            self.nodes("sign", size),
            np.zeros(size, np.int64),
        )
        self.axes.append(made)
        return made

    def registered(self, axis: Axis) -> Axis:
        """Note an axis whose slots a permutation must carry along."""
        self.axes.append(axis)
        return axis

    def fixed(self, size: int) -> Axis:
        """Fixed(size): nothing moves."""
        axis = self.fresh(size)
        self.pin(axis)
        return axis.without_scale().without_sign()

    def tie(self, kind: str, left: IntArray, right: IntArray) -> None:
        self.edges[kind].append((left, right))

    def relate(self, kind: str, *terms: tuple[IntArray, IntArray]) -> None:
        """Slot by slot, the (nodes, coefficients) of all terms add up to 0 (to an even number for signs)."""
        if terms[0][0].size:
            self.relations[kind].append(Relation(*(np.stack(part) for part in zip(*terms, strict=True))))

    def summed(self, kind: str, left: tuple[IntArray, IntArray], right: tuple[IntArray, IntArray]) -> IntArray:
        """New nodes that carry the sums of two terms (nodes, coefficients)."""
        made = self.nodes(kind, len(left[0]))
        self.relate(kind, left, right, (made, np.full(len(made), -1)))
        return made

    def pin(self, axis: Axis | int | None, *kinds: str) -> None:
        """Nothing (or only `kinds`) on this axis may change."""
        if isinstance(axis, Axis):
            for kind in kinds or KINDS:
                self.pinned[kind].append(getattr(axis, kind))

    def distinguish(self, axis: Axis, mark: int) -> None:
        """Tell these units' slots apart from others', in every axis, should they become slots of one unit."""
        self.distinctions.append((axis.unit, mark))

    def keep_blocks(self, groups: int, *axes: Axis) -> None:
        """Each axis falls into `groups` runs of equal length; run j of all of them moves together, if it moves.

        Blocks within blocks are not known: an op in `splittable` that has them is put into `unsplit`, and read again.
        """
        nodes = np.arange(self.blocks, self.blocks + groups, dtype=np.int64)
        self.blocks += groups
        for axis in axes:
            self.memberships.append(Membership(axis.unit, np.repeat(nodes, len(axis) // groups), self.use))

    def joined(self, axes: list[Axis | int | None]) -> Axis | int | None:
        """The one type of axes that must agree slot by slot (inputs of an add, uses of one tensor)."""
        known = [axis for axis in axes if isinstance(axis, Axis)]
        if not known:
            return axes[0]
        if len(known) < len(axes) or len({len(axis) for axis in known}) > 1:  # broadcasting
            for axis in known:
                self.pin(axis)
            return self.fixed(max(len(axis) for axis in known))
        first, label = known[0], known[0].label
        shift = first.shift
        for axis in known[1:]:
            self.tie("unit", first.unit, axis.unit)
            self.tie("sign", first.sign, axis.sign)
            self.tie_scales(first, 1, axis, 1)
            if not np.array_equal(shift, axis.shift):
                self.pin(first, "shift")
                self.pin(axis, "shift")
            label = mix(label, axis.label)
        self.slotwise.append([label, *(axis.label for axis in known)])
        return self.registered(Axis(first.unit, label, first.scale, first.power, first.sign, shift))

    def tie_scales(self, left: Axis, times: int, right: Axis, other_times: int) -> None:
        """Magnitudes of one axis to the power `times` equal those of the other to the power `other_times`, slot by slot."""
        a, b = left.power * times, right.power * other_times
        same = a == b
        self.tie("scale", left.scale[same], right.scale[same])
        self.relate("scale", (left.scale[~same], a[~same]), (right.scale[~same], -b[~same]))

    def read_apart(self, parameters: Mapping[str, str]) -> dict[str, str]:
        """Role -> name, where a tensor that has several roles in one op goes by a name of its own in each."""
        names: dict[str, str] = {}
        for role, name in parameters.items():
            other = name
            if name in names.values():
                other = f"{name}\0{role}"
                self.shapes[other], self.aliases[other] = self.shapes[name], self.aliases.get(name, name)
            names[role] = other
        return names

    def shape(self, tensor: str) -> tuple[int, ...]:
        return self.shapes[tensor]

    def incident(
        self,
        tensor: str,
        dim: int,
        axis: Axis | int | None,
        exponent: int = 0,
        *,
        signed: bool = False,
        offset: float = 0.0,
        phase: float = 0.0,
        groups: int = 1,
    ) -> None:
        """State what the axis does to the tensor.

        Raises:
            Refused: lengths disagree (code "shape-mismatch").
        """
        size = self.shape(tensor)[dim] * groups
        if not isinstance(axis, Axis):
            axis = self.fixed(size)
        if len(axis) != size:
            raise Refused(
                f"axis {dim} has length {size}, the network needs {len(axis)}", where=tensor, code="shape-mismatch"
            )
        stored = self.aliases.get(tensor, tensor)
        use = (self.use, tensor)
        self.incidences.append(Incidence(stored, dim, axis, exponent, signed, offset, phase, use, groups))

    def incident_vector(self, tensor: str, axis: Axis | int | None, exponent: int = 0, **how: object) -> None:
        """`incident` for a tensor that is a vector up to axes of length 1."""
        shape = self.shape(tensor)
        dim = max(range(len(shape)), key=lambda d: shape[d])
        self.incident(tensor, dim, axis, exponent, **how)  # type: ignore[arg-type]

    def tie_shared_tensors(self) -> None:
        """A tensor that several ops read, or one op in several roles, must change in one way for all."""
        by_tensor: dict[str, dict[tuple[int, str], list[Incidence]]] = {}
        for incidence in self.incidences:
            uses = by_tensor.setdefault(incidence.tensor, {})
            # a phase count moves a bias on behalf of the op that reads it, it is not a further reader
            use = next(reversed(uses)) if incidence.phase else incidence.use
            uses.setdefault(use, []).append(incidence)
        kept: list[Incidence] = []
        for by_use in by_tensor.values():
            first, *others = by_use.values()
            for other in others:
                self._tie_uses(first, other)
            kept.extend(first)
        self.incidences = kept

    def _tie_uses(self, first: list[Incidence], other: list[Incidence]) -> None:
        """Two ops' views of one tensor agree where the incidences of one answer, one by one, to those of the other."""
        left, right = (sorted(one, key=lambda i: (i.dim, i.exponent == 0)) for one in (first, other))
        alike = len(left) == len(right) and all(
            (a.dim, a.exponent == 0, a.signed, a.offset, a.phase, b.phase, a.groups)
            == (b.dim, b.exponent == 0, b.signed, b.offset, 0, 0, b.groups)
            for a, b in zip(left, right, strict=True)
        )
        if alike:
            for a, b in zip(left, right, strict=True):
                self.joined([a.axis.without_scale(), b.axis.without_scale()])
                if a.exponent:
                    self.tie_scales(a.axis, a.exponent, b.axis, b.exponent)
            return
        for incidence in (*first, *other):
            self.pin(incidence.axis, "scale", "sign", "shift")
        for dim in {incidence.dim for incidence in (*first, *other)}:
            self.joined([next((i.axis for i in one if i.dim == dim), None) for one in (first, other)])


def components(count: int, edges: list[tuple[IntArray, IntArray]]) -> IntArray:
    """Connected components by hooking and pointer jumping: node -> least node of its component."""
    root = np.arange(count, dtype=np.int64)
    if not edges:
        return root
    left = np.concatenate([edge[0] for edge in edges])
    right = np.concatenate([edge[1] for edge in edges])
    while True:
        a, b = root[left], root[right]
        if np.array_equal(a, b):
            return root
        np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
        while True:
            jumped = root[root]
            if np.array_equal(jumped, root):
                break
            root = jumped


def summed_hash(index: IntArray, hashes: HashArray, count: int) -> HashArray:
    """Order-free hash of the multiset of `hashes` that each of `count` owners holds."""
    total = np.zeros(count, np.uint64)
    with np.errstate(over="ignore"):
        np.add.at(total, index, mix(hashes))
    return total
