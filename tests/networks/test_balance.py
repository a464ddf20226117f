"""The balanced form is the least member of the scale orbit, the same from everywhere on it."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nfn_cli.networks.balance import balanced_chain, scaled
from nfn_cli.networks.weight_features import WeightFeatures
from tests.networks.slow_group import act_slowly, random_chain, random_features, random_monomials, residual

SEEDS = st.integers(0, 10_000)
SEVERAL = settings(max_examples=30, deadline=None)


def energy(features: WeightFeatures) -> torch.Tensor:
    return sum(t.square().flatten(1).sum(1) for t in (*features.weights, *features.biases))


def imbalance_by_loops(features: WeightFeatures) -> float:
    """Largest |log(‖out‖/‖in‖)| over units, one unit at a time."""
    worst = 0.0
    for row in range(len(features)):
        for i in range(len(features.weights) - 1):
            for p in range(features.weights[i].shape[2]):
                incoming = features.weights[i][row, :, p].square().sum() + features.biases[i][row, :, p].square().sum()
                outgoing = features.weights[i + 1][row, :, :, p].square().sum()
                worst = max(worst, abs(float((outgoing / incoming).log())))
    return worst


@given(seed=SEEDS)
@SEVERAL
def test_incoming_and_outgoing_norms_agree_on_every_unit(seed: int) -> None:
    chain = random_chain(seed)
    raw = act_slowly(random_features(chain, seed), random_monomials(chain, "positive_scale", seed))
    assert imbalance_by_loops(balanced_chain(raw)) < 1e-11


def test_raw_chains_are_not_balanced() -> None:
    assert imbalance_by_loops(random_features(random_chain(1, depth=3), 1)) > 0.1


@given(seed=SEEDS)
@SEVERAL
def test_the_form_is_constant_on_the_orbit(seed: int) -> None:
    chain = random_chain(seed)
    raw = random_features(chain, seed)
    monomials = random_monomials(chain, "positive_scale", seed + 1)
    signless = [m.abs().sign() for m in monomials]  # the permutations alone
    expected = act_slowly(balanced_chain(raw), signless)
    assert residual(balanced_chain(act_slowly(raw, monomials)), expected) < 1e-10


def test_the_form_moves_with_signs() -> None:
    chain = random_chain(4, depth=3)
    raw = random_features(chain, 0)
    moved = balanced_chain(act_slowly(raw, random_monomials(chain, "sign", 3)))
    assert residual(moved, balanced_chain(raw)) > 1e-3


@given(seed=SEEDS)
@SEVERAL
def test_no_other_member_of_the_orbit_is_smaller(seed: int) -> None:
    chain = random_chain(seed)
    form = balanced_chain(random_features(chain, seed))
    rng = np.random.default_rng(seed)
    logs = [torch.from_numpy(rng.normal(0, 0.1, (2, n))) for n in chain.widths[1:-1]]
    assert bool((energy(scaled(form, logs)) >= energy(form) * (1 - 1e-12)).all())


def test_dead_units_end_at_zero_and_the_rest_stays_exact() -> None:
    chain = random_chain(7, depth=3)
    raw = random_features(chain, 7)
    weights, biases = [w.clone() for w in raw.weights], [b.clone() for b in raw.biases]
    weights[0][:, :, 0], biases[0][:, :, 0] = 0.0, 0.0  # nothing feeds unit 0 of the first hidden layer
    weights[2][:, :, :, 0] = 0.0  # unit 0 of the second feeds nothing
    dead = WeightFeatures(tuple(weights), tuple(biases))
    moved = act_slowly(dead, random_monomials(chain, "positive_scale", 3, largest=100.0))
    form = balanced_chain(dead)
    assert float(form.weights[1][:, :, :, 0].abs().max()) == 0.0
    assert all(torch.isfinite(t).all() for t in (*form.weights, *form.biases))
    assert torch.allclose(energy(form), energy(balanced_chain(moved)), rtol=1e-10)
