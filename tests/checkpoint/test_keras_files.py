"""Keras models are read from HDF5 and .keras archives, with the activations they state, and written again around their weights."""

from __future__ import annotations

import io
import json
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import nfn_cli
from nfn_cli import NameOptions
from nfn_cli.errors import NfnError, Refused

Layer = dict[str, Any]


def _layer(kind: str, name: str, **settings: Any) -> Layer:
    return {"class_name": kind, "config": {"name": name, **settings}}


def _config(layers: list[Layer], kind: str = "Sequential") -> dict[str, Any]:
    return {"class_name": kind, "config": {"name": "model", "layers": layers}}


MLP = [
    _layer("InputLayer", "input"),
    _layer("Dense", "zeta", activation="linear"),  # names whose order is not that of the layers
    _layer("BatchNormalization", "norm", epsilon=0.01),
    _layer("ReLU", "re_lu", max_value=None, negative_slope=0.0, threshold=0.0),
    _layer("Dropout", "dropout", rate=0.5),
    _layer("Dense", "alpha", activation="tanh"),
    _layer("Dense", "middle", activation="softmax"),
]


def _values(seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    sizes = {"zeta": (5, 12), "alpha": (12, 12), "middle": (12, 3)}
    made = {
        name: {"kernel": random.normal(size=size).astype("f4"), "bias": random.normal(size=size[1]).astype("f4")}
        for name, size in sizes.items()
    }
    made["norm"] = {
        "gamma": random.uniform(0.5, 2, 12).astype("f4"),
        "beta": random.normal(size=12).astype("f4"),
        "moving_mean": random.normal(size=12).astype("f4"),
        "moving_variance": random.uniform(0.5, 2, 12).astype("f4"),
    }
    return made


def _keras_2(path: Path, layers: list[Layer], kind: str = "Sequential", **storing: Any) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(_config(layers, kind))
        for name, tensors in _values().items():
            for role, array in tensors.items():
                file.create_dataset(f"model_weights/{name}/{name}/{role}:0", data=array, **storing)
        file.create_dataset("optimizer_weights/Adam/m/zeta/kernel:0", data=np.ones((5, 12), "f4"))
    return path


def _keras_3(path: Path, layers: list[Layer]) -> Path:
    weights = io.BytesIO()
    saved = {"zeta": "dense", "norm": "batch_normalization", "alpha": "dense_1", "middle": "dense_2"}
    with h5py.File(weights, "w") as file:
        for name, tensors in _values().items():
            for number, array in enumerate(tensors.values()):
                file.create_dataset(f"layers/{saved[name]}/vars/{number}", data=array)
        file.create_dataset("optimizer/vars/0", data=np.int64(7))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", json.dumps(_config(layers)))
        archive.writestr("model.weights.h5", weights.getvalue())
    return path


def _made(form: str, folder: Path, layers: list[Layer] = MLP) -> Path:
    return _keras_2(folder / "m.h5", layers) if form == "hdf5" else _keras_3(folder / "m.keras", layers)


def _outputs(checkpoint: nfn_cli.Checkpoint, x: np.ndarray) -> np.ndarray:
    """The model computed by hand: the slow obvious way."""
    t = {name: np.asarray(array, np.float64) for name, array in checkpoint.tensors.items()}
    first, norm, second, last = (
        ("zeta", "norm", "alpha", "middle")
        if "zeta/kernel" in t
        else ("dense", "batch_normalization", "dense_1", "dense_2")
    )
    z = x @ t[f"{first}/kernel"] + t[f"{first}/bias"]
    z = (z - t[f"{norm}/moving_mean"]) / np.sqrt(t[f"{norm}/moving_variance"] + 0.01)
    z = np.maximum(z * t[f"{norm}/gamma"] + t[f"{norm}/beta"], 0)
    z = np.tanh(z @ t[f"{second}/kernel"] + t[f"{second}/bias"])
    return z @ t[f"{last}/kernel"] + t[f"{last}/bias"]


@pytest.mark.parametrize("form", ["hdf5", "keras"])
def test_a_model_is_read_in_the_order_and_with_the_activations_it_states(tmp_path: Path, form: str) -> None:
    (network,) = nfn_cli.symmetry_report(_made(form, tmp_path)).as_json()["networks"]
    assert network["group"] == "(R>0^2 × {±1})^12 ⋊ S_12 × {±1}^12 ⋊ S_12"
    assert (network["activation"], network["activation_source"]) == (["relu", "tanh"], "the Keras configuration")


@pytest.mark.parametrize("form", ["hdf5", "keras"])
def test_a_canonical_model_computes_what_it_did_and_keeps_every_other_byte(tmp_path: Path, form: str) -> None:
    path, out = _made(form, tmp_path), tmp_path / "out"
    nfn_cli.save(nfn_cli.canonicalize(path).checkpoint, out)
    before, after = nfn_cli.load(path), nfn_cli.load(out)
    x = np.random.default_rng(1).normal(size=(20, 5))
    assert np.allclose(_outputs(before, x), _outputs(after, x), atol=1e-5)
    first = next(iter(before.tensors))
    assert not np.array_equal(before.tensors[first], after.tensors[first])
    assert path.stat().st_size == out.stat().st_size
    with h5py.File(out if form == "hdf5" else io.BytesIO(zipfile.ZipFile(out).read("model.weights.h5"))) as file:
        kept = file["optimizer_weights/Adam/m/zeta/kernel:0" if form == "hdf5" else "optimizer/vars/0"]
        assert np.all(kept[()] == (1 if form == "hdf5" else 7))


def test_weights_without_a_configuration_need_the_activation(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "w.weights.h5", "w") as file:
        for number, shape in enumerate([(4, 6), (6, 2)]):
            layer = f"layers/dense_{number}" if number else "layers/dense"
            file.create_dataset(f"{layer}/vars/0", data=np.ones(shape, "f4"))
            file.create_dataset(f"{layer}/vars/1", data=np.ones(shape[1], "f4"))
    with pytest.raises(Refused) as caught:
        nfn_cli.symmetry_report(tmp_path / "w.weights.h5")
    assert caught.value.code == "activation-unknown"
    report = nfn_cli.symmetry_report(tmp_path / "w.weights.h5", NameOptions(activation="tanh")).as_json()
    assert report["networks"][0]["group"] == "{±1}^6 ⋊ S_6"


def test_without_the_configuration_no_scale_passes_a_norm_whose_epsilon_is_unknown(tmp_path: Path) -> None:
    names = {"zeta": "dense", "norm": "batch_normalization", "middle": "dense_1"}
    values = {
        f"{names[name]}/{role}": array
        for name, roles in _values().items()
        if name in names
        for role, array in roles.items()
    }
    np.savez(tmp_path / "m.npz", **values)
    known = nfn_cli.load(_made("hdf5", tmp_path))
    assert known.hints.epsilons == {"norm": 0.01}
    report = nfn_cli.symmetry_report(tmp_path / "m.npz", NameOptions(activation="relu")).as_json()
    assert report["networks"][0]["group"] == "R>0^12 ⋊ S_12"


def _functional(before: list[str]) -> list[Layer]:
    layers = [_layer("InputLayer", "input"), _layer("Dense", "zeta", activation="relu")]
    layers += [_layer("Dense", "alpha", activation="relu"), _layer("Dense", "middle")]
    for layer, name in zip(layers, before, strict=True):
        layer["name"] = layer["config"]["name"]
        layer["inbound_nodes"] = [[[part, 0, 0, {}] for part in name.split("+")]] if name else []
    return layers


def test_a_functional_model_that_does_not_name_its_ends_is_taken_only_where_it_is_a_chain(tmp_path: Path) -> None:
    chain = _keras_2(tmp_path / "chain.h5", _functional(["", "input", "zeta", "alpha"]), "Functional")
    assert nfn_cli.load(chain).hints.activation == "relu"
    branched = _keras_2(tmp_path / "branched.h5", _functional(["", "input", "zeta", "zeta"]), "Functional")
    with pytest.raises(Refused) as caught:
        nfn_cli.symmetry_report(branched)
    assert caught.value.code == "needs-graph"


@pytest.mark.parametrize("kind", ["LSTM", "RBFLayer", "Lambda", "Resizing"])
def test_layers_that_are_not_known_freeze_the_units_that_they_read(tmp_path: Path, kind: str) -> None:
    path = _keras_2(tmp_path / "m.h5", [*MLP[:4], _layer(kind, "own"), *MLP[4:]])
    (network,) = nfn_cli.symmetry_report(path).as_json()["networks"]
    assert network["group"] == "(R>0 × {±1})^12"  # between the first layer and the norm behind it
    assert network["opaque"][0] == f"own: keras.{kind}"


@pytest.mark.parametrize(("kind", "code"), [("LSTM", "recurrent"), ("RBFLayer", "unknown-layer")])
def test_the_order_of_tensors_is_not_read_where_a_layer_is_not_known(tmp_path: Path, kind: str, code: str) -> None:
    path = _keras_2(tmp_path / "m.h5", [*MLP[:4], _layer(kind, "own"), *MLP[4:]])
    with pytest.raises(Refused) as caught:
        nfn_cli.symmetry_report(path, NameOptions(activation="relu"))
    assert caught.value.code == code


@pytest.mark.parametrize("kind", ["Lambda", "Resizing", "RandomFlip"])
def test_what_prepares_the_input_is_the_input(tmp_path: Path, kind: str) -> None:
    ahead = nfn_cli.symmetry_report(_keras_2(tmp_path / "a.h5", [_layer(kind, "own"), *MLP[1:]])).as_json()
    assert ahead["networks"][0]["group"] == "(R>0^2 × {±1})^12 ⋊ S_12 × {±1}^12 ⋊ S_12"


def test_a_model_of_a_class_of_its_own_is_said_to_be_one(tmp_path: Path) -> None:
    path = _keras_3(tmp_path / "m.keras", MLP)
    with zipfile.ZipFile(path) as archive:
        weights = archive.read("model.weights.h5")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Detector", "config": {"trainable": True}}))
        archive.writestr("model.weights.h5", weights)
    with pytest.raises(Refused, match=r"class Detector.*ONNX") as caught:
        nfn_cli.symmetry_report(path)
    assert caught.value.code == "needs-graph"


def test_the_parser_of_hdf5_does_not_warn_the_user(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_dataset("table/values", data=np.ones((3, 4)))
        for made in (file["table"], file["table/values"]):  # bits, as PyTables writes them, which pyfive does not read
            h5py.h5a.create(made.id, b"transposed", h5py.h5t.STD_B8LE, h5py.h5s.create(h5py.h5s.SCALAR))
    with pytest.raises(Refused):
        nfn_cli.symmetry_report(tmp_path / "m.h5")
    assert not [entry for entry in recwarn if "not implemented" in str(entry.message)]


@pytest.mark.parametrize(("pool", "group"), [("MaxPooling2D", "S_9"), ("AveragePooling2D", "{±1}^9 ⋊ S_9")])
def test_max_pooling_takes_the_signs_away(tmp_path: Path, pool: str, group: str) -> None:
    conv = _layer("Conv2D", "conv", activation="tanh")
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        layers = [conv, _layer(pool, "pool"), _layer("Flatten", "flat"), _layer("Dense", "d")]
        file.attrs["model_config"] = json.dumps(_config(layers))
        file["model_weights/conv/conv/kernel:0"] = np.random.default_rng(0).normal(size=(3, 3, 2, 9)).astype("f4")
        file["model_weights/d/d/kernel:0"] = np.random.default_rng(1).normal(size=(36, 4)).astype("f4")
    assert nfn_cli.symmetry_report(path).as_json()["networks"][0]["group"] == group


def test_transposed_convolutions_are_those_of_the_configuration(tmp_path: Path) -> None:
    """A square weight tells nothing of itself; its rows are what it makes: (h, w, out, in)."""
    path, shapes = tmp_path / "m.h5", {"down": (3, 3, 1, 6), "up": (3, 3, 6, 6), "last": (3, 3, 2, 6)}
    kinds = {"down": "Conv2D", "up": "Conv2DTranspose", "last": "Conv2DTranspose"}
    layers = [_layer(kinds[name], name, activation="" if name == "last" else "relu") for name in shapes]
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(_config(layers))
        for number, (name, shape) in enumerate(shapes.items()):
            file[f"model_weights/{name}/{name}/kernel:0"] = (
                np.random.default_rng(number).normal(size=shape).astype("f4")
            )
    (network,) = nfn_cli.symmetry_report(path).as_json()["networks"]
    assert network["group"] == "R>0^6 ⋊ S_6 × R>0^6 ⋊ S_6"
    axes = [[(entry["tensor"], entry["axis"]) for entry in units["tensors"]] for units in network["unit_sets"]]
    assert axes == [[("down/kernel", 3), ("up/kernel", 3)], [("up/kernel", 2), ("last/kernel", 3)]]


def test_compressed_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        nfn_cli.load(_keras_2(tmp_path / "m.h5", MLP, compression="gzip"))
    assert caught.value.code == "unsupported-tensor"


@pytest.mark.parametrize("form", ["hdf5", "keras"])
def test_damage_is_said_in_words(tmp_path: Path, form: str) -> None:
    whole = bytearray(_made(form, tmp_path).read_bytes())
    random = np.random.default_rng(0)
    broken = tmp_path / "broken"
    for _ in range(60):
        damaged = bytearray(whole)
        for at in random.integers(0, min(len(whole), 3000), 8):
            damaged[at] = random.integers(256)
        broken.write_bytes(damaged[: random.integers(100, len(whole) + 1)])
        with suppress(NfnError):
            nfn_cli.load(broken)
