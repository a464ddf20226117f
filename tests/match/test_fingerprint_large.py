"""Large layers are read some rows at a time: the same sums, the same invariance, and little memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.graph.model import Network
from nfn_cli.match import fingerprint_moments, fingerprint_plan, fingerprint_statistics
from nfn_cli.match.fingerprint import Fingerprinter, fingerprint
from nfn_cli.match.fingerprint_code import RADIUS
from nfn_cli.match.fingerprint_moments import Held, MadeAnew, Moments, moments
from nfn_cli.symmetry.action import TransformedTensors
from nfn_cli.symmetry.element import random_flat
from nfn_cli.symmetry.solve import find_symmetry
from tests.symmetry.networks import ALL, Tensors, mlp

KINDS = ("mlp-relu", "mlp-sin", "cnn-relu", "residual-tanh", "grouped-relu")


@pytest.fixture
def all_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every layer were large, and a piece of memory held a few entries."""
    monkeypatch.setattr(fingerprint_plan, "_HELD_ENTRIES", 0)
    monkeypatch.setattr(fingerprint_moments, "_PIECE_ENTRIES", 50)


def of(kind: str) -> tuple[list[Moments], int]:
    network, tensors = ALL[kind](0)
    plan = Fingerprinter.of([network]).plan
    found = moments(plan, {tensor.name: tensors[tensor.name][None] for tensor in plan.tensors})
    return found, len(plan.large)


@pytest.mark.parametrize("kind", KINDS)
def test_sums_of_large_tensors_are_those_of_small_ones(kind: str, request: pytest.FixtureRequest) -> None:
    held, none = of(kind)
    request.getfixturevalue("all_large")
    anew, large = of(kind)
    assert (none, large > 0) == (0, True)
    random = np.random.default_rng(0)
    for one, other in zip(held, anew, strict=True):
        for sums in ("squares", "positioned", "signed", "fourth"):
            a, b = getattr(one, sums), getattr(other, sums)
            assert isinstance(a, Held | None)
            assert isinstance(b, MadeAnew | None) or one.plan.groups > 1
            if a is None:
                continue
            rows, columns = random.random((1, len(one.plan.rows))), random.random((1, len(one.plan.columns)))
            np.testing.assert_allclose(b.by_row(columns), a.by_row(columns), rtol=1e-12)
            np.testing.assert_allclose(b.by_column(rows), a.by_column(rows), rtol=1e-12)


@pytest.mark.usefixtures("all_large")
@pytest.mark.parametrize("kind", KINDS)
def test_codes_of_large_networks_are_those_of_their_orbits(kind: str) -> None:
    network, tensors = ALL[kind](0)
    symmetry = find_symmetry([network])
    moved = dict(TransformedTensors(tensors, {}, symmetry, random_flat(symmetry, 1, scales=(1e-3, 1e3))))
    codes = [fingerprint(Checkpoint("memory", "npz", each), [network]) for each in (tensors, moved, ALL[kind](1)[1])]
    assert codes[0].distance(codes[1]) == 0
    assert (codes[0].distance(codes[2]) or 0) > RADIUS


def peak(network: Network, tensors: Tensors) -> int:
    """Bytes asked for beyond the tensors themselves."""
    tracemalloc.start()
    try:
        fingerprint(Checkpoint("memory", "npz", tensors), [network])
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_large_layer_takes_less_memory_than_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scaled down: pieces of half a megabyte, a file of nine."""
    monkeypatch.setattr(fingerprint_moments, "_PIECE_ENTRIES", 1 << 16)
    monkeypatch.setattr(fingerprint_statistics, "_GRAM_ENTRIES", 1 << 16)
    network, tensors = mlp(0, "relu", (4, 1536, 1536, 4))
    narrow = {name: array.astype(np.float32) for name, array in tensors.items()}
    size = sum(array.nbytes for array in narrow.values())
    monkeypatch.setattr(fingerprint_plan, "_HELD_ENTRIES", 1 << 20)
    assert peak(network, narrow) < size
    monkeypatch.setattr(fingerprint_plan, "_HELD_ENTRIES", 1 << 30)
    assert peak(network, narrow) > 6 * size
