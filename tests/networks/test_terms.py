"""The table of terms is all equivariant linear maps and nothing else: compared with the null space of the law."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from nfn_cli.networks.degrees import GROUPS, TensorName, terms_of
from nfn_cli.networks.equivariant_linear import equivariant_stack
from nfn_cli.networks.monomial_nfn import parameter_count
from nfn_cli.networks.weight_features import ChainShape, WeightFeatures
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
@pytest.mark.parametrize("widths", [(2, 1), (1, 2, 1), (2, 3, 1), (1, 3, 2, 1), (2, 3), (3, 2, 2), (2, 2, 2, 2)])
def test_the_table_spans_every_equivariant_affine_map(group: str, widths: tuple[int, ...]) -> None:
    chain = Chain(widths, (1,) * (len(widths) - 1))
    learned = sum(
        int(np.prod([widths[units] for units in term.learned])) for term in terms_of(len(chain.positions), group)
    )
    moving = {"permutation": widths[1:-1], "neuron_permutation": widths}.get(group, ())
    if 1 in moving:
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


def chain_names(depth: int, *kinds: str) -> set[str]:
    return {f"{kind}{i}" for kind in kinds for i in range(1, depth + 1)}


def neuron_permutation_layer_of_the_paper(depth: int) -> Counter[tuple[str, str]]:
    """How often each pair stands in the NP layer of Zhou et al. 2023 (arXiv 2302.14040, section 2.2 and appendix)."""
    every = chain_names(depth, "W", "b")
    pairs: Counter[tuple[str, str]] = Counter()
    for i in range(1, depth + 1):
        weight, bias = f"W{i}", f"b{i}"
        # means of everything, and a constant, go everywhere
        pairs.update((into, reads) for into in (weight, bias) for reads in (*every, "1"))
        # entry to entry; a row's mean to the row, a column's to the column; the bias along the row
        pairs.update({(weight, weight): 3, (weight, bias): 1, (bias, weight): 1, (bias, bias): 1})
        if i > 1:  # what stands at the incoming unit: the row means and the bias of the layer below
            pairs.update([(weight, f"W{i - 1}"), (weight, f"b{i - 1}")])
        if i < depth:  # what stands at the outgoing unit: the column means of the layer above
            pairs.update([(weight, f"W{i + 1}"), (bias, f"W{i + 1}")])
    return pairs


def pairs_of(terms: object) -> Counter[tuple[str, str]]:
    return Counter(pair for term in terms for pair in names([term]))  # type: ignore[attr-defined]


@pytest.mark.parametrize("depth", [2, 3, 4, 6])
def test_neuron_permutations_give_the_np_layer_of_the_paper(depth: int) -> None:
    assert pairs_of(terms_of(depth, "neuron_permutation")) == neuron_permutation_layer_of_the_paper(depth)


def test_hidden_permutations_give_the_hnp_layer_of_the_paper() -> None:
    """NP's list, less the ties along the input and output axes: these are mixed by matrices instead."""
    depth = 4
    expected = neuron_permutation_layer_of_the_paper(depth)
    expected[("W1", "W1")] -= 2  # the rows' means and the columns' means of W1 along its input axis
    expected[("W4", "W4")] -= 2  # the same along the output axis
    expected[("W4", "b4")] -= 1
    expected[("b4", "W4")] -= 1
    expected[("b4", "b4")] -= 1
    assert pairs_of(terms_of(depth, "permutation")) == expected


def test_hidden_permutations_learn_as_many_numbers_as_the_hnp_layer_of_the_paper() -> None:
    """Counted from the layer's inputs and outputs, one channel, 3x3 kernels as channels (Zhou et al. 2023, appendix)."""
    n_in, n_out, f1, f2, f3, f4 = 1, 10, 9, 9, 9, 1
    means = n_in * f1 + f2 + f3 + n_out * f4 + 3 + n_out  # every mean there is, axes that stay listed apart
    weights = (
        (n_in * f1) * (n_in * f1 + f2 + 1)
        + f2 * (f2 + (f2 + n_in * f1 + 1) + (f2 + f3 + 1))
        + f3 * (f3 + (f3 + f2 + 1) + (f3 + n_out * f4 + 1))
        + (n_out * f4) * (n_out * f4 + f3 + 1)
    )
    biases = (n_in * f1 + f2 + 1) + (f2 + f3 + 1) + (f3 + n_out * f4 + 1)
    broadcasts = (means + 1) * (n_in * f1 + f2 + f3 + n_out * f4 + 3 + n_out)
    shape = ChainShape((n_in, 16, 16, 16, n_out), (f1, f2, f3, f4))
    layers = list(equivariant_stack(shape, "permutation", (1,), per_position=True))
    assert parameter_count(layers[0]) == weights + biases + broadcasts
