"""What is taken, what is refused and why, and that company in a batch does not change an answer.

Most of it is about chains by hand, and asks the predictors that read weights of chains alone; which of all predictors is
asked where the user names none is told at the end.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nfn_cli.checkpoint.model import Hints
from nfn_cli.errors import NfnError, Refused, WrongUsage
from nfn_cli.graph.model import Network, Op
from nfn_cli.predictors import chain_of, load_predictor, predict_generalization, predict_many, shipped_predictors
from nfn_cli.predictors.predictor import Prediction
from nfn_cli.predictors.shipped import predictor_folder
from tests.predictors.networks_by_hand import (
    ACTIVATIONS,
    LAYERS,
    channels_last,
    checkpoint,
    example,
    network,
    random_tensors,
)

CHAINS = "monomial-nfn"


def asked(tensors: dict[str, np.ndarray], *networks: Network, predictor: str | None = None) -> Prediction:
    return predict_generalization(
        checkpoint(tensors), networks or (network(tensors),), predictor, None if predictor else CHAINS
    )


def refusal(tensors: dict[str, np.ndarray], *networks: Network, predictor: str | None = None) -> Refused:
    with pytest.raises(Refused) as caught:
        asked(tensors, *networks, predictor=predictor)
    return caught.value


def same(a: Prediction | NfnError, b: Prediction | NfnError) -> bool:
    """Up to the rounding errors of float64: sums over a batch of another size are taken in another order."""
    assert isinstance(a, Prediction)
    assert isinstance(b, Prediction)
    numbers = ([x.predicted_test_accuracy, *x.interval] for x in (a, b))
    close = np.allclose(*numbers, rtol=0, atol=1e-9)
    return close and replace(a, predicted_test_accuracy=0.0, interval=(0.0, 0.0)) == replace(
        b, predicted_test_accuracy=0.0, interval=(0.0, 0.0)
    )


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_predictor_is_chosen_by_the_activation(activation: str) -> None:
    tensors = random_tensors(0)
    answer = predict_generalization(checkpoint(tensors, "here.pt"), (network(tensors, activation),), model=CHAINS)
    assert answer.predictor == f"generalization-cifar10gs-{activation}"
    assert answer.path == "here.pt"
    assert 0.0 <= answer.interval[0] <= answer.predicted_test_accuracy <= answer.interval[1] <= 1.0


def test_a_folder_is_a_predictor_too(tmp_path: Path) -> None:
    tensors = random_tensors(0)
    shutil.copytree(predictor_folder("generalization-cifar10gs-relu"), tmp_path / "mine")
    assert asked(tensors, predictor=str(tmp_path / "mine")) == asked(tensors)


def test_the_layout_of_the_file_does_not_matter() -> None:
    tensors = random_tensors(1)
    flipped = channels_last(tensors)
    here = asked(tensors)
    assert same(here, asked(flipped, network(flipped, channels_last=True)))
    wrong = {name: np.swapaxes(t, 0, 1) if t.ndim == 4 and t.shape[1] == 16 else t for name, t in tensors.items()}
    assert not same(here, asked(wrong))  # the control: order of axes counts


@pytest.mark.parametrize("reduce", ["spatial_mean", "flatten", "average_pool", "pool"])
def test_averages_after_the_last_convolution_are_taken(reduce: str) -> None:
    tensors = random_tensors(2)
    assert asked(tensors, network(tensors, reduce=reduce)) == asked(tensors)


def test_pooling_that_a_front_end_only_assumes_is_no_reason_to_refuse() -> None:
    tensors = random_tensors(2)
    assumed = Op("max_pool", (), "", attributes={"kernel": 1, "stride": 1, "assumed": True})
    assert asked(tensors, network(tensors, "tanh", extra=(assumed,))) == asked(tensors, network(tensors, "tanh"))


def test_half_precision_weights_are_taken() -> None:
    tensors = {name: t.astype(np.float16) for name, t in random_tensors(3).items()}
    exact = {name: t.astype(np.float64) for name, t in tensors.items()}
    assert same(*predict_many([(checkpoint(t), (network(t),)) for t in (tensors, exact)], model=CHAINS))


def test_a_missing_bias_counts_as_zero() -> None:
    tensors = random_tensors(4) | {"conv1.bias": np.zeros(16, np.float32)}
    whole = network(tensors)
    ops = tuple(
        Op(op.kind, op.inputs, op.output, {"weight": "conv1.weight"}, op.attributes)
        if op.parameters.get("weight") == "conv1.weight"
        else op
        for op in whole.graph.ops
    )
    graph = type(whole.graph)(whole.graph.inputs, ops, whole.graph.outputs, whole.graph.parameter_shapes)
    without = type(whole)("", "cnn", graph, whole.activation)
    assert same(asked(tensors, without), asked(tensors, whole))


def test_other_activations_are_refused_by_name() -> None:
    error = refusal(random_tensors(0), network(random_tensors(0), "gelu"))
    assert error.code == "predictor-mismatch"
    for activation in ACTIVATIONS:
        assert f"generalization-cifar10gs-{activation}: the activation is gelu, not {activation}" in error.what


def test_a_predictor_of_another_activation_is_refused() -> None:
    tensors = random_tensors(0)
    error = refusal(tensors, network(tensors, "tanh"), predictor="generalization-cifar10gs-relu")
    assert "tanh" in error.what
    assert "relu" in error.what


def test_other_widths_and_depths_are_refused_with_the_layer() -> None:
    tensors = random_tensors(0)
    wide = tensors | {
        "conv1.weight": np.ones((17, 1, 3, 3), np.float32),
        "conv1.bias": np.ones(17, np.float32),
        "conv2.weight": np.ones((16, 17, 3, 3), np.float32),
    }
    assert "layer 1 has shape (17, 1, 3, 3)" in refusal(wide).what
    whole = network(tensors).graph
    kept = tuple(op for op in whole.ops if op.output not in ("z2", "a2"))
    kept = tuple(
        Op(op.kind, tuple("a1" if i == "a2" else i for i in op.inputs), op.output, op.parameters, op.attributes)
        for op in kept
    )
    short = type(whole)(whole.inputs, kept, whole.outputs, whole.parameter_shapes)
    error = refusal(tensors, type(network(tensors))("", "cnn", short, ("relu",)))
    assert "it has 3 layers" in error.what


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_by_name(bad: float) -> None:
    tensors = random_tensors(0)
    tensors["conv2.bias"][3] = bad
    assert "conv2.bias" in str(refusal(tensors))


def test_several_networks_are_refused_and_so_is_none() -> None:
    tensors = random_tensors(0)
    assert refusal(tensors, network(tensors), network(tensors)).code == "several-networks"
    with pytest.raises(Refused) as caught:
        predict_generalization(checkpoint(tensors), ())
    assert caught.value.code == "no-network"


@pytest.mark.parametrize(
    ("op", "word"),
    [
        (Op("max_pool", (), "", attributes={"kernel": 2}), "max_pool"),
        (Op("pool", (), "", attributes={"statistic": "max"}), "max_pool"),
        (Op("opaque", (), "", attributes={"reason": "?"}), "opaque"),
        (Op("pointwise", (), "", attributes={"function": "tanh"}), "two activations"),
    ],
)
def test_other_ops_are_refused(op: Op, word: str) -> None:
    tensors = random_tensors(0)
    assert word in refusal(tensors, network(tensors, extra=(op,))).what


def test_a_file_that_says_max_pooling_is_refused() -> None:
    tensors = random_tensors(0)
    said = replace(checkpoint(tensors), hints=Hints(pooling="max", source="metadata"))
    with pytest.raises(Refused, match="says metadata"):
        predict_generalization(said, (network(tensors),), model=CHAINS)
    averaged = replace(checkpoint(tensors), hints=Hints(pooling="average"))
    assert predict_generalization(averaged, (network(tensors),), model=CHAINS).predictor


def test_a_branch_is_not_a_chain() -> None:
    tensors = random_tensors(0)
    graph = network(tensors).graph
    skip = (*graph.ops[:4], Op("add", ("a0", "a1"), "sum"), *graph.ops[4:])
    with pytest.raises(Refused, match="not a plain chain"):
        chain_of(type(graph)(graph.inputs, skip, graph.outputs, graph.parameter_shapes), tensors)


def test_an_unknown_predictor_lists_the_shipped_ones() -> None:
    tensors = random_tensors(0)
    with pytest.raises(WrongUsage, match="generalization-cifar10gs-relu"):
        asked(tensors, predictor="generalisation")


def test_damaged_predictors_are_refused(tmp_path: Path) -> None:
    tensors = random_tensors(0)
    shipped = predictor_folder("generalization-cifar10gs-relu")
    for file, content in (("weights.safetensors", b"\x08"), ("card.json", b"{}"), ("card.json", b"nonsense")):
        folder = tmp_path / f"{file}-{len(content)}"
        shutil.copytree(shipped, folder)
        (folder / file).write_bytes(content)
        assert refusal(tensors, predictor=str(folder)).code in ("bad-predictor", "bad-card")


def test_a_batch_answers_as_one_by_one_and_errors_stand_in_their_place() -> None:
    many = [(random_tensors(seed), ACTIVATIONS[seed % 2]) for seed in range(6)]
    many.append((example("tanh"), "tanh"))
    items = [(checkpoint(t, f"{i}.pt"), (network(t, a),)) for i, (t, a) in enumerate(many)]
    broken = random_tensors(9) | {"fc.bias": np.full(10, np.nan, np.float32)}
    items.insert(2, (checkpoint(broken), (network(broken),)))
    answers = predict_many(items, model=CHAINS)
    assert isinstance(answers[2], Refused)
    for item, answer in zip(items[:2] + items[3:], answers[:2] + answers[3:], strict=True):
        assert same(answer, predict_generalization(*item, model=CHAINS))
    assert predict_many([]) == []


def test_refusals_and_cards_do_without_torch() -> None:
    program = (
        "import sys, nfn_cli.predictors as p; p.shipped_predictors(); "
        "assert 'torch' not in sys.modules; p.Prediction; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_chain_keeps_its_layers_in_order() -> None:
    tensors = random_tensors(5)
    chain = chain_of(network(tensors).graph, tensors)
    for name, weight, bias in zip(LAYERS, chain.weights, chain.biases, strict=True):
        assert np.array_equal(weight, tensors[f"{name}.weight"])
        assert np.array_equal(bias, tensors[f"{name}.bias"])
    assert chain.activations == ("relu",) * 3


def test_a_predictor_is_loaded_once() -> None:
    assert load_predictor("generalization-cifar10gs-relu") is load_predictor("generalization-cifar10gs-relu")


def test_another_network_gets_another_answer() -> None:
    assert not same(asked(random_tensors(0)), asked(random_tensors(1)))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_of_all_that_take_a_network_the_best_one_is_asked(activation: str) -> None:
    tensors = example(activation)
    whole = network(tensors, activation)
    taking = {}
    for card in shipped_predictors():
        try:
            load_predictor(card.name).accept(whole.graph, tensors)
        except Refused:
            continue
        taking[card.name] = card.out_of_fold["kendall_tau"]
    answer = predict_generalization(checkpoint(tensors), (whole,))
    assert answer.predictor == max(taking, key=lambda name: taking[name])


def test_a_kind_that_no_shipped_predictor_is_of_and_one_that_does_not_exist() -> None:
    tensors = random_tensors(0)
    with pytest.raises(WrongUsage, match="monomial-nfn") as caught:
        predict_generalization(checkpoint(tensors), (network(tensors),), model="monomial")
    assert caught.value.code == "unknown-model"
    with pytest.raises(WrongUsage, match="is of kind monomial-nfn") as caught:
        predict_generalization(checkpoint(tensors), (network(tensors),), "generalization-cifar10gs-relu", "probe")
    assert caught.value.code == "unknown-predictor"
