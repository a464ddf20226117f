"""Fingerprints of collapsed networks: what half precision rounds to nothing does not count, what is left still tells."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest

from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.graph.model import Network
from nfn_cli.match.fingerprint import Fingerprinter, fingerprint, judged_fingerprint
from nfn_cli.match.fingerprint_code import RADIUS, Fingerprint
from nfn_cli.symmetry.action import TransformedTensors
from nfn_cli.symmetry.element import random_flat
from nfn_cli.symmetry.solve import find_symmetry
from tests.symmetry.networks import ALL, Tensors, mlp

KINDS = ("mlp-relu", "cnn-relu", "mlp-tanh")


def checkpoint(tensors: Tensors) -> Checkpoint:
    return Checkpoint("memory", "npz", tensors)


def collapsed(kind: str, seed: int, left: float) -> tuple[Network, Tensors]:
    """As weight decay leaves them: weights of size `left`, most of them far smaller, under biases as they were."""
    network, tensors = ALL[kind](seed)
    random = np.random.default_rng(seed)
    faint = {n: left * a * np.exp(-3 * random.exponential(size=a.shape)) for n, a in tensors.items() if a.ndim > 1}
    return network, tensors | faint


def distance(network: Network, one: Tensors, other: Tensors) -> int:
    found = fingerprint(checkpoint(one), [network]).distance(fingerprint(checkpoint(other), [network]))
    assert found is not None
    return found


def in_type(tensors: Tensors, dtype: type) -> Tensors:
    return {name: array.astype(dtype) for name, array in tensors.items()}


@pytest.mark.parametrize("left", [1e-3, 1e-5, 1e-7, 1e-9, 1e-20])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_copies_of_collapsed_networks_are_within_the_radius(kind: str, left: float) -> None:
    network, tensors = collapsed(kind, 0, left)
    assert distance(network, tensors, in_type(tensors, np.float16)) <= RADIUS
    assert distance(network, tensors, in_type(tensors, ml_dtypes.bfloat16)) <= RADIUS
    element = random_flat(find_symmetry([network]), 1, scales=(0.25, 4.0))
    moved = dict(TransformedTensors(tensors, {}, find_symmetry([network]), element))
    assert distance(network, tensors, in_type(moved, np.float16)) <= RADIUS


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_collapsed_network_still_does_tells_it_from_others(kind: str) -> None:
    network, tensors = collapsed(kind, 0, 1e-9)
    assert distance(network, tensors, collapsed(kind, 1, 1e-9)[1]) > RADIUS
    assert distance(network, tensors, ALL[kind](0)[1]) > RADIUS


def shrunk_first_layer(by: float) -> tuple[Network, Tensors]:
    """One member of the orbit: the first layer's incoming weights and biases smaller, what reads it larger."""
    network, tensors = mlp(0, "relu")
    weight, bias, following = list(network.graph.parameter_shapes)[:3]
    return network, tensors | {
        weight: tensors[weight] * by,
        bias: tensors[bias] * by,
        following: tensors[following] * 1e-3 / by,  # or float16 could not hold it
    }


@pytest.mark.parametrize(("by", "reliable"), [(1.0, True), (1e-3, True), (1e-7, False)])
def test_who_would_be_another_network_in_half_precision_is_named(by: float, reliable: bool) -> None:
    network, tensors = shrunk_first_layer(by)
    judged = judged_fingerprint(checkpoint(in_type(tensors, np.float32)), [network])
    half = fingerprint(checkpoint(in_type(tensors, np.float16)), [network])
    assert judged.reliable is reliable is judged.code.same_network(half)
    # the code itself is that of the orbit
    plain: Fingerprint = fingerprint(checkpoint(shrunk_first_layer(1.0)[1]), [network])
    assert judged.code.same_network(plain)


@pytest.mark.parametrize("made", [lambda: ALL["mlp-relu"](0), lambda: collapsed("mlp-relu", 0, 1e-9)])
def test_networks_that_half_precision_keeps_are_reliable(made: Callable[[], tuple[Network, Tensors]]) -> None:
    network, tensors = made()
    assert judged_fingerprint(checkpoint(tensors), [network]).reliable


def test_rows_that_are_judged_together_are_judged_as_each_alone() -> None:
    shrinkings = (1.0, 1e-7, 1e-3, 1e-7)
    rows = [in_type(shrunk_first_layer(by)[1], np.float32) for by in shrinkings]
    network, _ = shrunk_first_layer(1.0)
    rows[0] = {name: array * np.float32("inf") for name, array in rows[0].items()}
    found = Fingerprinter.of([network]).judged({name: np.stack([row[name] for row in rows]) for name in rows[0]})
    assert found[0] is None
    alone = [judged_fingerprint(checkpoint(row), [network]) for row in rows[1:]]
    assert found[1:] == alone
    assert [judged.reliable for judged in alone] == [False, True, False]
