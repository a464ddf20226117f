"""unit_graph/message_passing.py: one sweep of messages up a plan and one down, learned. Knows plans, states and torch.

Each op of the network acts on states of slots as it acts on activations: a layer sums messages over its incoming slots,
a function is a learned function of both versions of a slot, an addition adds. What moves the slots moves the states.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nfn_cli.networks.unit_graph.activation_features import ACTIVATION_FEATURES, activation_features
from nfn_cli.networks.unit_graph.blocks import COEFFICIENTS
from nfn_cli.networks.unit_graph.encoding import UnitGraphGroup
from nfn_cli.networks.unit_graph.plan import (
    BlurStep,
    JoinStep,
    LayerStep,
    Plan,
    PointwiseStep,
    ShiftStep,
    Step,
    TakeStep,
)
from nfn_cli.networks.unit_graph.states import State, arrived, averaged, flips, landed, lifted, settled, whole

States = dict[str, State]


class EdgeFunctions(nn.Module):
    """Smooth coefficients of an edge -> even and odd functions of it, `functions` of each."""

    def __init__(self, functions: int) -> None:
        super().__init__()
        self.even = nn.Linear(COEFFICIENTS, functions, bias=False)
        self.odd = nn.Linear(COEFFICIENTS, functions, bias=False)

    def forward(self, edges: Tensor) -> tuple[Tensor, Tensor]:
        """(…, COEFFICIENTS) -> (…, functions) twice; the square root is softened, so that its slope stays finite."""
        even = torch.sqrt(self.even(edges).square() + 1e-2) - 0.1
        return even, self.odd(edges)


class Messages(nn.Module):
    """States of the slots at one end of a layer -> what arrives at the other end."""

    def __init__(self, functions: int, channels: int) -> None:
        super().__init__()
        self.channels, self.functions = channels, functions
        self.even = nn.Linear(channels, functions * channels, bias=False)
        self.odd = nn.Linear(channels, functions * channels, bias=False)

    def forward(self, edges: tuple[Tensor, Tensor], state: State) -> State:
        """Edge functions (b, groups, to, from, functions) and state (b, groups·from, channels) -> (b, groups·to, channels)."""
        count = edges[0].shape[3]
        even = self._summed(edges[0], self.even(state.even)) / (count * self.functions**0.5)
        odd = self._summed(edges[1], self.odd(state.odd)) / (count * self.functions) ** 0.5
        return State(even, odd)

    def _summed(self, edges: Tensor, sent: Tensor) -> Tensor:
        b, groups, to, count, functions = edges.shape
        sent = sent.reshape(b, groups, count * functions, self.channels)
        return (edges.reshape(b, groups, to, count * functions) @ sent).reshape(b, groups * to, self.channels)


class MessagePassing(nn.Module):
    """Group of networks -> for each layer the pooled states of what it writes, (b, layers, 3 · channels)."""

    def __init__(self, functions: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.edges = EdgeFunctions(functions)
        self.up, self.down = Messages(functions, channels), Messages(functions, channels)
        self.start = nn.Parameter(torch.randn(2, channels) * 0.5)
        self.bias_odd = nn.Linear(1, channels, bias=False)
        self.bias_even = nn.Linear(1, channels)
        self.rise = _function(channels + ACTIVATION_FEATURES, channels)
        self.fall = _function(2 * channels + ACTIVATION_FEATURES, channels)
        self.read = _function(2 * channels, channels)

    def forward(self, group: UnitGraphGroup) -> Tensor:
        plan = group.plan
        edges = [self.edges(each) for each in group.edges]
        up = self._upward(plan, group, edges)
        down = self._downward(plan, edges, up)
        pooled = []
        for step in plan.layers:
            flipping = flips(plan.values[step.writes])
            both = _beside(up[step.writes], down[step.writes])
            pooled.append(_pooled(lifted(self.read, both.even, whole(both, flipping), flipping), flipping))
        return torch.stack(pooled, 1)

    def _upward(self, plan: Plan, group: UnitGraphGroup, edges: list[tuple[Tensor, Tensor]]) -> States:
        b = len(group)
        states: States = {}
        for name in plan.inputs:
            slots = plan.values[name]
            start = self.start[0].expand(b, 1 if slots is None else len(slots), -1)
            states[name] = State(start, start)
        addends = iter(group.biases[len(plan.layers) :])
        for step in plan.steps:
            if isinstance(step, LayerStep):
                message = self.up(edges[step.number], arrived(step.link, states[step.reads]))
                states[step.writes] = self._added(plan, step.writes, message, group.biases[step.number], fresh=True)
            elif isinstance(step, ShiftStep):
                states[step.writes] = self._added(plan, step.writes, states[step.reads], next(addends), fresh=False)
            elif isinstance(step, PointwiseStep):
                states[step.writes] = self._risen(plan, step, states[step.reads])
            else:
                states[step.writes] = _combined(plan, step, states, self.start[0], b)
        return states

    def _added(self, plan: Plan, name: str, state: State, bias: Tensor, fresh: bool) -> State:
        """A bias joins what arrives; on slots that nothing flips the sum of both parts is the whole."""
        flipping = flips(plan.values[name])
        odd, even = self.bias_odd(bias[:, :, :1]), self.bias_even(bias[:, :, 1:])
        together = state.even + state.odd if fresh else state.even
        together = together + even + odd
        return State(
            torch.where(flipping, state.even + even, together), torch.where(flipping, state.odd + odd, together)
        )

    def _risen(self, plan: Plan, step: PointwiseStep, state: State) -> State:
        if not step.name:
            return state
        flipping = flips(plan.values[step.reads])
        features = activation_features(step.name).to(state.even)

        def function(version: Tensor) -> Tensor:
            return torch.as_tensor(self.rise(_with(version, features)))

        return lifted(function, state.even, whole(state, flipping), flipping)

    def _downward(self, plan: Plan, edges: list[tuple[Tensor, Tensor]], up: States) -> States:
        states: States = {}
        for name, state in up.items():
            nothing = torch.zeros_like(state.even)
            states[name] = State(nothing, nothing)
        for name in plan.outputs:
            flipping = flips(plan.values[name])
            start = self.start[1].expand_as(states[name].even)
            states[name] = states[name].plus(State(start, torch.where(flipping, torch.zeros_like(start), start)))
        for step in reversed(plan.steps):
            if isinstance(step, LayerStep):
                back = tuple(each.transpose(2, 3) for each in edges[step.number])
                message = self.down((back[0], back[1]), states[step.writes])
                flipping = torch.from_numpy(step.link.flipping)[:, None]
                together = message.even + message.odd
                message = State(
                    torch.where(flipping, message.even, together), torch.where(flipping, message.odd, together)
                )
                states[step.reads] = states[step.reads].plus(landed(step.link, message, plan.values[step.reads]))
            elif isinstance(step, PointwiseStep) and step.name:
                states[step.reads] = states[step.reads].plus(self._fallen(plan, step, states, up))
            else:
                _returned(plan, step, states)
        return states

    def _fallen(self, plan: Plan, step: PointwiseStep, states: States, up: States) -> State:
        flipping = flips(plan.values[step.reads])
        both = _beside(states[step.writes], up[step.reads])
        features = activation_features(step.name).to(both.even)

        def function(version: Tensor) -> Tensor:
            return torch.as_tensor(self.fall(_with(version, features)))

        return lifted(function, both.even, whole(both, flipping), flipping)


def _function(into: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(into), nn.Linear(into, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels)
    )


def _with(version: Tensor, features: Tensor) -> Tensor:
    return torch.cat([version, features.expand(*version.shape[:-1], -1)], -1)


def _beside(left: State, right: State) -> State:
    return State(torch.cat([left.even, right.even], -1), torch.cat([left.odd, right.odd], -1))


def _pooled(state: State, flipping: Tensor) -> Tensor:
    """Mean, root mean square and largest version over slots: (b, 3 · channels)."""
    odd = whole(state, flipping)
    square = (state.even.square() + odd.square()).mean(1)
    largest = (state.even + odd.abs()).amax(1)
    return torch.cat([state.even.mean(1), (square + 1e-6).sqrt(), largest], -1)


def _combined(plan: Plan, step: Step, states: Mapping[str, State], start: Tensor, b: int) -> State:
    """Additions and products, slots taken from several values, and averages."""
    assert isinstance(step, JoinStep | TakeStep | BlurStep)
    read = [states[name] for name in step.reads]
    if isinstance(step, TakeStep):
        index = torch.from_numpy(step.index)
        return State(torch.cat([s.even for s in read], 1)[:, index], torch.cat([s.odd for s in read], 1)[:, index])
    if isinstance(step, JoinStep):
        even, odd = read[0].even, read[0].odd
        for state in read[1:]:
            even, odd = (even * state.even, odd * state.odd) if step.product else (even + state.even, odd + state.odd)
        return settled(even, odd, torch.from_numpy(step.keep)[:, None], flips(plan.values[step.writes]))
    if not read:
        whole_start = start.expand(b, 1, -1)
        return State(whole_start, whole_start)
    return averaged(read, plan.values[step.writes])


def _returned(plan: Plan, step: Step, states: States) -> None:
    """The way back through an op that is not learned: each value read gets its share, in place."""
    state = states[step.writes]
    if isinstance(step, PointwiseStep | ShiftStep):
        states[step.reads] = states[step.reads].plus(state)
        return
    assert isinstance(step, JoinStep | TakeStep | BlurStep)
    start = 0
    for name in step.reads:
        slots = plan.values[name]
        count = states[name].even.shape[1]
        if isinstance(step, JoinStep):
            share = settled(state.even, state.odd, torch.from_numpy(step.keep)[:, None], flips(slots))
        elif isinstance(step, TakeStep):
            share = _scattered(step, state, start, count)
            start += count
        else:
            share = averaged([state], slots)
        states[name] = states[name].plus(share)


def _scattered(step: TakeStep, state: State, start: int, count: int) -> State:
    here = torch.from_numpy((step.index >= start) & (step.index < start + count))
    index = torch.from_numpy(step.index)[here] - start
    shape = (len(state.even), count, state.even.shape[2])
    even = state.even.new_zeros(shape).index_add(1, index, state.even[:, here])
    odd = state.odd.new_zeros(shape).index_add(1, index, state.odd[:, here])
    return State(even, odd)
