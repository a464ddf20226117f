"""unit_graph/balance.py: the balanced form (DESIGN 2.4) of many networks of one graph at once. Knows a Symmetry; no op.

F(x) = Σ E exp(2 a·x) over squared entries E, x the log-scale of each class, a what the group does to the entry. Sweeps
of closed-form steps, then Newton. Entries on a class that nothing feeds or nothing reads are set to 0: their scale is
free, so that no function of them is invariant, and they do not act.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nfn_cli.errors import Refused
from nfn_cli.symmetry.solve import Action, Symmetry

_SWEEPS, _NEWTON_STEPS, _DONE = 12, 60, 1e-14
_HESSIAN_ENTRIES = 1 << 24


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """Group g of slots is multiplied by exp(Σ_j coefficient[j, g] · x[classes[j, g]]); the last class is "fixed"."""

    classes: Tensor
    coefficient: Tensor
    of_slot: Tensor  # (slots,) group of each

    def log_factor(self, x: Tensor) -> Tensor:
        """(b, classes + 1) -> (b, groups)."""
        return (self.coefficient * x[:, self.classes]).sum(1)

    def counted(self, live: Tensor) -> Tensor:
        """(b, classes + 1) bool -> (b, groups): 1 where all classes are live."""
        return (live[:, self.classes] | (self.coefficient == 0)).all(1).to(torch.float64)


@dataclass(frozen=True, slots=True, eq=False)
class _Term:
    """Squares of one tensor between two sides: energy (b, rows, columns)."""

    energy: Tensor
    sides: tuple[_Side, _Side]

    def moved(self, x: Tensor) -> Tensor:
        """The squares at x, rows and columns kept."""
        rows, columns = (2 * side.log_factor(x) for side in self.sides)
        return self.energy * (rows[:, :, None] + columns[:, None, :]).exp()


def balanced(symmetry: Symmetry, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Stacked tensors (b, *shape) in float64 -> those of the balanced members of their scale orbits.

    Raises:
        Refused: a tensor has more than two scaled axes (code "unsupported-scales").
    """
    classes = int(symmetry.classes["scale"].max(initial=-1)) + 1
    if not classes:
        return dict(tensors)
    chunk = max(1, _HESSIAN_ENTRIES // (classes + 1) ** 2)
    rows = len(next(iter(tensors.values())))
    parts = [
        _balanced(symmetry, {name: t[start : start + chunk] for name, t in tensors.items()}, classes)
        for start in range(0, rows, chunk)
    ]
    return {name: torch.cat([part[name] for part in parts]) for name in tensors}


def _balanced(symmetry: Symmetry, tensors: Mapping[str, Tensor], classes: int) -> dict[str, Tensor]:
    terms = [
        term for name, t in tensors.items() if (term := _term(symmetry, symmetry.actions.get(name, ()), t, classes))
    ]
    rows = len(next(iter(tensors.values())))
    live = _live(terms, rows, classes)
    terms = [
        _Term(t.energy * t.sides[0].counted(live)[:, :, None] * t.sides[1].counted(live)[:, None, :], t.sides)
        for t in terms
    ]
    x = torch.zeros(rows, classes + 1, dtype=torch.float64)
    _sweep(terms, _families(symmetry, classes), x, live)
    _newton(terms, x, live)
    return {name: _applied(symmetry, symmetry.actions.get(name, ()), t, x, live) for name, t in tensors.items()}


def _term(symmetry: Symmetry, actions: tuple[Action, ...], tensor: Tensor, classes: int) -> _Term | None:
    scaled = sorted({action.dim for action in actions if action.scaled})
    if not scaled:
        return None
    if len(scaled) > 2:
        raise Refused("a tensor has more than two scaled axes", where=actions[0].tensor, code="unsupported-scales")
    energy, dims = tensor.square(), list(scaled)
    if any(action.groups > 1 and action.scaled for action in actions):
        energy, dims = _unfolded(energy, max(action.groups for action in actions)), [0, 1]
    energy = energy.movedim([d + 1 for d in dims], list(range(1, len(dims) + 1)))
    energy = energy.reshape(*energy.shape[: len(dims) + 1], -1).sum(-1)
    sides = []
    for place, dim in enumerate(dims):
        mine = [action for action in actions if action.dim == dim and action.exponent]
        side = _side(symmetry, mine, classes, energy.shape[place + 1])
        summed = torch.zeros(*energy.shape[: place + 1], side.classes.shape[1], *energy.shape[place + 2 :]).double()
        energy = summed.index_add(place + 1, side.of_slot, energy)
        sides.append(side)
    if len(sides) == 1:
        sides.append(_side(symmetry, [], classes, 1))
        energy = energy[:, :, None]
    return _Term(energy, (sides[0], sides[1]))


def _unfolded(energy: Tensor, groups: int) -> Tensor:
    """(b, rows, width, …) of a grouped convolution -> (b, rows, groups · width) block-diagonal."""
    summed = energy.flatten(3).sum(3) if energy.ndim > 3 else energy
    b, rows, width = summed.shape
    out = summed.new_zeros(b, rows, groups, width)
    out[:, torch.arange(rows), torch.arange(rows) // (rows // groups)] = summed
    return out.reshape(b, rows, groups * width)


def _side(symmetry: Symmetry, actions: list[Action], classes: int, length: int) -> _Side:
    """Slots that always get the same factor form a group."""
    table = np.append(symmetry.classes["scale"], classes)
    found = [np.full((1, length), classes)] if not actions else [table[a.scale] for a in actions]
    powers = [np.zeros((1, length))] if not actions else [(a.power * a.exponent).astype(np.float64) for a in actions]
    of, power = np.concatenate(found), np.concatenate(powers)
    power[of == classes] = 0.0
    columns, group = np.unique(np.concatenate([of, power]), axis=1, return_inverse=True)
    depth = len(of)
    return _Side(
        torch.from_numpy(columns[:depth].astype(np.int64)),
        torch.from_numpy(columns[depth:].copy()),
        torch.from_numpy(group.reshape(-1).astype(np.int64)),
    )


def _pulls(terms: list[_Term], x: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """(b, classes + 1) each: Σ|c|E over entries that grow with the class, over those that shrink, and Σ c²E."""
    up, down, curvature = (torch.zeros(len(x), size, dtype=torch.float64) for _ in range(3))
    for term in terms:
        moved = term.moved(x)
        for side, total in zip(term.sides, (moved.sum(2), moved.sum(1)), strict=True):
            for classes, c in zip(side.classes, side.coefficient, strict=True):
                up.index_add_(1, classes, total * c.clamp(min=0))
                down.index_add_(1, classes, total * (-c).clamp(min=0))
                curvature.index_add_(1, classes, total * c * c)
    return up, down, curvature


def _live(terms: list[_Term], rows: int, classes: int) -> Tensor:
    """(b, classes + 1) bool: classes with weights on both sides, dead ones left out again and again."""
    live = torch.ones(rows, classes + 1, dtype=torch.bool)
    zeros = torch.zeros(rows, classes + 1, dtype=torch.float64)
    while True:
        kept = [
            _Term(
                ((t.energy > 0) * t.sides[0].counted(live)[:, :, None] * t.sides[1].counted(live)[:, None, :]).double(),
                t.sides,
            )
            for t in terms
        ]
        up, down, _ = _pulls(kept, zeros, classes + 1)
        still = live & (up > 0) & (down > 0)
        still[:, -1] = True
        if bool((still == live).all()):
            return live
        live = still


def _families(symmetry: Symmetry, classes: int) -> list[Tensor]:
    """Classes of each (unit set, scale family), each class once."""
    seen = np.zeros(classes, bool)
    found = []
    for index, unit_set in enumerate(symmetry.unit_sets):
        start = symmetry.starts["scale"][index]
        for row in range(unit_set.families["scale"]):
            mine = np.unique(symmetry.classes["scale"][start + row * unit_set.size : start + (row + 1) * unit_set.size])
            mine = mine[~seen[mine]]
            seen[mine] = True
            if len(mine):
                found.append(torch.from_numpy(mine))
    return found


def _sweep(terms: list[_Term], families: list[Tensor], x: Tensor, live: Tensor) -> None:
    """One family after another moves to where what grows and what shrinks balance; x changes in place."""
    touching = [
        [t for t in terms if any(bool(torch.isin(side.classes, family).any()) for side in t.sides)]
        for family in families
    ]
    for _ in range(_SWEEPS):
        for family, mine in zip(families, touching, strict=True):
            up, down, curvature = (p[:, family] for p in _pulls(mine, x, x.shape[1]))
            # log of the ratio over twice the mean coefficients: exact for ±1, short of the minimum otherwise
            spread = 2 * (curvature / (up + down).clamp(min=1e-300)).clamp(min=1.0)
            good = live[:, family] & (up > 0) & (down > 0)
            ratio = torch.where(good, down, torch.ones_like(down)).log()
            ratio = ratio - torch.where(good, up, torch.ones_like(up)).log()
            x[:, family] += ratio / (2 * spread)


def _newton(terms: list[_Term], x: Tensor, live: Tensor) -> None:
    """Newton on all classes at once, steps clipped to 1; x changes in place."""
    b, size = x.shape
    for _ in range(_NEWTON_STEPS):
        up, down, curvature = _pulls(terms, x, size)
        still = ~live | (curvature == 0)
        still[:, -1] = True
        hessian = torch.zeros(b, size * size, dtype=torch.float64)
        for term in terms:
            _add_curvature(hessian, term, x, size)
        hessian = hessian.reshape(b, size, size)
        diagonal = torch.where(still, torch.ones_like(curvature), torch.diagonal(hessian, dim1=1, dim2=2))
        root = diagonal.clamp(min=1e-300).sqrt()
        # Jacobi scaling: units differ by many orders of magnitude, their ratios to the diagonal do not.
        system = hessian / root[:, :, None] / root[:, None, :]
        system = system * (~still)[:, :, None] * (~still)[:, None, :]
        torch.diagonal(system, dim1=1, dim2=2).copy_(torch.ones_like(root) * (1 + 1e-13))
        gradient = torch.where(still, torch.zeros_like(up), up - down)
        step = -torch.linalg.solve(system, (gradient / root)[..., None])[..., 0] / root / 2
        step = torch.where(still, torch.zeros_like(step), step)
        x += step * (1.0 / step.abs().amax(1, keepdim=True).clamp(min=1.0))
        if float(step.abs().max()) < _DONE:
            return


def _add_curvature(hessian: Tensor, term: _Term, x: Tensor, size: int) -> None:
    """Adds Σ a aᵀ E of one tensor, flat (b, size · size)."""
    moved = term.moved(x)
    for side, total in zip(term.sides, (moved.sum(2), moved.sum(1)), strict=True):
        for c1, a1 in zip(side.classes, side.coefficient, strict=True):
            for c2, a2 in zip(side.classes, side.coefficient, strict=True):
                hessian.index_add_(1, c1 * size + c2, total * (a1 * a2))
    rows, columns = term.sides
    for c1, a1 in zip(rows.classes, rows.coefficient, strict=True):
        for c2, a2 in zip(columns.classes, columns.coefficient, strict=True):
            block = (moved * a1[:, None] * a2[None, :]).flatten(1)
            hessian.index_add_(1, (c1[:, None] * size + c2[None, :]).reshape(-1), block)
            hessian.index_add_(1, (c2[None, :] * size + c1[:, None]).reshape(-1), block)


def _applied(symmetry: Symmetry, actions: tuple[Action, ...], tensor: Tensor, x: Tensor, live: Tensor) -> Tensor:
    """The tensor after the scales exp(x); entries on a dead class become 0."""
    table = torch.from_numpy(np.append(symmetry.classes["scale"], x.shape[1] - 1))
    for action in actions:
        if not action.scaled:
            continue
        classes = table[torch.from_numpy(action.scale)]  # (D, slots)
        power = torch.from_numpy((action.power * action.exponent).astype(np.float64))
        power = torch.where(classes == x.shape[1] - 1, torch.zeros_like(power), power)
        factor = (power * x[:, classes]).sum(1).exp() * (live[:, classes] | (power == 0)).all(1)
        tensor = _multiplied(tensor, factor, action)
    return tensor


def _multiplied(tensor: Tensor, factor: Tensor, action: Action) -> Tensor:
    """`factor` (b, slots) along an axis; of a grouped axis 1 each group of rows takes its own part."""
    if action.groups == 1:
        shape: list[Any] = [len(tensor)] + [1] * (tensor.ndim - 1)
        shape[action.dim + 1] = -1
        return tensor * factor.reshape(shape)
    split = tensor.reshape(len(tensor), action.groups, -1, *tensor.shape[2:])
    tail = [1] * (tensor.ndim - 3)
    return (split * factor.reshape(len(factor), action.groups, 1, -1, *tail)).reshape(tensor.shape)
