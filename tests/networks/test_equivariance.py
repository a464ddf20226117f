"""Layers commute with the group and heads are blind to it, to 1e-10 in float64; each law has a control that fails."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nfn_cli.networks.degrees import GROUPS, tensors_of
from nfn_cli.networks.equivariant_linear import EquivariantLinear
from nfn_cli.networks.monomial_nfn import MonomialNfn, MonomialNfnConfig
from nfn_cli.networks.nonlinearity import DEGREE_DIVISIONS, NONLINEARITIES
from nfn_cli.networks.weight_features import ChainShape
from tests.networks.slow_group import act_slowly, random_chain, random_features, random_monomials, residual

SEEDS = st.integers(0, 10_000)
SEVERAL = settings(max_examples=25, deadline=None)


def layer_for(shape: ChainShape, group: str, channels: int | None, seed: int) -> EquivariantLinear:
    torch.manual_seed(seed)
    read = {
        name: channels or (shape.positions[name.layer - 1] if name.kind == "weight" else 1)
        for name in tensors_of(shape.depth)
    }
    layer = EquivariantLinear(shape, group, read, 5).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    return layer


def model_for(shape: ChainShape, config: MonomialNfnConfig, seed: int) -> MonomialNfn:
    torch.manual_seed(seed)
    model = MonomialNfn(shape, config).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize("group", GROUPS)
@given(seed=SEEDS)
@SEVERAL
def test_linear_layers_commute_with_the_group(group: str, seed: int) -> None:
    chain = random_chain(seed)
    shape = ChainShape(chain.widths, chain.positions)
    raw = random_features(chain, seed)
    monomials = random_monomials(chain, group, seed + 1)
    first, second = layer_for(shape, group, None, seed), layer_for(shape, group, 5, seed + 1)
    bend = NONLINEARITIES[group]

    def network(x: object) -> object:
        return second(first(x).map(bend)).map(bend)

    assert residual(network(act_slowly(raw, monomials)), act_slowly(network(raw), monomials)) < 1e-10


def test_the_positive_scale_layers_do_not_commute_with_a_sign_flip() -> None:
    chain = random_chain(3, depth=3)
    layer = layer_for(ChainShape(chain.widths, chain.positions), "positive_scale", None, 0)
    raw = random_features(chain, 0)
    flips = [torch.eye(n, dtype=torch.float64) for n in chain.widths]
    flips[1][0, 0] = -1.0

    def network(x: object) -> object:
        return layer(x).map(NONLINEARITIES["positive_scale"])

    assert residual(network(act_slowly(raw, flips)), act_slowly(network(raw), flips)) > 1e-3


@pytest.mark.parametrize(
    ("layers", "group"), [("sign", "positive_scale"), ("permutation", "sign"), ("permutation", "neuron_permutation")]
)
def test_layers_of_a_smaller_group_do_not_commute_with_a_larger_one(layers: str, group: str) -> None:
    chain = random_chain(5, depth=2)
    layer = layer_for(ChainShape(chain.widths, chain.positions), layers, None, 0)
    raw, monomials = random_features(chain, 0), random_monomials(chain, group, 1, largest=10.0)
    assert residual(layer(act_slowly(raw, monomials)), act_slowly(layer(raw), monomials)) > 1e-3


CONFIGS = {
    "positive_scale, degree divided out": MonomialNfnConfig("positive_scale", balanced=False, statistics=False),
    "positive_scale, balanced": MonomialNfnConfig("positive_scale", statistics=False),
    "positive_scale, balanced with statistics": MonomialNfnConfig("positive_scale", channels=(4, 4)),
    "positive_scale, channels per kernel position": MonomialNfnConfig(
        "positive_scale", balanced=False, channels=(4, 3), statistics=False, per_position=True
    ),
    "sign": MonomialNfnConfig("sign", channels=(4, 4)),
    "sign, channels per kernel position": MonomialNfnConfig("sign", channels=(4, 3), per_position=True),
    "permutation": MonomialNfnConfig("permutation", channels=(4,)),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
@given(seed=SEEDS)
@settings(max_examples=15, deadline=None)
def test_models_are_blind_to_the_group(config: MonomialNfnConfig, seed: int) -> None:
    chain = random_chain(seed)
    model = model_for(ChainShape(chain.widths, chain.positions), config, seed)
    raw = random_features(chain, seed)
    with torch.no_grad():
        here, there = model(raw), model(act_slowly(raw, random_monomials(chain, config.group, seed + 1)))
        elsewhere = model(random_features(chain, seed + 2))
    assert (here - there).abs().max() < 1e-10 * max(1.0, float(here.abs().max()))
    assert (here - elsewhere).abs().max() > 1e-6  # a constant would pass the law above


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_models_are_not_blind_to_what_is_outside_their_group(config: MonomialNfnConfig) -> None:
    chain = random_chain(5, depth=3)
    model = model_for(ChainShape(chain.widths, chain.positions), config, 0)
    raw = random_features(chain, 0)
    other = {"positive_scale": "sign", "sign": "positive_scale", "permutation": "positive_scale"}[config.group]
    with torch.no_grad():
        moved = model(act_slowly(raw, random_monomials(chain, other, 3, largest=10.0)))
    assert (model(raw) - moved).abs().max() > 1e-6


def test_the_division_by_the_degree_is_exact_for_tiny_and_huge_features() -> None:
    x = torch.randn(3, 4, 5, dtype=torch.float64)
    for scale in (1e-150, 1e150):
        assert torch.allclose(DEGREE_DIVISIONS["positive_scale"](x * scale), DEGREE_DIVISIONS["positive_scale"](x))
    assert torch.equal(DEGREE_DIVISIONS["positive_scale"](torch.zeros(1, 2, 3)), torch.zeros(1, 2, 3))


def test_gradients_are_finite_where_features_vanish() -> None:
    shape = ChainShape((2, 3, 2), (1, 1))
    model = model_for(shape, CONFIGS["positive_scale, degree divided out"], 0)
    model(
        random_features(random_chain(0), 0).__class__(
            (torch.zeros(2, 1, 3, 2).double(), torch.zeros(2, 1, 2, 3).double()),
            (torch.zeros(2, 1, 3).double(), torch.zeros(2, 1, 2).double()),
        )
    ).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
