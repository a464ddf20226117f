"""The table of terms is all equivariant linear maps and nothing else: compared with the null space of the law."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nfn_cli.networks.degrees import GROUPS, TensorName, terms_of
from nfn_cli.networks.weight_features import WeightFeatures
from tests.networks.slow_group import Chain, act_slowly, random_features, random_monomials


def names(terms: object) -> set[tuple[str, str]]:
    def short(tensor: TensorName | None) -> str:
        return "1" if tensor is None else f"{'W' if tensor.kind == 'weight' else 'b'}{tensor.layer}"

    return {(short(term.into), short(term.reads)) for term in terms}  # type: ignore[attr-defined]


def flat(features: WeightFeatures) -> np.ndarray:
    return torch.cat([t.flatten() for t in (*features.weights, *features.biases)]).numpy()


def dimension_by_brute_force(chain: Chain, group: str) -> int:
    """Dimension of {(M, m): M ρ(g) = ρ(g) M, ρ(g) m = m}, from random group elements, as a null space."""
    one = random_features(chain, 0, channels=1, batch=1)
    size = len(flat(one))

    def unflat(vector: np.ndarray) -> WeightFeatures:
        parts, start = [], 0
        for tensor in (*one.weights, *one.biases):
            parts.append(torch.from_numpy(vector[start : start + tensor.numel()].copy()).reshape(tensor.shape))
            start += tensor.numel()
        depth = len(one.weights)
        return WeightFeatures(tuple(parts[:depth]), tuple(parts[depth:]))

    linear, constant = [], []
    for seed in range(12):
        monomials = random_monomials(chain, group, seed, largest=3.0)
        rho = np.stack([flat(act_slowly(unflat(e), monomials)) for e in np.eye(size)], axis=1)
        linear.append(np.kron(np.eye(size), rho) - np.kron(rho.T, np.eye(size)))
        constant.append(rho - np.eye(size))

    def nullity(matrix: np.ndarray) -> int:
        values = np.linalg.svd(matrix, compute_uv=False)
        return matrix.shape[1] - int((values > 1e-8 * values[0]).sum()) if values[0] > 0 else matrix.shape[1]

    return nullity(np.concatenate(linear)) + nullity(np.concatenate(constant))


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("widths", [(2, 1), (1, 2, 1), (2, 3, 1), (1, 3, 2, 1)])
def test_the_table_spans_every_equivariant_affine_map(group: str, widths: tuple[int, ...]) -> None:
    chain = Chain(widths, (1,) * (len(widths) - 1))
    learned = sum(
        int(np.prod([widths[units] for units in term.learned])) for term in terms_of(len(chain.positions), group)
    )
    if group == "permutation" and 1 in widths[1:-1]:
        pytest.skip("a single unit cannot tell tied from averaged")
    assert learned == dimension_by_brute_force(chain, group)


def test_positive_scales_give_the_terms_of_the_design() -> None:
    hidden = {("W2", "W2"), ("b2", "b2"), ("W3", "W3"), ("b3", "b3")}
    first = {("W1", "W1"), ("W1", "b1"), ("b1", "W1"), ("b1", "b1")}
    last = {("W4", "W4"), ("b4", "b4"), ("b4", "1")}
    assert names(terms_of(4, "positive_scale")) == first | hidden | last


def test_signs_also_join_the_last_weight_and_the_bias_below_it() -> None:
    more = names(terms_of(4, "sign")) - names(terms_of(4, "positive_scale"))
    assert more == {("W4", "b3"), ("b3", "W4")}
    assert ("W1", "W2") in names(terms_of(2, "sign"))
    assert ("W1", "W2") not in names(terms_of(2, "positive_scale"))


def test_parameters_grow_with_depth_and_not_with_its_square() -> None:
    assert len(terms_of(20, "positive_scale")) - len(terms_of(10, "positive_scale")) == 20
    assert len(terms_of(20, "permutation")) > 3 * len(terms_of(10, "permutation"))
