"""A Keras model is what its configuration says: branches, models within models, layers used twice, in both forms of file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import nfn_cli
from nfn_cli.errors import Refused, WrongUsage
from nfn_cli.graph.reference import evaluate

from .keras_models import Array, Layer, Model, config, conv, max_pool, turned, write_archive, write_hdf5

RNG = np.random.default_rng(0)


def _normal(*shape: int) -> Array:
    return RNG.normal(size=shape)


KERNEL, SPREAD, POINT = _normal(3, 3, 2, 4), _normal(3, 3, 4, 1), _normal(1, 1, 4, 4)
SHIFT, MEAN, VARIANCE = _normal(4), _normal(4), RNG.uniform(0.5, 2, 4)
UP, WIDE, WIDE_BIAS, LAST = _normal(3, 3, 5, 8), _normal(8 * 8 * 5, 6), _normal(6), _normal(6, 3)


def _branched() -> Model:
    return Model(
        (
            Layer("InputLayer", "in", (), {"batch_input_shape": [None, 8, 8, 2], "batch_shape": [None, 8, 8, 2]}, {}),
            Layer("Rescaling", "small", ("in",), {"scale": 0.5, "offset": [1.0, -1.0]}, {}),
            Layer(
                "Conv2D",
                "first",
                ("small",),
                {"strides": [2, 2], "padding": "same", "use_bias": False, "activation": "relu"},
                {"kernel": KERNEL},
            ),
            Layer(
                "BatchNormalization",
                "norm",
                ("first",),
                {"axis": [3], "epsilon": 0.01, "scale": False},
                {"beta": SHIFT, "moving_mean": MEAN, "moving_variance": VARIANCE},
            ),
            Layer(
                "DepthwiseConv2D",
                "spread",
                ("norm",),
                {"padding": "same", "use_bias": False},
                {"depthwise_kernel": SPREAD},
            ),
            Layer("Conv2D", "point", ("norm",), {"use_bias": False}, {"kernel": POINT}),
            Layer("Add", "sum", (("spread", "point"),), {}, {}),
            Layer("ReLU", "relu", ("sum",), {"max_value": None}, {}),
            Layer("Concatenate", "both", (("relu", "first"),), {"axis": -1}, {}),
            Layer("MaxPooling2D", "pool", ("both",), {"pool_size": [3, 3], "strides": [1, 1], "padding": "same"}, {}),
            Layer(
                "Conv2DTranspose",
                "up",
                ("pool",),
                {"strides": [2, 2], "padding": "same", "use_bias": False, "activation": "tanh"},
                {"kernel": UP},
            ),
            Layer("Flatten", "flat", ("up",), {}, {}),
            Layer("Dropout", "drop", ("flat",), {"rate": 0.5}, {}),
            Layer("Dense", "wide", ("drop",), {"activation": "relu"}, {"kernel": WIDE, "bias": WIDE_BIAS}),
            Layer("Dense", "last", ("wide",), {"use_bias": False}, {"kernel": LAST}),
        ),
        ("in",),
        ("last",),
    )


def _branched_by_hand(x: Array) -> Array:
    first = np.maximum(conv(x * 0.5 + np.array([1.0, -1.0]), KERNEL, 2), 0)
    norm = (first - MEAN) / np.sqrt(VARIANCE + 0.01) + SHIFT
    relu = np.maximum(conv(norm, SPREAD, depthwise=True) + conv(norm, POINT), 0)
    up = np.tanh(turned(max_pool(np.concatenate([relu, first], -1), 3, 1), UP, 2))
    return np.maximum(up.reshape(len(x), -1) @ WIDE + WIDE_BIAS, 0) @ LAST


A, A_BIAS, B, OWN, HEAD = _normal(5, 7), _normal(7), _normal(7, 4), _normal(5, 5), _normal(8, 2)


def _twice() -> Model:
    """A model within the model, called on the input and on what another layer makes of it."""
    inner = Model(
        (
            Layer("InputLayer", "own", (), {"batch_input_shape": [None, 5], "batch_shape": [None, 5]}, {}),
            Layer("Dense", "a", ("own",), {"activation": "relu"}, {"kernel": A, "bias": A_BIAS}),
            Layer("Dense", "b", ("a",), {"use_bias": False, "activation": "tanh"}, {"kernel": B}),
        ),
        ("own",),
        ("b",),
    )
    return Model(
        (
            Layer("InputLayer", "in", (), {"batch_input_shape": [None, 5], "batch_shape": [None, 5]}, {}),
            Layer("Dense", "other", ("in",), {"use_bias": False}, {"kernel": OWN}),
            Layer("Functional", "inner", ("in", "other"), {}, {}, inner),
            Layer("Concatenate", "both", (("inner", "inner:1"),), {"axis": -1}, {}),
            Layer("Dense", "head", ("both",), {"use_bias": False}, {"kernel": HEAD}),
        ),
        ("in",),
        ("head",),
    )


def _twice_by_hand(x: Array) -> Array:
    made = [np.tanh(np.maximum(z @ A + A_BIAS, 0) @ B) for z in (x, x @ OWN)]
    return np.concatenate(made, -1) @ HEAD


MODELS: dict[str, tuple[Callable[[], Model], Callable[[Array], Array], tuple[int, ...]]] = {
    "branched": (_branched, _branched_by_hand, (8, 8, 2)),
    "twice": (_twice, _twice_by_hand, (5,)),
}
WRITERS = {"hdf5": write_hdf5, "keras": write_archive}


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("name", MODELS)
def test_the_graph_computes_what_the_layers_do(tmp_path: Path, name: str, form: str) -> None:
    make, by_hand, shape = MODELS[name]
    model = nfn_cli.open_model(WRITERS[form](tmp_path / f"m.{form}", make()))
    (network,) = model.networks
    x = np.random.default_rng(1).normal(size=(2, *shape))
    fed = {network.graph.inputs[0].name: np.moveaxis(x, -1, 1)}
    (found,) = evaluate(network.graph, model.checkpoint.tensors, fed)
    expected = by_hand(x)
    assert np.allclose(found, expected, rtol=1e-10, atol=1e-10)
    assert not np.allclose(found, by_hand(np.roll(x, 1, 1)))  # the control: the comparison sees where things are
    assert network.activation_source == "the Keras configuration"


@pytest.mark.parametrize("form", WRITERS)
def test_branches_share_units_and_a_model_used_twice_moves_as_one(tmp_path: Path, form: str) -> None:
    groups = {}
    for name, (make, _, _) in MODELS.items():
        report = nfn_cli.symmetry_report(WRITERS[form](tmp_path / f"{name}.{form}", make()))
        assert report.passed
        groups[name] = [units["group"] for units in report.as_json()["networks"][0]["unit_sets"]]
    # the depthwise convolution makes units of "first" and of the sum the same; each has a magnitude of its own
    assert groups["branched"] == ["(R>0^2)^4 ⋊ S_4", "{±1}^5 ⋊ S_5", "R>0^6 ⋊ S_6"]
    # what "other" makes stands where the input stands: it cannot move
    assert groups["twice"] == ["R>0^7 ⋊ S_7", "{±1}^4 ⋊ S_4"]


@pytest.mark.parametrize("form", WRITERS)
def test_a_canonical_file_computes_the_same(tmp_path: Path, form: str) -> None:
    path, out = WRITERS[form](tmp_path / f"m.{form}", _branched()), tmp_path / f"out.{form}"
    nfn_cli.save(nfn_cli.canonicalize(path).checkpoint, out)
    x = np.random.default_rng(1).normal(size=(2, 2, 8, 8))
    answers = []
    for each in (path, out):
        model = nfn_cli.open_model(each)
        graph = model.networks[0].graph
        answers.append(evaluate(graph, model.checkpoint.tensors, {graph.inputs[0].name: x})[0])
    assert np.allclose(*answers, rtol=1e-9, atol=1e-9)
    assert nfn_cli.equivalent(path, out).equivalent


def _with_own_layer() -> Model:
    shape = {"batch_input_shape": [None, 6], "batch_shape": [None, 6]}
    return Model(
        (
            Layer("InputLayer", "in", (), shape, {}),
            Layer("Dense", "one", ("in",), {"activation": "relu"}, {"kernel": _normal(6, 4), "bias": _normal(4)}),
            Layer("OwnLayer", "own", ("one",), {}, {"kernel": _normal(4, 4)}),
            Layer("Dense", "two", ("in",), {"activation": "relu"}, {"kernel": _normal(6, 5), "bias": _normal(5)}),
            Layer("Dense", "last", ("two",), {}, {"kernel": _normal(5, 2), "bias": _normal(2)}),
        ),
        ("in",),
        ("own", "last"),
    )


@pytest.mark.parametrize("form", WRITERS)
def test_a_layer_that_is_not_known_freezes_what_it_reads_and_nothing_else(tmp_path: Path, form: str) -> None:
    (network,) = nfn_cli.symmetry_report(WRITERS[form](tmp_path / f"m.{form}", _with_own_layer())).as_json()["networks"]
    assert [units["group"] for units in network["unit_sets"]] == ["R>0^5 ⋊ S_5"]
    assert network["opaque"] == ["own: keras.OwnLayer"]


def test_weights_that_are_not_those_of_the_configuration_are_no_model(tmp_path: Path) -> None:
    model = _twice()
    lost = Model(tuple(layer for layer in model.layers if layer.name != "other"), model.inputs, model.outputs)
    with pytest.raises(Refused) as caught:
        nfn_cli.symmetry_report(write_hdf5(tmp_path / "m.h5", lost))
    assert caught.value.code == "unknown-layer"


def _somebody_elses(layers: dict[str, Any]) -> None:
    layers["norm"]["module"] = "mine.layers"


def _in_training(layers: dict[str, Any]) -> None:
    layers["norm"]["inbound_nodes"][0]["kwargs"] = {"training": True}


def _with_adapter(layers: dict[str, Any]) -> None:
    layers["wide"]["config"]["use_bias"] = False  # what the layer has beside its kernel is then not what its class says


@pytest.mark.parametrize(
    ("change", "opaque"),
    [
        (_somebody_elses, "norm: mine.layers.BatchNormalization"),
        (_in_training, "norm: keras.BatchNormalization"),
        (_with_adapter, "wide: keras.Dense"),
    ],
)
def test_a_layer_that_is_more_than_its_class_says_is_frozen(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], opaque: str
) -> None:
    whole = nfn_cli.symmetry_report(write_archive(tmp_path / "whole.keras", _branched())).as_json()["networks"][0]
    (network,) = nfn_cli.symmetry_report(write_archive(tmp_path / "m.keras", _branched(), change)).as_json()["networks"]
    assert network["opaque"][0] == opaque
    assert whole["opaque"] == []
    assert network["continuous_dimension"] < whole["continuous_dimension"]


@pytest.mark.parametrize(("first", "group"), [(False, "R>0^5 ⋊ S_5"), (True, "1")])
def test_a_number_divided_by_units_is_not_units_divided_by_a_number(tmp_path: Path, first: bool, group: str) -> None:
    shape = {"batch_shape": [None, 6]}
    model = Model(
        (
            Layer("InputLayer", "in", (), shape, {}),
            Layer("Dense", "two", ("in",), {"activation": "relu"}, {"kernel": _normal(6, 5), "bias": _normal(5)}),
            Layer("Divide", "ratio", ("two",), {}, {}),
            Layer("Dense", "last", ("ratio",), {}, {"kernel": _normal(5, 2), "bias": _normal(2)}),
        ),
        ("in",),
        ("last",),
    )

    def by_two(layers: dict[str, Any]) -> None:
        layers["ratio"]["module"] = "keras.src.ops.numpy"
        arguments = layers["ratio"]["inbound_nodes"][0]["args"]
        arguments.insert(0 if first else 1, 2.0)

    report = nfn_cli.symmetry_report(write_archive(tmp_path / "m.keras", model, by_two)).as_json()
    assert report["networks"][0]["group"] == group


@pytest.mark.parametrize(
    ("said", "group"),
    [
        ({"class_name": "LeakyReLU", "module": "keras.layers", "config": {"negative_slope": 0.1}}, "R>0^5 ⋊ S_5"),
        ({"class_name": "LeakyReLU", "config": {"alpha": 0.1}}, "R>0^5 ⋊ S_5"),
        ({"class_name": "LeakyReLU", "module": "mine", "config": {"alpha": 0.1}}, "1"),
        ({"class_name": "function", "config": "own_function", "registered_name": "function"}, "1"),
        ("tanh", "{±1}^5 ⋊ S_5"),
    ],
)
def test_activations_are_said_by_name_or_as_layers(tmp_path: Path, said: Any, group: str) -> None:
    shape = {"batch_shape": [None, 6]}
    model = Model(
        (
            Layer("InputLayer", "in", (), shape, {}),
            Layer("Dense", "two", ("in",), {"activation": said}, {"kernel": _normal(6, 5), "bias": _normal(5)}),
            Layer("Dense", "last", ("two",), {}, {"kernel": _normal(5, 2), "bias": _normal(2)}),
        ),
        ("in",),
        ("last",),
    )
    report = nfn_cli.symmetry_report(write_archive(tmp_path / "m.keras", model)).as_json()
    assert report["networks"][0]["group"] == group


def test_pictures_of_any_size_are_checked_on_small_ones(tmp_path: Path) -> None:
    """No symmetry depends on the size, unless weights do: the branched model has weights for each position."""
    shape = {"batch_shape": [None, 900, 900, 2]}
    model = Model(
        (
            Layer("InputLayer", "in", (), shape, {}),
            Layer("Conv2D", "first", ("in",), {"activation": "relu", "use_bias": False}, {"kernel": KERNEL}),
            Layer("GlobalMaxPooling2D", "mean", ("first",), {}, {}),
            Layer("Dense", "last", ("mean",), {"use_bias": False}, {"kernel": _normal(4, 2)}),
        ),
        ("in",),
        ("last",),
    )
    (network,) = nfn_cli.open_model(write_archive(tmp_path / "m.keras", model)).networks
    assert network.graph.inputs[0].shape == (2, 2, 128, 128)


@pytest.mark.parametrize("form", ["by name", "by class"])
def test_weights_alone_are_read_with_the_configuration_beside_them(tmp_path: Path, form: str) -> None:
    """`model.to_json()` beside `model.save_weights()`."""
    whole = WRITERS["hdf5" if form == "by name" else "keras"](tmp_path / "whole", _branched())
    weights = tmp_path / ("m.h5" if form == "by name" else "m.weights.h5")
    if form == "by name":
        with h5py.File(whole) as source, h5py.File(weights, "w") as target:
            for name, group in source["model_weights"].items():
                source.copy(group, target, name)
    else:
        with zipfile.ZipFile(whole) as archive:
            weights.write_bytes(archive.read("model.weights.h5"))
    (tmp_path / "m.json").write_text(json.dumps(config(_branched(), 2 if form == "by name" else 3)))
    report, expected = (nfn_cli.symmetry_report(path).as_json()["networks"][0] for path in (weights, whole))
    assert report["group"] == expected["group"]
    assert report["activation_source"] == "the Keras configuration in m.json"
    nfn_cli.save(nfn_cli.canonicalize(weights).checkpoint, tmp_path / "out.h5")
    with pytest.raises(WrongUsage):
        nfn_cli.save(nfn_cli.load(weights), tmp_path / "m.json", force=True)
    (tmp_path / "m.json").write_text('{"class_name": "not a configuration"}')
    assert nfn_cli.load(weights).hints.order == ()


def test_a_nested_model_with_one_layer_of_weights_and_others_beside_it(tmp_path: Path) -> None:
    """HDF5 files leave the name of such a layer out: its tensors stand where those of the model would."""
    shape = {"batch_input_shape": [None, 6]}
    first = {"kernel": _normal(6, 5), "bias": _normal(5)}
    inner = Model(
        (
            Layer("InputLayer", "own", (), shape, {}),
            Layer("Dense", "deep", ("own",), {}, first),
            Layer("ReLU", "relu", ("deep",), {"max_value": None}, {}),
        ),
        ("own",),
        ("relu",),
    )
    model = Model(
        (
            Layer("InputLayer", "in", (), shape, {}),
            Layer("Functional", "inner", ("in",), {}, {}, inner),
            Layer("Dense", "last", ("inner",), {"use_bias": False}, {"kernel": _normal(5, 2)}),
        ),
        ("in",),
        ("last",),
    )
    (network,) = nfn_cli.symmetry_report(write_hdf5(tmp_path / "m.h5", model)).as_json()["networks"]
    assert (network["group"], network["opaque"]) == ("R>0^5 ⋊ S_5", [])
