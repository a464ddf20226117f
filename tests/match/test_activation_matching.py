"""Units are found again by how they respond to inputs; the result computes the same; what cannot be run is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import Refused, WrongUsage
from nfn_cli.graph.model import Network
from nfn_cli.match.activation_matching import matched_units
from nfn_cli.match.align import Aligned, align
from nfn_cli.match.equivalent import paired
from nfn_cli.networks.graph_evaluator import unknown_in
from nfn_cli.networks.unit_correlations import unit_correlations
from nfn_cli.symmetry.element import FloatArray, random_flat
from nfn_cli.symmetry.solve import find_symmetry

from ..symmetry.networks import ALL, Tensors, mlp
from .test_alignment import acted, far


def told(network: Network) -> Network:
    """With what names alone do not tell."""
    more = {"conv": {"stride": 1, "dilation": 1}, "pointwise": {"slope": 0.1}}
    ops = tuple(replace(op, attributes={**more.get(op.kind, {}), **op.attributes}) for op in network.graph.ops)
    return replace(network, graph=replace(network.graph, ops=ops))


def made(kind: str, seed: int) -> tuple[Network, Tensors]:
    network, tensors = ALL[kind](seed)
    return told(network), tensors


def runnable(network: Network) -> bool:
    return len(network.graph.inputs) == 1 and not unknown_in(network.graph)


RUNNABLE = [kind for kind in ALL if runnable(made(kind, 1)[0])]


def checkpoint(tensors: Tensors, name: str) -> Checkpoint:
    return Checkpoint(name, "safetensors", tensors)


def inputs_for(network: Network, rows: int = 40) -> FloatArray:
    (entry,) = network.graph.inputs
    shape = [rows, *(5 if size is None else size for size in entry.shape[1:])]
    return np.random.default_rng(3).standard_normal(shape)


def correlations_of(network: Network, one: Tensors, other: Tensors) -> dict[int, FloatArray]:
    pair = paired(checkpoint(one, "a"), [network], checkpoint(other, "b"), [network])
    return unit_correlations(pair, [inputs_for(network)])


def matched(network: Network, one: Tensors, other: Tensors, correlations: dict[int, FloatArray]) -> Aligned:
    return align(checkpoint(one, "a"), [network], checkpoint(other, "b"), [network], correlations=correlations)


@pytest.mark.parametrize("kind", RUNNABLE)
def test_units_are_found_again_by_their_responses(kind: str) -> None:
    network, tensors = made(kind, 7)
    symmetry = find_symmetry([network])
    element = random_flat(symmetry, 5, scales=(1e-2, 1e2), shifts=1)
    moved = acted(tensors, symmetry, element)
    correlations = correlations_of(network, tensors, moved)
    found = matched_units(symmetry, correlations)
    for number, unit_set in enumerate(symmetry.unit_sets):
        if unit_set.permutable:
            wanted = element.permutation[unit_set.start : unit_set.start + unit_set.size] - unit_set.start
            assert np.array_equal(found[number], wanted), unit_set.name
            assert correlations[number][wanted, np.arange(len(wanted))] == pytest.approx(1.0, abs=1e-9)
    done = matched(network, tensors, moved, correlations)
    assert done.relative_change <= done.tolerance
    assert far({name: np.asarray(done.checkpoint.tensors[name]) for name in tensors}, moved) < 1e-6


@pytest.mark.parametrize("kind", ["mlp-relu", "cnn-tanh", "residual-relu"])
def test_responses_of_another_network_lead_elsewhere(kind: str) -> None:
    (network, tensors), (_, stranger) = made(kind, 7), made(kind, 8)
    symmetry = find_symmetry([network])
    moved = acted(tensors, symmetry, random_flat(symmetry, 5, scales=(1e-2, 1e2)))
    wrong = correlations_of(network, stranger, moved)
    done = matched(network, tensors, moved, wrong)
    assert done.relative_change <= done.tolerance  # whatever the match, the function stays
    assert far({name: np.asarray(done.checkpoint.tensors[name]) for name in tensors}, moved) > 1e-2


@pytest.mark.parametrize("kind", ["cnn-relu", "residual-relu"])
def test_batches_do_not_matter(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (network, one), (_, other) = made(kind, 1), made(kind, 2)
    whole = correlations_of(network, one, other)
    monkeypatch.setattr("nfn_cli.networks.unit_correlations._BATCH_ENTRIES", 1)
    each = correlations_of(network, one, other)
    assert all(np.allclose(whole[number], each[number], atol=1e-12) for number in whole)
    assert any(abs(whole[number]).max() < 1 - 1e-6 for number in whole)


def test_constant_units_correlate_with_nothing() -> None:
    network, tensors = mlp(1, "relu")
    still = {**tensors, "layers.0.weight": tensors["layers.0.weight"] * (np.arange(7) != 2)[:, None]}
    (first, _) = correlations_of(network, still, tensors).values()
    assert not first[2].any()
    assert np.isfinite(first).all()
    assert first.any()


def test_what_cannot_be_run_is_refused() -> None:
    assert len(RUNNABLE) >= 20
    network, tensors = ALL["cnn-relu-max"](1)
    with pytest.raises(Refused):
        correlations_of(network, tensors, tensors)
    network, tensors = mlp(1, "relu")
    pair = paired(checkpoint(tensors, "a"), [network], checkpoint(tensors, "b"), [network])
    with pytest.raises(Refused, match="shape"):
        unit_correlations(pair, [np.zeros((4, 6))])
    with pytest.raises(Refused, match="cannot be seen"):
        matched_units(find_symmetry([network]), {})
    correlations = correlations_of(network, tensors, tensors)
    with pytest.raises(WrongUsage, match="restarts"):
        align(
            checkpoint(tensors, "a"), [network], checkpoint(tensors, "b"), [network],
            restarts=1, correlations=correlations,
        )  # fmt: skip
