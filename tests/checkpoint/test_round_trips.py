"""What is read and written again is the same: values, dtypes, names, metadata, nesting, ties."""

from __future__ import annotations

import json
import zipfile
from collections import OrderedDict
from io import BytesIO
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file, save_file

from nfn_cli.checkpoint import Checkpoint, load, save
from nfn_cli.errors import NfnError, WrongUsage

DTYPES = [np.float16, np.float32, np.float64, np.int64, np.uint8, np.bool_, ml_dtypes.bfloat16]
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\\\0"), min_size=1, max_size=12)


def same(left: np.ndarray, right: np.ndarray) -> bool:
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


def again(path: Path, out: Path, change: str | None = None) -> tuple[Checkpoint, Checkpoint]:
    first = load(path)
    saved = first.with_tensors({change: first.tensors[change] + 1}) if change else first
    save(saved, out)
    return first, load(out)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.dictionaries(
        NAMES.filter(lambda n: n != "__metadata__"),
        st.sampled_from(DTYPES).flatmap(
            lambda dtype: hnp.arrays(
                np.float32 if dtype is ml_dtypes.bfloat16 else dtype,
                hnp.array_shapes(min_dims=0, max_dims=4, max_side=5),
            ).map(lambda a: a.astype(dtype))
        ),
        min_size=1,
        max_size=6,
    ),
    metadata=st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3),
)
def test_safetensors(tmp_path: Path, data: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    path, out = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    try:
        save(Checkpoint("x", "safetensors", data, metadata), path, force=True)
    except NfnError:
        raise AssertionError("could not be written") from None
    first = load(path)
    save(first, out, force=True)
    second = load(out)
    assert list(first.tensors) == list(second.tensors)
    assert dict(second.metadata) == metadata
    for stored, (name, array) in zip(data.values(), second.tensors.items(), strict=True):
        assert same(first.tensors[name], array)
        assert same(np.asarray(stored), np.asarray(array))


def test_the_reference_library_reads_what_we_write(tmp_path: Path) -> None:
    save_file({"w": np.arange(6, dtype=np.float32).reshape(2, 3)}, tmp_path / "a", metadata={"k": "v"})
    again(tmp_path / "a", tmp_path / "b", change="w")
    assert np.array_equal(load_file(tmp_path / "b")["w"], np.arange(1, 7).reshape(2, 3))


def nested() -> dict:
    shared = torch.arange(6.0).reshape(2, 3)
    return {
        "epoch": 3,
        "note": "text",
        "state_dict": OrderedDict(
            {
                "module.a.weight": shared,
                "module.b.weight": shared,
                "module.half.weight": torch.ones(2, 2, dtype=torch.bfloat16),
                "module.columns.weight": torch.arange(12.0).reshape(3, 4).t(),
                "module.bn.num_batches_tracked": torch.tensor(7),
            }
        ),
        "optimizer": {"state": {0: {"exp_avg": torch.full((2, 3), float("nan"))}}, "param_groups": [{"lr": 0.1}]},
    }


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_torch_files_keep_their_nesting(tmp_path: Path, zipped: bool) -> None:
    path, out = tmp_path / "lies.txt", tmp_path / "b.pt"
    torch.save(nested(), path, _use_new_zipfile_serialization=zipped)
    first, second = again(path, out, change="a.weight")
    assert first.container == ("torch-zip" if zipped else "torch-legacy") == second.container
    assert list(first.tensors) == ["a.weight", "b.weight", "half.weight", "columns.weight", "bn.num_batches_tracked"]
    assert dict(first.aliases) == {"b.weight": "a.weight"} == dict(second.aliases)
    assert first.tensors["half.weight"].dtype == ml_dtypes.bfloat16
    assert any("optimizer" in line for line in first.left_aside)
    raw = torch.load(out, weights_only=True)
    assert raw["epoch"] == 3
    assert "optimizer" not in raw
    state = raw["state_dict"]
    assert torch.equal(state["module.a.weight"], torch.arange(6.0).reshape(2, 3) + 1)
    assert state["module.a.weight"].data_ptr() == state["module.b.weight"].data_ptr()
    assert torch.equal(state["module.columns.weight"], torch.arange(12.0).reshape(3, 4).t())
    assert state["module.half.weight"].dtype == torch.bfloat16


def test_several_networks_keep_their_prefixes(tmp_path: Path) -> None:
    net = {"module.fc.weight": torch.ones(2, 2)}
    torch.save({"online_net": net, "target_net": net, "opt": {"state": {}, "param_groups": []}}, tmp_path / "a")
    assert list(load(tmp_path / "a").tensors) == ["online_net.fc.weight", "target_net.fc.weight"]
    torch.save([net, net], tmp_path / "b")
    assert list(load(tmp_path / "b").tensors) == ["0.fc.weight", "1.fc.weight"]


def test_numpy_archives(tmp_path: Path) -> None:
    arrays = {"w": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "n": np.arange(3), "activation": np.array("tanh")}
    for compressed in (False, True):
        path = tmp_path / f"a{compressed}.npz"
        (np.savez_compressed if compressed else np.savez)(path, **arrays)
        first, second = again(path, tmp_path / f"b{compressed}", change="w")
        assert first.hints.activation == "tanh"
        assert np.array_equal(second.tensors["w"], arrays["w"] + 1)
        with np.load(tmp_path / f"b{compressed}") as archive:
            assert str(archive["activation"]) == "tanh"


def sb3(path: Path, policy_kwargs: object = None) -> Path:
    inner = BytesIO()
    torch.save({"q_net.q_net.0.weight": torch.ones(4, 2), "q_net.q_net.2.weight": torch.ones(3, 4)}, inner)
    data = {
        "policy_class": {":type:": "x", ":serialized:": "gASV", "__module__": "stable_baselines3.dqn.policies"},
        "policy_kwargs": policy_kwargs or {},
    }
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", json.dumps(data))
        archive.writestr("policy.pth", inner.getvalue())
        archive.writestr("policy.optimizer.pth", b"bytes of an optimizer")
        archive.writestr("system_info.txt", "info")
    return path


def test_stable_baselines_zips(tmp_path: Path) -> None:
    first, second = again(sb3(tmp_path / "m.h5"), tmp_path / "o.zip", change="q_net.q_net.0.weight")
    assert first.hints.activation == "relu"
    assert np.array_equal(second.tensors["q_net.q_net.0.weight"], np.full((4, 2), 2.0))
    with zipfile.ZipFile(tmp_path / "o.zip") as archive:
        assert archive.read("policy.optimizer.pth") == b"bytes of an optimizer"
    stated = sb3(tmp_path / "t.zip", {"activation_fn": "<class 'torch.nn.modules.activation.ELU'>"})
    assert load(stated).hints.activation == "torch.nn.modules.activation.ELU"


def test_sharded_checkpoints(tmp_path: Path) -> None:
    save_file({"a": np.ones(2, np.float32)}, tmp_path / "x-1.safetensors", metadata={"format": "pt"})
    save_file({"b": np.zeros(3, np.float32)}, tmp_path / "x-2.safetensors")
    index = tmp_path / "x.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"a": "x-1.safetensors", "b": "x-2.safetensors"}}))
    first = load(index)
    (tmp_path / "out").mkdir()
    saved = save(first.with_tensors({"a": first.tensors["a"] * 3}), tmp_path / "out" / "y.safetensors.index.json")
    assert np.array_equal(load(saved.path).tensors["a"], [3, 3])
    assert load(tmp_path / "out" / "y.safetensors.index.json").metadata["format"] == "pt"
    index.write_text(json.dumps({"weight_map": {"a": "../x-1.safetensors"}}))
    with pytest.raises(NfnError, match="outside"):
        load(index)


def test_zoo_rows_become_files_of_their_own(tmp_path: Path) -> None:
    zoo = tmp_path / "zoo"
    zoo.mkdir()
    np.save(zoo / "weights.npy", np.arange(10, dtype=np.float32).reshape(2, 5))
    (zoo / "layout.csv").write_text(
        'varname,start_idx,end_idx,size,shape\ndense/bias:0,0,1,1,"(1,)"\ndense/kernel:0,1,5,4,"(4, 1)"\n'
    )
    (zoo / "metrics.csv").write_text("config.activation,step\nrelu,86\ntanh,86\n")
    row = load(f"{zoo}#1")
    assert row.hints.activation == "tanh"
    assert row.tensors["dense/kernel:0"].ravel().tolist() == [6, 7, 8, 9]
    save(row, tmp_path / "row.safetensors")
    assert load(tmp_path / "row.safetensors").metadata["activation"] == "tanh"
    with pytest.raises(NfnError, match="no row 2"):
        load(f"{zoo}#2")
    with pytest.raises(NfnError, match="#0"):
        load(zoo)


def test_config_json_beside_the_file_is_a_hint(tmp_path: Path) -> None:
    save_file({"w": np.ones((2, 2), np.float32)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"hidden_act": "gelu"}')
    assert load(tmp_path).hints.activation == "gelu"


def test_the_input_is_never_the_output(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"w": np.ones(2, np.float32)}, path)
    with pytest.raises(WrongUsage, match="input"):
        save(load(path), path, force=True)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(WrongUsage, match="input"):
        save(load(path), tmp_path / "link", force=True)


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", w=np.ones(3))
    for name in ("b", "c"):
        save(load(tmp_path / "a.npz"), tmp_path / name)
    assert (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()
