"""On random networks of all ops together: no claim is refuted, and never is more counted than there is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nfn_cli.checkpoint import Checkpoint
from nfn_cli.graph.model import GraphInput, Network
from nfn_cli.symmetry import symmetry_report

from .networks import Builder, Tensors
from .null_space import null_dimension

Width = tuple[str, int]  # a value and its number of units
Step = Callable[["Walk", Width], Width | None]


class Walk:
    """Ops on vectors, each reading the last value or, sometimes, an earlier one."""

    def __init__(self, seed: int) -> None:
        self.b = Builder(seed, [GraphInput("x", (None, 3))])
        self.random = np.random.default_rng([seed, 1])
        self.values: list[Width] = [("x", 3)]

    def chance(self, p: float) -> bool:
        return bool(self.random.random() < p)

    def fresh(self, *shape: int) -> str:
        return self.b.tensor(f"t{len(self.b.tensors)}", *shape)

    def earlier(self, units: int | None = None) -> Width:
        fitting = [value for value in self.values if units in (None, value[1])]
        return fitting[self.random.integers(len(fitting))]


def linear(w: Walk, x: Width) -> Width:
    out = int(w.random.integers(2, 5))
    roles = {"weight": w.fresh(out, x[1])} | ({"bias": w.fresh(out)} if w.chance(0.6) else {})
    return w.b.op("linear", [x[0]], roles, out_axis=0, in_axis=1), out


def activation(w: Walk, x: Width) -> Width:
    function = ("tanh", "identity", "sigmoid", "relu6", "gelu", "prelu")[w.random.integers(6)]
    roles = {"weight": w.fresh(x[1])} if function == "prelu" else {}
    return w.b.op("pointwise", [x[0]], roles, function=function), x[1]


def batch_norm(w: Walk, x: Width) -> Width:
    return w.b.norm(x[0], f"n{len(w.b.tensors)}", x[1], w.chance(0.7)), x[1]


def layer_norm(w: Walk, x: Width) -> Width | None:
    if x[1] < 3:
        return None
    roles = {"weight": w.fresh(x[1])} | ({"bias": w.fresh(x[1])} if w.chance(0.7) else {})
    return w.b.op("layer_norm", [x[0]], roles, eps=0.5), x[1]


def rms(w: Walk, x: Width) -> Width:
    return w.b.op("rms_normalize", [x[0]], axes=[1], eps=0.5), x[1]


def softmax(w: Walk, x: Width) -> Width | None:
    return None if x[1] < 3 else (w.b.op("softmax", [x[0]], axis=1), x[1])


def scale(w: Walk, x: Width) -> Width:
    return w.b.op("scale", [x[0]], {"weight": w.fresh(x[1])}, axis=1), x[1]


def add(w: Walk, x: Width) -> Width | None:
    other = w.earlier(x[1])
    return None if other in (x, ("x", 3)) else (w.b.op("add", [x[0], other[0]]), x[1])


def concat(w: Walk, x: Width) -> Width | None:
    other = w.earlier()
    return None if other == x or x[1] + other[1] > 6 else (w.b.op("concat", [x[0], other[0]], axis=1), x[1] + other[1])


def cut(w: Walk, x: Width) -> Width | None:
    return None if x[1] < 3 else (w.b.op("slice", [x[0]], axis=1, start=0, stop=x[1] - 1), x[1] - 1)


STEPS: list[Step] = [linear] * 3 + [activation] * 2 + [add] * 2
STEPS += [batch_norm, layer_norm, rms, softmax, scale, concat, cut]


def drawn(seed: int) -> tuple[Network, Tensors]:
    walk = Walk(seed)
    for _ in range(walk.random.integers(4, 10)):
        x = walk.values[-1] if walk.chance(0.75) else walk.earlier()
        made = STEPS[walk.random.integers(len(STEPS))](walk, x)
        if made is not None:
            walk.values.append(made)
    return walk.b.network(linear(walk, walk.values[-1])[0])


def test_claims_on_random_networks_are_right_and_never_too_many() -> None:
    exact = found = 0
    for seed in range(60):
        network, tensors = drawn(seed)
        (report,) = symmetry_report(Checkpoint("x", "safetensors", tensors), [network], elements=1).networks
        assert report.check.passed, seed
        assert not report.extras.refuted, seed
        try:
            there = null_dimension(network, tensors)
        except AssertionError:  # the rank cannot be told
            continue
        counted = report.continuous_dimension + report.extras.dimension
        assert counted <= there, seed
        exact += counted == there
        found += report.extras.dimension > 0
    assert exact > 8
    assert found > 30
