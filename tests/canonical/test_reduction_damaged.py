"""Every pattern of networks with zeroed, copied and scaled rows, columns and gains: what is removed never changes the function."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from nfn_cli.canonical.reduction import ReduceOptions, reduce
from nfn_cli.canonical.reduction.dead import Reader
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import AnswerIsNo
from nfn_cli.graph.architecture_index import library_graph
from nfn_cli.graph.model import Network

from ..symmetry import patterns_of_amounts  # noqa: F401 — fills the table
from ..symmetry.extras_networks import CASES
from ..symmetry.networks import ALL, Tensors
from ..symmetry.patterns import PATTERNS, made
from .widening import moved, widened

MAKERS: dict[str, Callable[[int], tuple[Network, Tensors]]] = {
    **ALL,
    **{name: (lambda seed, name=name: made(name, 4, seed)) for name in PATTERNS if name != "unknown_op"},
    **{name: maker for name, (maker, _) in CASES.items()},
}


def damaged(tensors: Tensors, seed: int) -> Tensors:
    generator = np.random.default_rng(seed)
    out = {name: array.copy() for name, array in tensors.items()}
    for name, array in out.items():
        if array.ndim > 1:
            for axis in (0, 1):
                _damage(out, name, np.moveaxis(array, axis, 0), axis, generator)
        elif array.size > 1 and "var" not in name and generator.random() < 0.5:
            array[generator.integers(array.size)] = 0.0
    return out


def _damage(out: Tensors, name: str, slots: np.ndarray, axis: int, generator: np.random.Generator) -> None:
    n = len(slots)
    if n < 2:
        return
    if generator.random() < 0.5:
        slots[generator.integers(n)] = 0.0
    if generator.random() < 0.6:
        source, target = generator.choice(n, 2, replace=False)
        factor = generator.choice([1.0, 2.0, -1.0, 0.5])
        slots[target] = factor * slots[source]
        bias = out.get(f"{name.removesuffix('weight')}bias")
        if axis == 0 and bias is not None and bias.shape == (n,):
            bias[target] = factor * bias[source]


@pytest.mark.parametrize("kind", MAKERS)
def test_damaged_networks_keep_their_function(kind: str) -> None:
    network, tensors = MAKERS[kind](1)
    checkpoint = Checkpoint("a file", "npz", damaged(tensors, 1))
    once = reduce(checkpoint, [network])
    assert once.relative_change <= once.tolerance == 1e-9
    assert reduce(once.checkpoint, once.networks).removed == ()
    more = reduce(checkpoint, [network], ReduceOptions(input_range=(-0.5, 0.5), linear=True))
    assert more.relative_change <= 1e-9


def test_damage_is_found() -> None:
    found: Counter[str] = Counter()
    for kind in ("mlp-relu", "mlp-tanh", "cnn-silu", "residual-relu", "depthwise-relu", "grouped-tanh"):
        network, tensors = MAKERS[kind](0)
        found.update(unit.rule for unit in reduce(Checkpoint("a file", "npz", damaged(tensors, 0)), [network]).removed)
    assert min(found["unread"], found["constant"], found["duplicate"]) > 2


def test_a_wrong_claim_is_caught_by_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here: the claim that what slot 0 of every layer feeds is not needed."""
    network, tensors = ALL["cnn-relu"](0)
    honest = Reader.needs
    monkeypatch.setattr(
        Reader, "needs", lambda self, keep: (lambda found: None if found is None else found[1:])(honest(self, keep))
    )
    with pytest.raises(AnswerIsNo) as refused:
        reduce(Checkpoint("a file", "npz", tensors), [network])
    assert refused.value.code == "verification-failed"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["torchvision:mobilenet_v2", "torchvision:squeezenet1_1", "torchvision:efficientnet_b0"]
)
def test_widened_library_networks_come_back(name: str) -> None:
    """Depthwise convolutions, batch norm, squeeze and excitation, fire modules, in float32."""
    graph, generator = library_graph(name), np.random.default_rng(0)
    tensors = {}
    for tensor, shape in graph.parameter_shapes.items():
        values = generator.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[1:])))
        tensors[tensor] = np.abs(values) + 0.5 if tensor.endswith("running_var") else values
    wide, more = widened(Network("", "cnn", graph), tensors, 1)
    single = {tensor: array.astype(np.float32) for tensor, array in moved(wide, more, 2).items()}
    result = reduce(Checkpoint("a file", "npz", single), [wide])
    assert all(result.checkpoint.tensors[tensor].shape == array.shape for tensor, array in tensors.items())
    assert result.relative_change < 1e-5
