"""fuzz_seeds.py: one small whole input of every kind that the package reads. Knows how to make files; changes none."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Seed:
    """An input before anything is changed.

    Attributes:
        container: for the counts.
        reads: which reader it is for, a key of fuzz_cases.READERS.
        files: name -> content.
        entry: what the user names, relative to the folder of the files; "" is the folder.
    """

    container: str
    reads: str
    files: dict[str, bytes]
    entry: str


def seeds(strangers: Path | None, models: Path) -> list[Seed]:
    """All of them; files of strangers only up to 100 kB."""
    found: list[Seed] = []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, (container, reads, make, entry) in enumerate(_MAKERS):
            place = Path(folder) / str(number)
            place.mkdir()
            make(place)
            found.append(Seed(container, reads, _content(place), entry))
    known = [models / name for name in ("generalization-cifar10gs-relu", "inr-mnist", "inr-edit-dilate")]
    found += [Seed("predictor", "predictor", _content(folder), "") for folder in known if folder.is_dir()]
    small = [path for path in sorted(strangers.glob("[0-9]*")) if path.stat().st_size <= 100_000] if strangers else []
    return found + [Seed("stranger", "model", {path.name: path.read_bytes()}, path.name) for path in small]


def _content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _arrays(dtype: type = np.float32) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"fc1.weight": (4, 3), "fc1.bias": (4,), "fc2.weight": (5, 4), "fc2.bias": (5,), "fc3.weight": (2, 5)}
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def _cnn_arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    shapes = {"conv1.weight": (4, 1, 3, 3), "conv1.bias": (4,)}
    shapes |= {f"bn1.{role}": (4,) for role in ("weight", "bias", "running_mean", "running_var")}
    shapes |= {"conv2.weight": (6, 4, 3, 3), "conv2.bias": (6,), "fc.weight": (2, 24), "fc.bias": (2,)}
    return {name: np.abs(rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}


def _safetensors(folder: Path) -> None:
    from safetensors.numpy import save_file

    save_file(_arrays(), folder / "m.safetensors", {"activation": "tanh", "omega": "30"})


def _safetensors_cnn(folder: Path) -> None:
    from safetensors.numpy import save_file

    save_file(_cnn_arrays(), folder / "m.safetensors", {"activation": "relu", "pooling": "max"})


def _stored_graph(folder: Path) -> None:
    from safetensors.numpy import save_file

    from nfn_cli.graph.graph_file import GRAPH_KEY
    from nfn_cli.graph.model import Graph, GraphInput, Op
    from nfn_cli.graph.stored_graph import graph_to_text

    axes = {"out_axis": 0, "in_axis": 1, "padding": 1}
    arrays = _cnn_arrays()
    ops = (
        Op("conv", ("x",), "a", {"weight": "conv1.weight", "bias": "conv1.bias"}, axes),
        Op(
            "batch_norm",
            ("a",),
            "b",
            {r: f"bn1.{r}" for r in ("weight", "bias", "running_mean", "running_var")},
            {"eps": 1e-5},
        ),
        Op("pointwise", ("b",), "c", {}, {"function": "relu"}),
        Op("max_pool", ("c",), "d", {}, {"kernel": 2, "stride": 2}),
        Op("conv", ("d",), "e", {"weight": "conv2.weight", "bias": "conv2.bias"}, axes),
        Op("pointwise", ("e",), "f", {}, {"function": "leaky_relu", "slope": 0.01}),
        Op("flatten", ("f",), "g", {}, {"order": "channel_outer", "positions": 4}),
        Op("linear", ("g",), "h", {"weight": "fc.weight", "bias": "fc.bias"}, {"out_axis": 0, "in_axis": 1}),
    )
    graph = Graph((GraphInput("x", (None, 1, 4, 4)),), ops, ("h",), {n: a.shape for n, a in arrays.items()})
    save_file(arrays, folder / "m.safetensors", {GRAPH_KEY: graph_to_text(graph)})


def _sharded(folder: Path) -> None:

    from safetensors.numpy import save_file

    arrays = _arrays()
    parts = {"a.safetensors": list(arrays)[:2], "b.safetensors": list(arrays)[2:]}
    for file, names in parts.items():
        save_file({n: arrays[n] for n in names}, folder / file)
    index = {"metadata": {}, "weight_map": {n: f for f, names in parts.items() for n in names}}
    (folder / "m.json").write_text(json.dumps(index))
    (folder / "config.json").write_text('{"hidden_act": "relu"}')


def _torch(zipped: bool) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        import torch

        state = {n: torch.from_numpy(a) for n, a in _arrays().items()}
        wrapped = {
            "model_state_dict": state,
            "optimizer": {"state": {}, "param_groups": []},
            "epoch": 3,
            "activation": "relu",
        }
        torch.save(wrapped, folder / "m.pt", _use_new_zipfile_serialization=zipped)

    return make


def _npz(folder: Path) -> None:
    np.savez(folder / "m.npz", activation=np.array("relu"), **_arrays())


def _npz_compressed(folder: Path) -> None:
    np.savez_compressed(folder / "m.npz", **_arrays(np.float64))


def _npy(folder: Path) -> None:
    np.save(folder / "m.npy", _arrays()["fc1.weight"])


def _sb3(folder: Path) -> None:

    import torch

    policy = io.BytesIO()
    rng = torch.Generator().manual_seed(0)
    shapes = {
        "mlp_extractor.policy_net.0": (4, 3),
        "mlp_extractor.value_net.0": (4, 3),
        "action_net": (2, 4),
        "value_net": (1, 4),
    }
    state = {f"{n}.weight": torch.randn(s, generator=rng) for n, s in shapes.items()}
    torch.save(state | {f"{n}.bias": torch.randn(s[0], generator=rng) for n, s in shapes.items()}, policy)
    with zipfile.ZipFile(folder / "m.zip", "w") as archive:
        data = {"policy_class": {"__module__": "stable_baselines3.common.policies", "__init__": "ActorCriticPolicy"}}
        archive.writestr("data", json.dumps(data))
        archive.writestr("policy.pth", policy.getvalue())


def _module():  # type: ignore[no-untyped-def]
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers = (
        nn.Conv2d(1, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(12, 2),
    )
    return nn.Sequential(*layers).eval(), torch.randn(1, 1, 4, 4)


def _pt2(folder: Path) -> None:
    import torch

    module, x = _module()
    torch.export.save(torch.export.export(module, (x,)), folder / "m.pt2")


def _script(folder: Path) -> None:
    import torch

    torch.jit.save(torch.jit.script(_module()[0]), folder / "m.pt")


def _onnx(folder: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    arrays = _cnn_arrays()
    norm = [f"bn1.{r}" for r in ("weight", "bias", "running_mean", "running_var")]
    nodes = [
        helper.make_node("Conv", ["x", "conv1.weight", "conv1.bias"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", *norm], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("MaxPool", ["c"], ["d"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["d", "conv2.weight", "conv2.bias"], ["e"], pads=[1, 1, 1, 1]),
        helper.make_node("Tanh", ["e"], ["f"]),
        helper.make_node("Reshape", ["f", "to"], ["g"]),
        helper.make_node("Gemm", ["g", "fc.weight", "fc.bias"], ["y"], transB=1),
    ]
    weights = [numpy_helper.from_array(a, n) for n, a in arrays.items()]
    weights.append(numpy_helper.from_array(np.array([-1, 24]), "to"))
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", ["n", 1, 4, 4]), ("y", ["n", 2]))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(folder / "m.onnx")
    )


def _element(folder: Path) -> None:
    import nfn_cli
    from nfn_cli.symmetry import write_element

    _safetensors(folder)
    write_element(nfn_cli.random_element(folder / "m.safetensors"), folder / "e.safetensors")


def _shard_zoo(folder: Path) -> None:
    from nfn_cli.graph.model import Graph, GraphInput, Op
    from nfn_cli.zoo.store import create_zoo, write_shard

    arrays = _arrays()
    layers = [{"weight": f"fc{i}.weight"} | ({"bias": f"fc{i}.bias"} if i < 3 else {}) for i in (1, 2, 3)]
    axes = {"out_axis": 0, "in_axis": 1}
    ops: list[Op] = []
    value = "x"
    for i, roles in enumerate(layers):
        ops.append(Op("linear", (value,), f"z{i}", roles, axes))
        value = f"z{i}"
        if i < 2:
            ops.append(Op("pointwise", (value,), f"a{i}", {}, {"function": "relu"}))
            value = f"a{i}"
    graph = Graph((GraphInput("x", (None, 3)),), tuple(ops), (value,), {n: a.shape for n, a in arrays.items()})
    create_zoo(folder, "a toy")
    stacked = {n: np.stack([a, a + 1, a - 1]) for n, a in arrays.items()}
    columns = {"run": ["a", "b", "c"], "step": [1, 1, 1], "laststep": [1, 1, 1], "test_accuracy": [0.1, 0.5, 0.9]}
    write_shard(folder, "a-0", graph, stacked, columns)


def _row_zoo(folder: Path) -> None:
    import csv
    import gzip

    shapes = {"conv2d": (3, 3, 1, 4), "conv2d_1": (3, 3, 4, 3), "dense": (3, 2)}
    rows, start = [], 0
    for name, kernel in shapes.items():
        for role, shape in (("bias", kernel[-1:]), ("kernel", kernel)):
            stop = start + int(np.prod(shape))
            rows.append((f"sequential/{name}/{role}:0", start, stop, stop - start, str(shape)))
            start = stop
    np.save(folder / "weights.npy", np.random.default_rng(0).standard_normal((3, start)).astype(np.float32))
    with (folder / "layout.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("varname", "start_idx", "end_idx", "size", "shape"), *rows])
    with gzip.open(folder / "metrics.csv.gz", "wt", newline="") as file:
        lines = [(f"r{i}", 1, 0.5, "relu", "toy") for i in range(3)]
        csv.writer(file).writerows([("run", "step", "test_accuracy", "config.activation", "config.dataset"), *lines])


def _table_zoo(folder: Path) -> None:
    from safetensors.numpy import save_file

    for i in range(2):
        save_file({n: a + i for n, a in _arrays().items()}, folder / f"m{i}.safetensors", {"activation": "relu"})
    (folder / "table.csv").write_text("path,run,step,test_accuracy\nm0.safetensors,a,1,0.5\nm1.safetensors,b,1,0.7\n")


def _images(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name, count in (("train", 8), ("test", 4)):
        images, labels = rng.integers(0, 256, (count, 6, 6), np.uint8), np.arange(count, dtype=np.uint8) % 2
        np.savez(folder / f"{name}.npz", images=images, labels=labels)


def _picture(kind: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        from PIL import Image

        Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)).save(folder / f"p.{kind}")

    return make


def _sequential() -> Any:
    import torch
    from torch import nn

    torch.manual_seed(0)
    front = (nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(*front, nn.Flatten(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).eval()


def _whole_module(as_zip: bool) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        import torch

        torch.save(_sequential(), folder / "m.pt", _use_new_zipfile_serialization=as_zip)

    return make


def _pickled_module(folder: Path) -> None:
    (folder / "m.pkl").write_bytes(pickle.dumps({"model": _sequential(), "epoch": 3}))


def _pickled_arrays(folder: Path) -> None:
    layers = [{"weights": w, "biases": np.ones((1, w.shape[1])), "activation": "relu"} for w in _in_by_out()]
    (folder / "m.pkl").write_bytes(pickle.dumps({"layers": layers, "name": "mlp"}, protocol=2 + len(layers) % 4))


def _packed(folder: Path) -> None:
    _perceptron(folder)
    path = folder / "m.pkl"
    path.write_bytes(gzip.compress(path.read_bytes(), 1, mtime=0))


def _perceptron(folder: Path) -> None:
    import joblib
    from sklearn.neural_network import MLPClassifier

    random = np.random.default_rng(0)
    x = random.normal(size=(40, 3))
    joblib.dump(MLPClassifier((4, 5), max_iter=3, tol=10.0).fit(x, x[:, 0] > 0), folder / "m.pkl")


def _in_by_out() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.normal(size=size) for size in ((3, 4), (4, 5), (5, 2))]


def _flax(folder: Path) -> None:
    import msgpack

    def packed(array: np.ndarray) -> msgpack.ExtType:
        return msgpack.ExtType(1, msgpack.packb((array.shape, array.dtype.name, array.tobytes()), use_bin_type=True))

    layers = {
        f"Dense_{i}": {"kernel": packed(weight), "bias": packed(np.ones(weight.shape[1]))}
        for i, weight in enumerate(_in_by_out())
    }
    (folder / "m.msgpack").write_bytes(msgpack.packb({"params": layers, "step": 7}, use_bin_type=True))


def _keras_config() -> str:
    layers = [
        {"class_name": "Dense", "config": {"name": f"dense_{i}" if i else "dense", "activation": "relu"}}
        for i in range(3)
    ]
    return json.dumps({"class_name": "Sequential", "config": {"name": "m", "layers": layers}})


def _keras_hdf5(folder: Path) -> None:
    import h5py

    with h5py.File(folder / "m.h5", "w") as file:
        file.attrs["model_config"] = _keras_config()
        for i, weight in enumerate(_in_by_out()):
            name = f"dense_{i}" if i else "dense"
            file[f"model_weights/{name}/{name}/kernel:0"] = weight.astype("f4")
            file[f"model_weights/{name}/{name}/bias:0"] = np.ones(weight.shape[1], "f4")


def _keras_graph(folder: Path) -> None:
    """Branches, a convolution and a model within the model."""
    import h5py

    def called(kind: str, name: str, *reads: str, **settings: Any) -> dict[str, Any]:
        node = [[[read, 0, 0, {}] for read in reads]]
        return {
            "class_name": kind,
            "name": name,
            "config": {"name": name, **settings},
            "inbound_nodes": node if reads else [],
        }

    def model(first: str, last: str, layers: list[dict[str, Any]]) -> dict[str, Any]:
        return {"layers": layers, "input_layers": [[first, 0, 0]], "output_layers": [[last, 0, 0]]}

    inner = model(
        "own", "deep", [called("InputLayer", "own", batch_input_shape=[None, 5]), called("Dense", "deep", "own")]
    )
    layers = [
        called("InputLayer", "in", batch_input_shape=[None, 6, 6, 1]),
        called("Conv2D", "conv", "in", strides=[2, 2], padding="same", activation="relu"),
        called("DepthwiseConv2D", "spread", "conv", padding="same"),
        called("BatchNormalization", "norm", "spread", axis=[3], epsilon=0.01, scale=False),
        called("Add", "sum", "norm", "conv"),
        called("Conv2DTranspose", "up", "sum", strides=[2, 2], padding="same", activation="swish"),
        called("MaxPooling2D", "pool", "up", pool_size=[2, 2]),
        called("GlobalAveragePooling2D", "mean", "pool"),
        called("Functional", "inner", "mean", **inner),
        called("Reshape", "shaped", "inner", target_shape=[1, 2]),
        called("Flatten", "flat", "shaped"),
        called("Concatenate", "both", "flat", "mean", axis=-1),
        called("Dense", "last", "both", activation="softmax"),
    ]
    shapes = {
        "conv2d": [(3, 3, 1, 4), (4,)],
        "depthwise_conv2d": [(3, 3, 4, 1), (4,)],
        "batch_normalization": [(4,), (4,), (4,)],
        "conv2d_transpose": [(3, 3, 5, 4), (5,)],
        "functional/layers/dense": [(5, 2), (2,)],
        "dense": [(7, 3), (3,)],
    }
    random, weights = np.random.default_rng(0), io.BytesIO()
    with h5py.File(weights, "w") as file:
        for name, each in shapes.items():
            for number, shape in enumerate(each):
                file[f"layers/{name}/vars/{number}"] = np.abs(random.standard_normal(shape)).astype("f4")
    with zipfile.ZipFile(folder / "m.keras", "w") as archive:
        config = {"class_name": "Functional", "config": model("in", "last", layers)}
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", weights.getvalue())


def _keras_zip(folder: Path) -> None:
    import h5py

    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        for i, weight in enumerate(_in_by_out()):
            name = f"layers/dense_{i}" if i else "layers/dense"
            file[f"{name}/vars/0"], file[f"{name}/vars/1"] = weight, np.ones(weight.shape[1])
    with zipfile.ZipFile(folder / "m.keras", "w") as archive:
        archive.writestr("config.json", _keras_config())
        archive.writestr("model.weights.h5", weights.getvalue())


_MAKERS: list[tuple[str, str, Callable[[Path], None], str]] = [
    ("safetensors", "model", _safetensors, "m.safetensors"),
    ("safetensors", "model", _safetensors_cnn, "m.safetensors"),
    ("stored-graph", "model", _stored_graph, "m.safetensors"),
    ("sharded", "model", _sharded, "m.json"),
    ("torch-zip", "model", _torch(True), "m.pt"),
    ("torch-legacy", "model", _torch(False), "m.pt"),
    ("torch-objects-zip", "model", _whole_module(True), "m.pt"),
    ("torch-objects-legacy", "model", _whole_module(False), "m.pt"),
    ("torch-objects-pickle", "model", _pickled_module, "m.pkl"),
    ("pickle", "model", _pickled_arrays, "m.pkl"),
    ("pickle", "model", _perceptron, "m.pkl"),
    ("pickle-packed", "model", _packed, "m.pkl"),
    ("flax-msgpack", "model", _flax, "m.msgpack"),
    ("keras-hdf5", "model", _keras_hdf5, "m.h5"),
    ("keras-zip", "model", _keras_graph, "m.keras"),
    ("keras-zip", "model", _keras_zip, "m.keras"),
    ("npz", "model", _npz, "m.npz"),
    ("npz", "model", _npz_compressed, "m.npz"),
    ("npy", "model", _npy, "m.npy"),
    ("sb3-zip", "model", _sb3, "m.zip"),
    ("pt2", "model", _pt2, "m.pt2"),
    ("torchscript", "model", _script, "m.pt"),
    ("onnx", "model", _onnx, "m.onnx"),
    ("element", "element", _element, "e.safetensors"),
    ("zoo-shards", "zoo", _shard_zoo, ""),
    ("zoo-rows", "zoo", _row_zoo, ""),
    ("zoo-table", "zoo", _table_zoo, ""),
    ("images", "images", _images, ""),
    ("picture", "picture", _picture("png"), "p.png"),
]


def emptied(folder: Path) -> None:
    """The folder without content."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def laid_out(files: dict[str, bytes], folder: Path) -> None:
    """Files under their names, with the folders that those name."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
