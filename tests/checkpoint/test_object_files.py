"""Whole modules and other pickled objects are read as names and numbers, never run, and written again around their weights."""

from __future__ import annotations

import pickle
import struct
import sys
import types
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import nfn_cli
from nfn_cli import NameOptions
from nfn_cli.errors import NfnError, Refused


def _forms(value: Any, folder: Path) -> dict[str, Path]:
    """The value as torch and pickle write it."""
    forms = {name: folder / name for name in ("zip.pt", "legacy.pt", "plain.pkl", "second.pkl")}
    torch.save(value, forms["zip.pt"])
    torch.save(value, forms["legacy.pt"], _use_new_zipfile_serialization=False)
    forms["plain.pkl"].write_bytes(pickle.dumps(value))
    forms["second.pkl"].write_bytes(pickle.dumps(value, protocol=2))
    return forms


def _groups(path: Path, **options: str) -> list[str]:
    return [network["group"] for network in nfn_cli.symmetry_report(path, NameOptions(**options)).as_json()["networks"]]


def _canonicalized(path: Path, out: Path, **options: str) -> None:
    nfn_cli.save(nfn_cli.canonicalize(path, NameOptions(**options)).checkpoint, out)


def _sequential() -> nn.Sequential:
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Conv2d(8, 6, 3, stride=2), nn.LeakyReLU(0.2))
    front = (nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), inner)
    made = nn.Sequential(*front, nn.Flatten(), nn.Dropout(), nn.Linear(216, 9), nn.Tanh(), nn.Linear(9, 4))
    made(torch.randn(5, 1, 28, 28))
    return made.eval()


@pytest.fixture
def program() -> Any:
    """A program of its own, whose classes are gone when its files are read."""
    source = types.ModuleType("somebodys_program")
    code = """
import numpy as np, torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.act, self.second = nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3)
        self.register_buffer("mean", torch.ones(5), persistent=False)
        self.scale = torch.full((3,), 2.0)
    def forward(self, x):
        return self.second(self.act(self.first(x)))
class Layer:
    def __init__(self, given, made, activation):
        random = np.random.default_rng(0)
        self.weights, self.biases = random.normal(size=(given, made)), random.normal(size=(1, made))
        self.activation, self.cache = activation, random.normal(size=(11, made))
class Model:
    def __init__(self):
        self.layers, self.epochs = [Layer(4, 6, "tanh"), Layer(6, 5, "relu"), Layer(5, 2, "softmax")], 3
"""
    exec(code, source.__dict__)  # the classes a stranger would have
    sys.modules[source.__name__] = source
    yield source
    sys.modules.pop(source.__name__, None)


@pytest.mark.parametrize("form", ["zip.pt", "legacy.pt", "plain.pkl", "second.pkl"])
@pytest.mark.parametrize("wrapped", ["alone", "in a map", "in DataParallel"])
def test_a_whole_module_has_the_tensors_of_its_state_dict(tmp_path: Path, form: str, wrapped: str) -> None:
    model = _sequential()
    value = {"alone": model, "in a map": {"net": model, "epoch": 3}, "in DataParallel": nn.DataParallel(model)}[wrapped]
    checkpoint = nfn_cli.load(_forms(value, tmp_path)[form])
    expected = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    assert set(checkpoint.tensors) == set(expected)
    for name, array in checkpoint.tensors.items():
        assert array.dtype == expected[name].dtype
        assert np.array_equal(array, expected[name])


def test_a_sequential_says_all_of_its_network(tmp_path: Path) -> None:
    forms = _forms(_sequential(), tmp_path)
    for path in forms.values():
        assert _groups(path) == ["(R>0^2 × {±1})^8 ⋊ S_8 × R>0^6 ⋊ S_6 × {±1}^9 ⋊ S_9"]


@pytest.mark.parametrize("form", ["zip.pt", "legacy.pt", "plain.pkl"])
def test_a_canonical_module_is_the_same_file_but_for_its_weights(tmp_path: Path, form: str) -> None:
    model = _sequential()
    path, out = _forms(model, tmp_path)[form], tmp_path / "out"
    _canonicalized(path, out)
    loaded = (
        pickle.loads(out.read_bytes()) if form.endswith("pkl") else torch.load(out, weights_only=False)
    )  # our own file
    x = torch.randn(3, 1, 28, 28)
    assert torch.allclose(loaded(x), model(x), atol=1e-5)
    assert not torch.equal(loaded[7].weight, model[7].weight), "nothing was canonicalized"
    before, after = path.read_bytes(), out.read_bytes()
    assert len(before) == len(after)
    changed = np.flatnonzero(np.frombuffer(before, np.uint8) != np.frombuffer(after, np.uint8))
    weights = sum(tensor.nbytes for tensor in model.state_dict().values())
    assert 0 < len(changed) <= weights + 200, "more than weights and checksums changed"


def test_a_class_that_is_nowhere_is_read_by_its_names(tmp_path: Path, program: Any) -> None:
    model = program.Net()
    forms = _forms(model, tmp_path)
    del sys.modules["somebodys_program"]
    with pytest.raises(ModuleNotFoundError):  # the control: the ordinary reader needs the program
        torch.load(forms["zip.pt"], weights_only=False)
    for path in forms.values():
        assert list(nfn_cli.load(path).tensors) == ["first.weight", "first.bias", "second.weight", "second.bias"]
        with pytest.raises(Refused, match=r"--activation NAME \(the file has relu") as caught:
            nfn_cli.symmetry_report(path)
        assert caught.value.code == "activation-unknown"
        assert _groups(path, activation="relu") == ["R>0^7 ⋊ S_7"]


def test_layers_of_arrays_are_a_network_with_the_activations_they_name(tmp_path: Path, program: Any) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(program.Model()))
    del sys.modules["somebodys_program"]
    assert _groups(path) == ["{±1}^6 ⋊ S_6 × R>0^5 ⋊ S_5"]


@pytest.mark.parametrize("written_by", ["pickle", "joblib", "in a pipeline"])
def test_a_perceptron_of_scikit_learn_keeps_its_answers(tmp_path: Path, written_by: str) -> None:
    network = pytest.importorskip("sklearn.neural_network")
    pipeline = pytest.importorskip("sklearn.pipeline")
    joblib = pytest.importorskip("joblib")
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    random = np.random.default_rng(0)
    x = random.normal(size=(80, 5))
    y = (x[:, 0] * x[:, 1] > 0).astype(int)
    model = network.MLPClassifier((9, 6), activation="tanh", max_iter=30, tol=1.0)
    if written_by == "in a pipeline":
        model = pipeline.make_pipeline(preprocessing.StandardScaler(), model)
    model.fit(x, y)
    path, out = tmp_path / "model.pkl", tmp_path / "out.pkl"
    if written_by == "joblib":
        joblib.dump(model, path)
    else:
        path.write_bytes(pickle.dumps(model))
    assert _groups(path) == ["{±1}^9 ⋊ S_9 × {±1}^6 ⋊ S_6"]
    _canonicalized(path, out)
    again = joblib.load(out) if written_by == "joblib" else pickle.loads(out.read_bytes())
    assert np.allclose(again.predict_proba(x), model.predict_proba(x), atol=1e-12)
    assert out.read_bytes() != path.read_bytes()


def test_numbers_spelled_as_text_are_read_but_not_written(tmp_path: Path) -> None:
    path, out = tmp_path / "m.pkl", tmp_path / "out.pkl"
    path.write_bytes(
        pickle.dumps({"0.weight": np.ones((3, 2)), "0.bias": np.ones(3), "1.weight": np.ones((4, 3))}, protocol=2)
    )
    assert set(nfn_cli.load(path).tensors) == {"0.weight", "0.bias", "1.weight"}
    with pytest.raises(Refused) as caught:
        _canonicalized(path, out, activation="relu")
    assert caught.value.code == "not-writable"
    assert not out.exists()


def test_a_sequential_with_a_hook_or_a_strangers_module_is_not_followed(tmp_path: Path) -> None:
    class Odd(nn.Module):
        pass

    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    torch.save(model, tmp_path / "plain.pt")
    assert _groups(tmp_path / "plain.pt") == ["{±1}^6 ⋊ S_6"]
    model[1].register_forward_hook(print)
    torch.save(model, tmp_path / "hooked.pt")
    with pytest.raises(Refused) as caught:
        nfn_cli.symmetry_report(tmp_path / "hooked.pt")
    assert caught.value.code in ("activation-unknown", "unsafe-pickle")


# -- hostile -----------------------------------------------------------------------------------------------------------


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def _hash_bomb() -> bytes:
    """A dictionary whose key is a tuple of tuples of tuples …, each twice the one before: hashing it takes 2^60 steps."""
    levels = b"".join(b"h" + bytes([i]) * 1 + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) + b"0" for i in range(60))
    return b"\x80\x04" + b")q\x000" + levels + b"}" + b"h\x3c" + b"K\x01s."


def _doubling_modules() -> bytes:
    """Modules that hold the one before twice: a state dict of 2^40 names."""
    module: nn.Module = nn.Linear(2, 2)
    for _ in range(40):
        outer = nn.Module()
        outer.a = outer.b = module
        module = outer
    return pickle.dumps(module)


def _storage_in_storage(levels: int) -> bytes:
    inner = pickle.dumps(0)
    for _ in range(levels):
        inner = b"\x80\x04ctorch.storage\n_load_from_bytes\nB" + struct.pack("<I", len(inner)) + inner + b"\x85R."
    return inner


@pytest.mark.parametrize("bomb", [_hash_bomb(), _doubling_modules(), _storage_in_storage(300)])
def test_small_pickles_of_endless_work_are_refused_at_once(tmp_path: Path, bomb: bytes) -> None:
    path = tmp_path / "bomb.pkl"
    path.write_bytes(bomb)
    with pytest.raises(Refused) as caught:
        nfn_cli.load(path)
    assert caught.value.code in ("too-large", "truncated", "plain-pickle")


@pytest.mark.parametrize("form", ["zip.pt", "legacy.pt", "plain.pkl"])
def test_every_cut_of_a_file_is_refused_in_words(tmp_path: Path, form: str) -> None:
    torch.manual_seed(0)
    whole = _forms(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), tmp_path)[form].read_bytes()
    cut = tmp_path / "cut"
    for length in range(0, len(whole) - 1, max(1, len(whole) // 120)):
        cut.write_bytes(whole[:length])
        with pytest.raises(NfnError):
            nfn_cli.load(cut)


def test_a_module_whose_buffers_are_no_map_is_read_without_them(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    model[0].__dict__["_buffers"] = nn.Linear
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(model))
    assert _groups(tmp_path / "m.pkl") == ["{±1}^4 ⋊ S_4"]


def test_a_kernel_of_no_size_is_no_crash(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 1), nn.Tanh(), nn.Conv2d(4, 2, 1))
    model[0].weight = nn.Parameter(torch.zeros(4, 2, 0, 1))
    torch.save(model, tmp_path / "m.pt")
    with suppress(NfnError):
        nfn_cli.symmetry_report(tmp_path / "m.pt")


def test_numbers_of_the_other_byte_order_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps({"w": np.ones((3, 2), ">f8"), "v": np.ones((2, 3), ">f8")}))
    with pytest.raises(Refused) as caught:
        nfn_cli.load(path)
    assert caught.value.code == "byte-order"


def test_a_pickle_that_calls_a_program_is_not_written_again(tmp_path: Path) -> None:
    class Call:
        def __reduce__(self) -> Any:
            return exec, ("1",)

    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps({"w": np.ones((3, 2)), "v": np.ones((2, 3)), "x": Call()}))
    with pytest.raises(Refused, match="exec: it would run a program") as caught:
        nfn_cli.load(path)
    assert caught.value.code == "unsafe-pickle"


def test_modules_of_old_torch_name_a_function_that_does_nothing(tmp_path: Path) -> None:
    """Before torch 1.5 every module kept what `_get_thnn_function_backend` gave as its attribute _backend."""

    class Backend:
        def __reduce__(self) -> Any:
            return _thnn, ()

    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    for module in model.modules():
        module._backend = Backend()
    sys.modules["torch.nn.backends.thnn"] = source = types.ModuleType("torch.nn.backends.thnn")
    source._get_thnn_function_backend = _thnn  # type: ignore[attr-defined]
    try:
        torch.save(model, tmp_path / "old.pt")
    finally:
        del sys.modules["torch.nn.backends.thnn"]
    assert _groups(tmp_path / "old.pt") == ["{±1}^6 ⋊ S_6"]


def _thnn() -> None:
    """Stands for torch's function of old; pickled by the name that it had."""


_thnn.__module__, _thnn.__qualname__ = "torch.nn.backends.thnn", "_get_thnn_function_backend"
