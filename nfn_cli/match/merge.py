"""match/merge.py: several networks of one architecture as one: each brought into the frame of the first, then averaged.

Three and more are then aligned again and again to the mean of all others, as MergeMany of Git Re-Basin does (arXiv 2209.04836,
algorithm 3), with scales and signs. Knows alignment; runs no network on data, writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nfn_cli.checkpoint.dtypes import is_floating
from nfn_cli.checkpoint.finite import check_finite
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import Refused, WrongUsage
from nfn_cli.graph.model import Network
from nfn_cli.match.align import Aligned, align
from nfn_cli.match.comparison import compared, cost
from nfn_cli.match.frame import Wide, framed
from nfn_cli.match.merge_average import Tensors, averaged, shares, stored
from nfn_cli.match.merge_result import Member, Merged
from nfn_cli.match.pairing import Partner, Renamed, partners
from nfn_cli.printable import printable
from nfn_cli.symmetry.action import transformed
from nfn_cli.symmetry.element import FlatElement, FloatArray, GroupElement, to_flat
from nfn_cli.symmetry.solve import Symmetry, find_symmetry

ROUNDS = 10
_GAIN = 1e-9  # a realignment that gains less than this part of a squared distance is rounding


@dataclass(frozen=True)
class Source:
    """One network to be merged: a checkpoint and what was found in it."""

    checkpoint: Checkpoint
    networks: tuple[Network, ...]


def merge(
    sources: Sequence[Source],
    *,
    weights: Sequence[float] | None = None,
    rounds: int = ROUNDS,
    restarts: int = 0,
    seed: int = 0,
    correlations: Sequence[Mapping[int, FloatArray]] | None = None,
) -> Merged:
    """The weighted mean of networks of one architecture, after each was brought into the frame of the first.

    Which member of its orbit any of them is does not matter: that moves the result along its orbit only. Aligned is not the
    same as corresponding, so the mean is not promised to do what its members do. Running statistics of batch norms are
    averaged like weights; integers, and tensors that no network uses, are those of the first.

    Args:
        weights: one positive number each; what matters is their ratio. Equal by default.
        rounds: at most, over three networks and more; a round that does not lessen the spread is the last.
        restarts, seed: as for `align`.
        correlations: of each network but the first with that, as for `align`; no network is then aligned to a mean of others,
            whose responses nobody measured.

    Raises:
        Refused: different architectures, weights that are not finite, a mean too large for the first one's element type.
        WrongUsage: fewer than two networks; weights that make no sense.
        AnswerIsNo: aligning one changes its function (code "verification-failed").
    """
    if len(sources) < 2:
        raise WrongUsage("one network has nothing to be merged with", fix="name two or more")
    if rounds < 0:
        raise WrongUsage("rounds cannot be negative")
    parts = shares(weights, len(sources))
    search = _Search.around(sources[0], restarts, seed)
    found = [
        _Fit.of(search, source, None if correlations is None else correlations[number])
        for number, source in enumerate(sources[1:])
    ]
    spread = [search.spread(found, parts)]
    for _ in range(rounds if len(sources) > 2 and correlations is None else 0):
        if not _closer_to_the_others(search, found, parts):
            break
        spread.append(search.spread(found, parts))
    first = sources[0].checkpoint
    everyone = [search.first_tensors(), *(fit.tensors for fit in found)]
    mean = stored(averaged(everyone, parts, search.names), first.tensors)
    members = (search.first_member(parts[0]), *(fit.member(search, w) for fit, w in zip(found, parts[1:], strict=True)))
    return Merged(first.with_tensors(mean), members, tuple(spread), _notes(first, search.names))


@dataclass
class _Fit:
    """How one source fits the first, so far. Mutable: a better alignment takes the place of an older one."""

    source: Source
    partners: dict[str, Partner]
    first: Aligned
    aligned: Aligned

    @staticmethod
    def of(search: _Search, source: Source, correlations: Mapping[int, FloatArray] | None) -> _Fit:
        found = partners(search.first.networks, source.networks)
        done = search.align(source, search.first.checkpoint, correlations)
        return _Fit(source, found, done, done)

    @property
    def tensors(self) -> Tensors:
        return Renamed(self.aligned.checkpoint.tensors, self.partners)

    def member(self, search: _Search, weight: float) -> Member:
        ours = search.balanced(self.tensors)
        return Member(
            self.source.checkpoint.path,
            weight,
            self.tensors,
            cost(ours, search.target, search.even),
            self.first.start,
            compared(search.symmetry, ours, search.target).distance,
            search.symmetry.units,
            _moved(self.aligned.element),
            self.aligned.relative_change,
            self.aligned.tolerance,
        )


@dataclass(frozen=True)
class _Search:
    """The frame of the first network, in which distances are measured.

    Attributes:
        names: its tensors that networks use.
        unlike: those of them that share no memory with an earlier one.
        frame: leads to its balanced form.
        target: its float64 weights in balanced form.
        even: weight 1 for every tensor.
    """

    first: Source
    symmetry: Symmetry
    names: tuple[str, ...]
    unlike: tuple[str, ...]
    frame: FlatElement
    target: Wide
    even: dict[str, float]
    restarts: int
    seed: int

    @staticmethod
    def around(first: Source, restarts: int, seed: int) -> _Search:
        checkpoint = first.checkpoint
        names = tuple(partners(first.networks, first.networks))
        try:
            check_finite(checkpoint, names)
        except Refused as error:
            raise error.located(printable(checkpoint.path)) from None
        unlike = tuple(dict.fromkeys(checkpoint.aliases.get(name, name) for name in names))
        symmetry = find_symmetry(first.networks, checkpoint.aliases)
        frame = framed(symmetry, checkpoint.tensors, unlike, dead=False)
        even = dict.fromkeys(unlike, 1.0)
        return _Search(
            first, symmetry, names, unlike, to_flat(symmetry, frame.element), frame.tensors, even, restarts, seed
        )

    def align(self, source: Source, to: Checkpoint, correlations: Mapping[int, FloatArray] | None = None) -> Aligned:
        return align(
            source.checkpoint,
            source.networks,
            to,
            self.first.networks,
            restarts=self.restarts,
            seed=self.seed,
            correlations=correlations,
        )

    def balanced(self, tensors: Tensors) -> Wide:
        """What is in the frame of the first, in its balanced form."""
        actions = self.symmetry.actions
        return {
            name: transformed(np.asarray(tensors[name]).astype(np.float64), actions.get(name, ()), self.frame)
            for name in self.unlike
        }

    def apart(self, left: Tensors, right: Tensors) -> float:
        """Squared distance of two sets of weights that are in the frame of the first."""
        return cost(self.balanced(left), self.balanced(right), self.even)

    def spread(self, found: Sequence[_Fit], parts: Sequence[float]) -> float:
        everyone = [self.first_tensors(), *(fit.tensors for fit in found)]
        mean = averaged(everyone, parts, self.unlike)
        return sum(part * self.apart(tensors, mean) for tensors, part in zip(everyone, parts, strict=True))

    def first_tensors(self) -> Tensors:
        return self.first.checkpoint.tensors

    def first_member(self, weight: float) -> Member:
        units = self.symmetry.units
        return Member(self.first.checkpoint.path, weight, self.first_tensors(), 0.0, 0.0, 0.0, units, 0, 0.0, 0.0)


def _closer_to_the_others(search: _Search, found: list[_Fit], parts: Sequence[float]) -> bool:
    """Align each but the first to the weighted mean of all others, where that brings it closer; whether any came closer.

    The spread is w(1 − w)‖member − mean of the others‖² plus what does not depend on the member: it shrinks with each.
    """
    better = False
    for number, fit in enumerate(found):
        others = [search.first_tensors(), *(each.tensors for each in found if each is not fit)]
        rest = [part for place, part in enumerate(parts) if place != number + 1]
        mean = averaged(others, [part / sum(rest) for part in rest], search.names)
        tried = replace(fit, aligned=search.align(fit.source, search.first.checkpoint.with_tensors(mean)))
        if search.apart(tried.tensors, mean) < search.apart(fit.tensors, mean) * (1 - _GAIN):
            fit.aligned, better = tried.aligned, True
    return better


def _moved(element: GroupElement) -> int:
    return sum(int((part.permutation != np.arange(len(part.permutation))).sum()) for part in element.sets.values())


def _notes(first: Checkpoint, names: Sequence[str]) -> tuple[str, ...]:
    used = {*names, *(first.aliases.get(name, name) for name in names)}
    left = [n for n, array in first.tensors.items() if n not in used and array.ndim and is_floating(array.dtype)]
    if not left:
        return ()
    more = f" and {len(left) - 1} more" if len(left) > 1 else ""
    return (f"{left[0]}{more}: used by no network that was found, taken from the first as it is",)
