"""Inputs that once ended in a traceback or a hang (benchmarks/fuzz.py found them): each is refused with a reason."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import nfn_cli
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import NfnError
from nfn_cli.graph.model import Graph, GraphInput, Network, Op
from nfn_cli.predictors.card import read_card
from nfn_cli.predictors.inr_edit import load_editor
from nfn_cli.predictors.inr_predictor import load_inr_predictor
from nfn_cli.predictors.predictor import load_predictor
from nfn_cli.symmetry import write_element
from nfn_cli.symmetry.element_file import read_element
from nfn_cli.symmetry.solve import find_symmetry
from nfn_cli.zoo.images import read_images
from nfn_cli.zoo.network_inputs import read_inputs
from nfn_cli.zoo.open_zoo import open_zoo
from tests.zoo.tiny_zoo import write_zoo


def refusal(read: Callable[[], Any]) -> NfnError:
    with pytest.raises(NfnError) as caught:
        read()
    assert str(caught.value).isprintable()
    return caught.value


def test_a_torch_tensor_that_repeats_one_number_endlessly(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(1).expand(1 << 40).view(1 << 20, 1 << 20)}, tmp_path / "m.pt")
    assert refusal(lambda: nfn_cli.load(tmp_path / "m.pt")).code == "unsupported-tensor"
    torch.save({"fc.weight": torch.zeros(1).expand(4, 3)}, tmp_path / "s.pt")  # the control: small ones are as they are
    assert nfn_cli.load(tmp_path / "s.pt").tensors["fc.weight"].shape == (4, 3)


def test_a_torch_file_whose_lists_double_at_every_level(tmp_path: Path) -> None:
    tree: list[Any] = [torch.zeros(2, 2)]
    for _ in range(50):
        tree = [tree, tree]
    torch.save(tree, tmp_path / "m.pt")
    assert refusal(lambda: nfn_cli.load(tmp_path / "m.pt")).code == "too-large"


def element(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    shapes = {"fc1.weight": (4, 3), "fc1.bias": (4,), "fc2.weight": (2, 4)}
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    save_file(arrays, folder / "m.safetensors", {"activation": "tanh"})
    write_element(nfn_cli.random_element(folder / "m.safetensors"), folder / "e.safetensors")
    return folder / "e.safetensors"


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("permutation", [0, 0, 1, 2]),
        ("permutation", [9, 1, 2, 3]),
        ("permutation", [[0, 1], [2, 3]]),
        ("sign", [[1, 1, 1]]),
        ("sign", [[1, 1, 1, 0]]),
        ("scale", [[0.0, 1.0, 1.0, 1.0]]),
        ("scale", [[float("nan"), 1.0, 1.0, 1.0]]),
        ("scale", 1.0),
        ("shift", [0, 0, 0, 0]),
        ("shift_sign", [5]),
    ],
)
def test_a_group_element_that_is_none(tmp_path: Path, part: str, values: Any) -> None:
    path = element(tmp_path)
    nfn_cli.act(read_element(path), tmp_path / "m.safetensors", inverse=True)  # the control: as written it acts
    arrays = load_file(path)
    name = next(name for name in arrays if name.endswith(f"/{part}"))
    arrays[name] = np.array(values, arrays[name].dtype)
    metadata = dict(nfn_cli.load(path).metadata)
    save_file(arrays, tmp_path / "bad.safetensors", metadata)
    assert refusal(lambda: read_element(tmp_path / "bad.safetensors")).code == "not-an-element"


@pytest.mark.parametrize("load", [load_predictor, load_inr_predictor])
@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "3", '"x"', "{}"])
def test_a_card_that_is_none(tmp_path: Path, load: Callable[[str], Any], text: str) -> None:
    (tmp_path / "card.json").write_text(text)
    (tmp_path / "weights.safetensors").write_bytes(b"")
    assert refusal(lambda: load(str(tmp_path))).code in ("bad-card", "bad-predictor")


def test_a_card_with_a_layer_more_than_widths(tmp_path: Path) -> None:
    shipped = Path(__file__).parents[2] / "models" / "generalization-cifar10gs-relu" / "card.json"
    card = json.loads(shipped.read_text())

    def chains(node: Any) -> list[Any]:
        inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        return [
            *([node] if isinstance(node, dict) and "widths" in node else []),
            *(c for n in inner for c in chains(n)),
        ]

    (tmp_path / "card.json").write_text(json.dumps(card))
    read_card(tmp_path)  # the control: as shipped it is read
    for chain in chains(card["takes"]):
        chain["widths"] = chain["widths"][:-1]
    (tmp_path / "card.json").write_text(json.dumps(card))
    assert refusal(lambda: read_card(tmp_path)).code == "bad-card"


def test_a_card_of_an_editor_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "editor.json").write_text("[" * 100_000)
    assert refusal(lambda: load_editor(str(tmp_path))).code == "bad-card"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b"sequential", b"\xff\xfe", 1),
        lambda text: text.replace(b"start_idx", b"start", 1),
        lambda text: text + b"\n7",
        lambda text: text.replace(b'"(', b'"(\x1b9, ', 1),
    ],
)
def test_a_layout_that_is_no_table(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    write_zoo(tmp_path, 2)
    assert len(open_zoo(tmp_path)) == 2  # the control
    layout = tmp_path / "layout.csv"
    layout.write_bytes(change(layout.read_bytes()))
    refusal(lambda: open_zoo(tmp_path))


def test_weights_of_a_zoo_whose_header_is_no_literal(tmp_path: Path) -> None:
    write_zoo(tmp_path, 2)
    weights = tmp_path / "weights.npy"
    weights.write_bytes(weights.read_bytes().replace(b"}", b"(", 1))
    refusal(lambda: open_zoo(tmp_path))


@pytest.mark.parametrize(
    "read", [lambda p: read_images(p, None), lambda p: read_inputs(p, channels=1, pixels=(0, 1), rows=4)]
)
@pytest.mark.parametrize(
    "member", [b"not an array", b"\x93NUMPY\x01\x00\x06\x00('<f4'", b"\x93NUMPY\x01\x00\x03\x00{(\n"]
)
def test_images_whose_member_is_no_array(tmp_path: Path, read: Callable[[Path], Any], member: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "i.npz", "w") as archive:
        for name in ("images.npy", "labels.npy"):
            archive.writestr(name, member)
    refusal(lambda: read(tmp_path / "i.npz"))


def test_the_card_that_comes_with_the_package_is_one() -> None:
    """The control of the cards above."""
    folder = Path(nfn_cli.__file__).parents[1] / "models" / "inr-mnist"
    assert json.loads((folder / "card.json").read_text())["schema"]
    load_inr_predictor(str(folder))


def test_a_protobuf_field_longer_than_any_file(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"\x12" + b"\xff" * 9 + b"\x01")
    assert refusal(lambda: nfn_cli.load(tmp_path / "m")).code == "not-a-checkpoint"


@pytest.mark.parametrize("policy", [b"PK\x03\x04", b"PK\x05\x06" + b"\0" * 18, b"\x80"])
def test_a_damaged_policy_in_a_stable_baselines_zip(tmp_path: Path, policy: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        archive.writestr("data", "{}")
        archive.writestr("policy.pth", policy)
    assert refusal(lambda: nfn_cli.load(tmp_path / "m.zip")).code in ("truncated", "unsafe-pickle")


def test_a_zip_bomb_in_a_stable_baselines_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "inner", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * (100 << 20))
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        archive.writestr("data", "{}")
        archive.writestr("policy.pth", (tmp_path / "inner").read_bytes())
    assert refusal(lambda: nfn_cli.load(tmp_path / "m.zip")).code == "zip-bomb"


def test_a_weight_without_inputs(tmp_path: Path) -> None:
    arrays = {"fc1.weight": np.ones((5, 0), np.float32), "fc1.bias": np.ones(5, np.float32)}
    save_file(arrays | {"fc2.weight": np.ones((2, 5), np.float32)}, tmp_path / "m.safetensors", {"activation": "relu"})
    assert nfn_cli.symmetry_report(tmp_path / "m.safetensors").as_json()["networks"]


def test_an_index_of_shards_with_half_a_character(tmp_path: Path) -> None:
    save_file({"fc.weight": np.ones((2, 2), np.float32)}, tmp_path / "a.safetensors")
    index = {"metadata": {"\ud800": 1}, "weight_map": {"fc.weight": "a.safetensors"}}
    (tmp_path / "m.json").write_text(json.dumps(index))
    assert refusal(lambda: nfn_cli.load(tmp_path / "m.json")).code == "bad-index"


@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_images_that_are_no_pictures(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.savez(tmp_path / "i.npz", images=np.zeros(shape, np.uint8), labels=np.zeros(2, np.uint8))
    assert refusal(lambda: read_images(tmp_path / "i.npz", None)).code == "bad-images"


@pytest.mark.parametrize(
    ("key", "value"), [("knots", []), ("knots", "x"), ("spreads", [1.0]), ("quantile", None), ("level", [])]
)
def test_an_interval_that_cannot_be_computed(tmp_path: Path, key: str, value: Any) -> None:
    folder = Path(nfn_cli.__file__).parents[1] / "models" / "generalization-cifar10gs-relu"
    card = json.loads((folder / "card.json").read_text())
    load_predictor(str(folder))  # the control
    card["interval"][key] = value
    (tmp_path / "card.json").write_text(json.dumps(card))
    (tmp_path / "weights.safetensors").write_bytes((folder / "weights.safetensors").read_bytes())
    if key == "level":  # told, not computed with
        load_predictor(str(tmp_path))
    else:
        assert refusal(lambda: load_predictor(str(tmp_path))).code == "bad-predictor"


def test_an_onnx_model_whose_version_is_there_twice(tmp_path: Path) -> None:
    """The last counts: with the first, an output would be written that nobody takes for ONNX."""
    from tests.graph.onnx_maker import Maker

    m = Maker(["n", 5])
    path = m.save(tmp_path / "m.onnx", m.linear(m.node("Relu", m.linear("x", 5, 6)), 6, 2))
    assert nfn_cli.load(path).container == "onnx"  # the control
    path.write_bytes(path.read_bytes() + b"\x08\x00")
    assert refusal(lambda: nfn_cli.load(path)).code == "protobuf"


def test_a_layer_without_inputs_has_a_canonical_form() -> None:
    arrays = {"fc1.weight": np.zeros((4, 0)), "fc1.bias": np.arange(4.0), "fc2.weight": np.ones((2, 4))}
    checkpoint = Checkpoint("x", "npz", arrays)
    form = nfn_cli.canonicalize(checkpoint, nfn_cli.NameOptions(activation="relu"))
    assert form.checkpoint.tensors["fc1.weight"].shape == (4, 0)


def test_a_kernel_with_one_axis_in_a_layout(tmp_path: Path) -> None:
    folder = tmp_path / "zoo"
    write_zoo(folder)
    lines = (folder / "layout.csv").read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if "kernel" in line)
    quoted = lines[at].split('"')
    size = quoted[0].rstrip(",").split(",")[-1]
    (folder / "layout.csv").write_text(
        "\n".join([*lines[:at], f'{quoted[0]}"({size},)"{quoted[-1]}', *lines[at + 1 :]])
    )
    assert "shape" in str(refusal(lambda: open_zoo(folder)))


def test_a_stored_graph_whose_input_shape_is_a_number(tmp_path: Path) -> None:
    from nfn_cli.graph.stored_graph_check import check_graph_values

    values = {"inputs": [["x", 3]], "ops": [], "outputs": ["x"], "tensors": {}}
    assert refusal(lambda: check_graph_values(values, "m")).code == "bad-graph"
    check_graph_values({**values, "inputs": [["x", [3]]]}, "m")


def test_torch_tensors_whose_hooks_are_no_hooks_are_not_written(tmp_path: Path) -> None:
    weight = torch.ones(2, 2, requires_grad=True)
    weight._backward_hooks = int  # type: ignore[assignment]
    from nfn_cli.checkpoint.torch_file import save_tree

    with (tmp_path / "m.pt").open("wb") as handle:
        assert refusal(lambda: save_tree({"w": weight}, handle, True)).code == "unsupported-tensor"


def test_text_of_numbers_that_are_no_characters(tmp_path: Path) -> None:
    words = {"good": np.array("tanh"), "bad": np.frombuffer(np.full(4, 0x7FFFFFFF, "<u4").tobytes(), "<U4").reshape(())}
    for name, word in words.items():
        np.savez(tmp_path / f"{name}.npz", **{"0.weight": np.ones((4, 3)), "0.bias": np.ones(4), "activation": word})
    assert nfn_cli.load(tmp_path / "good.npz").hints.activation == "tanh"
    assert nfn_cli.load(tmp_path / "bad.npz").hints.activation is None


def test_a_loose_vector_beside_a_layer_without_units(tmp_path: Path) -> None:
    shapes = {"fc1.weight": (0, 3), "fc2.weight": (2, 0), "own": (5,)}
    torch.save({name: torch.zeros(shape) for name, shape in shapes.items()}, tmp_path / "m.pt")
    with suppress(NfnError):
        nfn_cli.open_model(tmp_path / "m.pt", nfn_cli.NameOptions(activation="relu"))


def test_a_pickled_name_with_half_a_character(tmp_path: Path) -> None:
    for name in ("\u00e9", "\ud800"):
        (tmp_path / "m.pkl").write_bytes(pickle.dumps({"fc1": np.ones((4, 3)), name: np.ones((2, 4))}))
        if name == "\ud800":
            assert refusal(lambda: nfn_cli.load(tmp_path / "m.pkl")).code == "bad-name"
        else:
            assert len(nfn_cli.load(tmp_path / "m.pkl").tensors) == 2


@pytest.mark.parametrize(("size", "code"), [(1e100, ""), (1e130, "weights-too-large")])
def test_weights_that_overflow_once_they_are_moved(size: float, code: str) -> None:
    arrays = {"fc1.weight": np.ones((4, 3)), "fc1.bias": np.ones(4), "fc2.weight": np.full((2, 4), size)}
    checkpoint, options = Checkpoint("x", "npz", arrays), nfn_cli.NameOptions(activation="relu")
    if code:
        assert refusal(lambda: nfn_cli.symmetry_report(checkpoint, options)).code == code
    else:
        assert nfn_cli.symmetry_report(checkpoint, options).passed


@pytest.mark.parametrize("length", [0, 4])
def test_a_stored_graph_whose_pictures_have_no_rows(length: int) -> None:
    ops = (Op("conv", ("x",), "y", {"weight": "w"}, {"out_axis": 0, "in_axis": 1}),)
    graph = Graph((GraphInput("x", (None, 1, length, 4)),), ops, ("y",), {"w": (2, 1, 3, 3)})
    network = Network("", "cnn", graph, (), "the stored graph")
    assert find_symmetry([network]).unit_sets == ()


ENDLESS = 1 << 61  # NumPy makes no array with such an axis, also where another is 0


def _endless_safetensors(path: Path, length: int) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [0, length], "data_offsets": [0, 0]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)


def _endless_torch(zipped: bool) -> Callable[[Path, int], None]:
    def write(path: Path, length: int) -> None:
        tensor = torch.zeros(0, 1).as_strided((0, length), (1, 1))
        torch.save({"w": tensor, "b": torch.zeros(3)}, path, _use_new_zipfile_serialization=zipped)

    return write


def _endless_npy(path: Path, length: int) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': (0, {length}), }}".encode()
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)


@pytest.mark.parametrize("write", [_endless_safetensors, _endless_torch(True), _endless_torch(False), _endless_npy])
def test_a_tensor_without_entries_and_with_an_endless_axis(tmp_path: Path, write: Callable[[Path, int], None]) -> None:
    write(tmp_path / "endless", ENDLESS)
    assert refusal(lambda: nfn_cli.load(tmp_path / "endless")).code in ("bad-header", "unsupported-tensor")
    write(tmp_path / "long", 1 << 20)  # the control: long ones are as they are
    assert (0, 1 << 20) in [array.shape for array in nfn_cli.load(tmp_path / "long").tensors.values()]


@pytest.mark.parametrize("members", [0, -(1 << 63)])
def test_a_predictor_without_members(tmp_path: Path, members: int) -> None:
    shipped = Path(__file__).parents[2] / "models" / "generalization-cifar10gs-relu"
    shutil.copytree(shipped, tmp_path / "p")
    load_predictor(str(tmp_path / "p"))  # the control
    card = json.loads((tmp_path / "p" / "card.json").read_text()) | {"members": members}
    (tmp_path / "p" / "card.json").write_text(json.dumps(card))
    assert refusal(lambda: load_predictor(str(tmp_path / "p"))).code == "bad-predictor"


def test_a_module_whose_epsilon_is_no_number(tmp_path: Path) -> None:
    for eps in (1e-3, "_parameters"):
        net = torch.nn.Sequential(
            torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.ReLU(), torch.nn.Linear(4, 2)
        )
        net[1].eps = eps
        torch.save(net.eval(), tmp_path / "m.pt")
        if eps == 1e-3:
            nfn_cli.open_model(tmp_path / "m.pt")
        else:  # what its names alone say is not enough
            assert isinstance(refusal(lambda: nfn_cli.open_model(tmp_path / "m.pt")), NfnError)
