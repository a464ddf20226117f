"""NP, HNP and StatNet are blind to exactly the permutations they claim, to 1e-10 in float64, and to nothing more."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nfn_cli.networks.monomial_nfn import parameter_count
from nfn_cli.networks.permutation_nfn import PermutationNfn, PermutationNfnConfig
from nfn_cli.networks.permutation_nfn import prepare as prepare_permutation
from nfn_cli.networks.stat_net import StatNet, StatNetConfig
from nfn_cli.networks.stat_net import prepare as prepare_statistics
from nfn_cli.networks.weight_features import ChainShape, WeightFeatures
from nfn_cli.networks.weight_statistics import weight_statistics
from tests.networks.slow_group import Chain, act_slowly, random_chain, random_features, random_monomials

SEEDS = st.integers(0, 10_000)
CHAIN = Chain((3, 4, 5, 3), (4, 4, 1))

SMALL = {"channels": (4, 3), "head_width": 16}
MODELS = {
    "HNP": PermutationNfnConfig("permutation", **SMALL),
    "HNP, positions are input channels": PermutationNfnConfig("permutation", per_position=False, **SMALL),
    "NP": PermutationNfnConfig("neuron_permutation", **SMALL),
    "NP with end encoding": PermutationNfnConfig("neuron_permutation", end_encoding=True, **SMALL),
    "StatNet": StatNetConfig(head_width=16),
}
# what each is blind to beside hidden permutations, which all are
BLIND_TO_ALL_PERMUTATIONS = ("NP", "StatNet")


def model_for(name: str, chain: Chain, seed: int) -> PermutationNfn | StatNet:
    torch.manual_seed(seed)
    config, shape = MODELS[name], ChainShape(chain.widths, chain.positions)
    model = StatNet(shape, config) if isinstance(config, StatNetConfig) else PermutationNfn(shape, config)
    model = model.double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@torch.no_grad()
def movement(model: PermutationNfn | StatNet, raw: WeightFeatures, group: str, seed: int) -> float:
    """Largest change of the output on the orbit, relative to the output's size."""
    chain = Chain(raw.shape.widths, raw.shape.positions)
    here = model(raw)
    there = model(act_slowly(raw, random_monomials(chain, group, seed, largest=10.0)))
    return float((here - there).abs().max() / here.abs().max().clamp(min=1.0))


@pytest.mark.parametrize("name", MODELS)
@given(seed=SEEDS)
@settings(max_examples=15, deadline=None)
def test_models_are_blind_to_hidden_permutations(name: str, seed: int) -> None:
    chain = random_chain(seed)
    raw = random_features(chain, seed)
    model = model_for(name, chain, seed)
    assert movement(model, raw, "permutation", seed) < 1e-10
    with torch.no_grad():  # a constant would pass the law above
        assert float((model(raw) - model(random_features(chain, seed + 1))).abs().max()) > 1e-6


@pytest.mark.parametrize("name", MODELS)
def test_only_np_and_statistics_are_blind_to_permutations_of_inputs_and_outputs(name: str) -> None:
    moved = [movement(model_for(name, CHAIN, 0), random_features(CHAIN, 0), "neuron_permutation", s) for s in range(4)]
    assert max(moved) < 1e-10 if name in BLIND_TO_ALL_PERMUTATIONS else max(moved) > 1e-4


@pytest.mark.parametrize("group", ["positive_scale", "sign"])
@pytest.mark.parametrize("name", MODELS)
def test_no_model_is_blind_to_scales_or_signs(name: str, group: str) -> None:
    assert movement(model_for(name, CHAIN, 0), random_features(CHAIN, 0), group, 1) > 1e-4


@pytest.mark.parametrize("name", MODELS)
def test_prepared_rows_give_what_raw_rows_give_and_normalization_is_fitted(name: str) -> None:
    raw = random_features(CHAIN, 0, batch=5)
    model, config = model_for(name, CHAIN, 0), MODELS[name]
    before = model(raw)
    prepared = (
        prepare_statistics(config, raw) if isinstance(config, StatNetConfig) else prepare_permutation(config, raw)
    )
    model.fit_normalization(prepared)
    after = model(raw)
    assert float((before - after).abs().max().detach()) > 1e-6
    rows = torch.tensor([3, 1])
    assert torch.allclose(model.forward_prepared(prepared[rows]), after[rows], rtol=1e-12)


def test_statistics_are_those_of_numpy_tensor_by_tensor() -> None:
    raw = random_features(CHAIN, 0)
    found = weight_statistics(raw).numpy()
    for row in range(2):
        expected: list[float] = []
        for tensor in (*raw.weights, *raw.biases):
            entries = tensor[row].numpy().ravel()
            expected += [entries.mean(), entries.var(), *(np.quantile(entries, q) for q in (0, 0.25, 0.5, 0.75, 1))]
        assert found[row] == pytest.approx(np.array(expected), abs=1e-12)


def test_np_learns_fewer_numbers_than_hnp_and_a_wider_output_costs_its_layers_nothing() -> None:
    def learned(group: str, outputs: int) -> int:
        return parameter_count(PermutationNfn(ChainShape((1, 16, outputs), (9, 1)), PermutationNfnConfig(group)).layers)

    assert learned("neuron_permutation", 10) == learned("neuron_permutation", 20)
    assert learned("neuron_permutation", 10) < learned("permutation", 10) < learned("permutation", 20)


@pytest.mark.parametrize(
    "settings_", [{"group": "sign"}, {"group": "permutation", "end_encoding": True}, {"channels": ()}]
)
def test_architectures_that_make_no_sense_are_refused(settings_: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"none of|encoding|no equivariant layer"):
        PermutationNfnConfig(**settings_)  # type: ignore[arg-type]
