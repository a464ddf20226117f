"""The layer computes the sums that DESIGN 2.5 writes down, one entry at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nfn_cli.networks.degrees import TensorName, tensors_of
from nfn_cli.networks.equivariant_linear import EquivariantLinear
from nfn_cli.networks.weight_features import ChainShape
from tests.networks.slow_group import Chain, random_features

CHAIN = Chain((2, 3, 4, 2), (4, 4, 1))
READ, WRITTEN = 3, 2


def layer_and_learned(group: str) -> tuple[EquivariantLinear, dict[tuple[str, str], np.ndarray]]:
    torch.manual_seed(0)
    shape = ChainShape(CHAIN.widths, CHAIN.positions)
    layer = EquivariantLinear(shape, group, dict.fromkeys(tensors_of(3), READ), WRITTEN).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)

    def short(tensor: TensorName | None) -> str:
        return "1" if tensor is None else f"{'W' if tensor.kind == 'weight' else 'b'}{tensor.layer}"

    pairs = zip(layer.terms, layer.learned, strict=True)
    return layer, {(short(t.into), short(t.reads)): p.detach().numpy() for t, p in pairs}


@pytest.mark.parametrize("group", ["positive_scale", "sign"])
def test_the_layer_is_the_sum_over_the_terms_of_its_group(group: str) -> None:
    layer, learned = layer_and_learned(group)
    features = random_features(CHAIN, 0, channels=READ, batch=1)
    w1, w2, w3 = (w[0].numpy() for w in features.weights)
    b1, b2, b3 = (b[0].numpy() for b in features.biases)
    widths, channels = CHAIN.widths, range(READ)
    with torch.no_grad():
        got = layer(features)
    for d in range(WRITTEN):
        for p in range(widths[1]):
            bias = 0.0
            for c in channels:
                bias += learned["b1", "b1"][d, c] * b1[c, p]
                bias += sum(learned["b1", "W1"][d, c, q] * w1[c, p, q] for q in range(widths[0]))
            assert got.biases[0][0, d, p] == pytest.approx(bias, abs=1e-12)
            for q in range(widths[0]):
                value = 0.0
                for c in channels:
                    value += learned["W1", "b1"][d, c, q] * b1[c, p]
                    value += sum(learned["W1", "W1"][d, c, q, s] * w1[c, p, s] for s in range(widths[0]))
                assert got.weights[0][0, d, p, q] == pytest.approx(value, abs=1e-12)
        for p in range(widths[2]):
            bias = sum(learned["b2", "b2"][d, c] * b2[c, p] for c in channels)
            if group == "sign":  # 1/h = h: the last weight and the bias below it have equal degree
                for c in channels:
                    bias += sum(learned["b2", "W3"][d, c, r] * w3[c, r, p] for r in range(widths[3]))
            assert got.biases[1][0, d, p] == pytest.approx(bias, abs=1e-12)
            for q in range(widths[1]):
                value = sum(learned["W2", "W2"][d, c] * w2[c, p, q] for c in channels)
                assert got.weights[1][0, d, p, q] == pytest.approx(value, abs=1e-12)
        for p in range(widths[3]):
            bias = learned["b3", "1"][d, p]
            for c in channels:
                bias += sum(learned["b3", "b3"][d, c, p, r] * b3[c, r] for r in range(widths[3]))
            assert got.biases[2][0, d, p] == pytest.approx(bias, abs=1e-12)
            for q in range(widths[2]):
                value = 0.0
                for c in channels:
                    value += sum(learned["W3", "W3"][d, c, p, r] * w3[c, r, q] for r in range(widths[3]))
                    if group == "sign":
                        value += learned["W3", "b2"][d, c, p] * b2[c, q]
                assert got.weights[2][0, d, p, q] == pytest.approx(value, abs=1e-12)


def test_leaving_a_term_out_shows() -> None:
    layer, _ = layer_and_learned("sign")
    features = random_features(CHAIN, 0, channels=READ, batch=1)
    whole = layer(features).biases[1].detach().clone()
    index = next(
        i for i, t in enumerate(layer.terms) if t.into == TensorName("bias", 2) and t.reads == TensorName("weight", 3)
    )
    with torch.no_grad():
        layer.learned[index].zero_()
    assert float((layer(features).biases[1].detach() - whole).abs().max()) > 1e-3
