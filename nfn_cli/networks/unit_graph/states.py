"""unit_graph/states.py: what a model knows of each slot, in a part that no sign moves and a part that flips. Knows torch.

A slot that a sign flips is lifted to its two versions, `even + odd` and `even − odd`; a learned function is applied to
both with the same weights, and what comes out is split again. A slot that nothing flips has one version, kept as
even = odd, so that a message sees it once and whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nfn_cli.networks.unit_graph.slots import Link, Slots


@dataclass(frozen=True, slots=True)
class State:
    """(b, n, channels) each; equal on slots that nothing flips. n = 1 where only an average is kept."""

    even: Tensor
    odd: Tensor

    def plus(self, other: State) -> State:
        return State(self.even + other.even, self.odd + other.odd)


def flips(slots: Slots | None) -> Tensor:
    """(n, 1) bool: slots that a sign flips."""
    if slots is None:
        return torch.zeros(1, 1, dtype=torch.bool)
    return torch.from_numpy(slots.signs >= 0)[:, None]


def lifted(function: Callable[[Tensor], Tensor], even: Tensor, odd: Tensor, flipping: Tensor) -> State:
    """`function` applied to both versions of each slot. What arrives at a slot that nothing flips is even + odd."""
    plus = function(even + odd)
    if not bool(flipping.any()):
        return State(plus, plus)
    minus = function(even - odd)
    mean, half = (plus + minus) / 2, (plus - minus) / 2
    return State(torch.where(flipping, mean, plus), torch.where(flipping, half, plus))


def whole(state: State, flipping: Tensor) -> Tensor:
    """What a function of one version is to be applied to: halves of a slot that nothing flips are not added up twice."""
    return torch.where(flipping, state.odd, torch.zeros_like(state.odd))


def settled(even: Tensor, odd: Tensor, keep: Tensor, flipping: Tensor) -> State:
    """Where signs agree (`keep` (n, 1)) the state; elsewhere its even part, as the whole of a slot that nothing flips."""
    return State(even, torch.where(keep, odd, torch.where(flipping, torch.zeros_like(odd), even)))


def arrived(link: Link, state: State) -> State:
    """What an axis sees of the value it reads."""
    keep, flipping = torch.from_numpy(link.keep)[:, None], torch.from_numpy(link.flipping)[:, None]
    if not link.aligned:
        mean = state.even.mean(1, keepdim=True).expand(-1, len(link.keep), -1)
        return settled(mean, mean, torch.zeros_like(keep), flipping)
    return settled(state.even, state.odd, keep, flipping)


def landed(link: Link, state: State, slots: Slots | None) -> State:
    """The way back: from the axis that reads to the value (its slots) that is read."""
    flipping = flips(slots)
    if not link.aligned:
        return averaged([state], slots)
    return settled(state.even, state.odd, torch.from_numpy(link.keep)[:, None], flipping)


def averaged(states: list[State], slots: Slots | None) -> State:
    """The mean over all slots of all states, at every slot of `slots`."""
    flipping = flips(slots)
    mean = torch.stack([state.even.mean(1, keepdim=True) for state in states]).mean(0).expand(-1, len(flipping), -1)
    return settled(mean, mean, torch.zeros_like(flipping), flipping)
