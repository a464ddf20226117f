"""A digest is the tensors' alone: no container, order, metadata or sharding enters, every bit of every tensor does."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from collections import OrderedDict
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file

from nfn_cli.checkpoint import Checkpoint, load
from nfn_cli.checkpoint.digest import digest, digest_of
from nfn_cli.errors import Refused

Array = np.ndarray[Any, np.dtype[Any]]


def some_tensors() -> dict[str, Array]:
    random = np.random.default_rng(0)
    return {
        "fc.weight": random.standard_normal((3, 4)).astype(np.float32),
        "conv.weight": random.standard_normal((2, 3, 5)),
        "conv.bias": random.standard_normal(2).astype(np.float16),
        "bn.num_batches_tracked": np.array(7),
        "mask": np.array([True, False, True]),
        "empty": np.zeros((0, 3), np.float32),
    }


def slow_digest(tensors: dict[str, Array], names: bool = True) -> str:
    """The definition, word by word."""
    short = {"float32": "F32", "float64": "F64", "float16": "F16", "int64": "I64", "bool": "BOOL"}
    lines = []
    for name, array in tensors.items():
        data = hashlib.sha256(b"".join(entry.tobytes() for entry in array.astype(array.dtype.newbyteorder("<")).flat))
        line = f"{short[array.dtype.name]} {json.dumps(list(array.shape)).replace(' ', '')} {data.hexdigest()}\n"
        lines.append(json.dumps(name) + " " + line if names else line)
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def in_memory(tensors: dict[str, Array]) -> Checkpoint:
    return Checkpoint("x", "safetensors", tensors)


def as_torch(tensors: dict[str, Array]) -> OrderedDict[str, torch.Tensor]:
    return OrderedDict((name, torch.from_numpy(array.copy())) for name, array in tensors.items())


def write_all(folder: Path, tensors: dict[str, Array]) -> list[Path]:
    """The same tensors in every container, in many orders and dresses."""
    backwards = dict(reversed(list(tensors.items())))
    save_file(tensors, folder / "a.safetensors", metadata={"format": "np", "note": "mine"})
    save_file(backwards, folder / "b.safetensors")
    shards = folder / "shards"
    shards.mkdir()
    names, half = sorted(tensors), len(tensors) // 2
    save_file({n: tensors[n] for n in names[:half]}, shards / "one.safetensors")
    save_file({n: tensors[n] for n in names[half:]}, shards / "two.safetensors")
    weight_map = {n: "one.safetensors" if i < half else "two.safetensors" for i, n in enumerate(names)}
    (shards / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    torch.save(as_torch(tensors), folder / "zip.pt")
    torch.save(as_torch(backwards), folder / "legacy.pt", _use_new_zipfile_serialization=False)
    wrapped = OrderedDict((f"module.{name}", tensor) for name, tensor in as_torch(tensors).items())
    optimizer = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}
    torch.save({"state_dict": wrapped, "optimizer": optimizer, "epoch": 3}, folder / "training.pt")
    np.savez(folder / "plain.npz", **tensors)
    foreign = {n: np.array(a, a.dtype.newbyteorder(">"), order="F") for n, a in backwards.items()}
    np.savez_compressed(folder / "foreign.npz", **foreign)
    return [shards / "model.safetensors.index.json", shards, *sorted(p for p in folder.iterdir() if p.is_file())]


def test_every_container_gives_the_digest_of_the_definition(tmp_path: Path) -> None:
    tensors = some_tensors()
    paths = write_all(tmp_path, tensors)
    assert len(paths) == 9
    for names in (True, False):
        expected = slow_digest(tensors, names)
        assert {str(p): digest(load(p), names=names).hexdigest for p in paths} == {str(p): expected for p in paths}


@pytest.mark.parametrize("name", [n for n, a in some_tensors().items() if a.size])
def test_one_changed_bit_changes_it(name: str) -> None:
    tensors = some_tensors()
    changed = tensors[name].copy()
    changed.reshape(-1).view(np.uint8)[-1] ^= 1
    for names in (True, False):
        before = digest(in_memory(tensors), names=names).hexdigest
        assert digest(in_memory(tensors | {name: changed}), names=names).hexdigest != before


def test_shape_type_and_sign_of_zero_count() -> None:
    zeros = np.zeros((2, 3), np.float32)
    different = [zeros, zeros.T.copy(), zeros.reshape(6), -zeros, zeros.astype(np.float64), zeros.view(np.int32)]
    assert len({digest(in_memory({"w": array})).hexdigest for array in different}) == len(different)


def test_half_types_are_told_apart_and_the_same_in_torch_and_safetensors(tmp_path: Path) -> None:
    values = np.array([0.5, -1.0, 2.0])
    forms = {}
    for kind in (torch.bfloat16, torch.float16):
        tensors = {"w": torch.tensor(values).to(kind)}
        torch.save(tensors, tmp_path / "w.pt")
        save_torch_file(tensors, tmp_path / "w.safetensors")
        found = {digest(load(tmp_path / f)).hexdigest for f in ("w.pt", "w.safetensors")}
        assert len(found) == 1
        forms[kind] = found.pop()
    assert len(set(forms.values())) == 2
    assert digest(in_memory({"w": values.astype(ml_dtypes.bfloat16)})).hexdigest == forms[torch.bfloat16]


def test_without_names_a_renamed_tensor_is_the_same_and_a_repeated_one_is_not() -> None:
    tensors = some_tensors()
    renamed = {f"net.{name}": array for name, array in tensors.items()}
    assert digest(in_memory(renamed), names=False).hexdigest == digest(in_memory(tensors), names=False).hexdigest
    assert digest(in_memory(renamed)).hexdigest != digest(in_memory(tensors)).hexdigest
    twice = tensors | {"again": tensors["fc.weight"]}
    assert digest(in_memory(twice), names=False).hexdigest != digest(in_memory(tensors), names=False).hexdigest


def test_no_name_can_pass_for_another_line() -> None:
    array = np.zeros(1, np.float32)
    (line,) = digest(in_memory({"b": array})).lines
    forged = digest(in_memory({f'a" F32 [1] 0\n{line}\x7f': array}))
    assert len(forged.lines) == 1
    assert forged.lines[0].isascii()
    assert forged.lines[0].isprintable()
    assert forged.hexdigest == digest_of(forged.lines)


def test_views_are_read_in_logical_order() -> None:
    base = np.random.default_rng(1).standard_normal((40, 50, 60))
    views = [base.transpose(2, 0, 1), base[::2, ::-1], np.asfortranarray(base)]
    for view in views:
        assert digest(in_memory({"w": view})).hexdigest == digest(in_memory({"w": view.copy()})).hexdigest


@pytest.mark.parametrize("order", ["C", "F"])
def test_large_tensors_are_not_copied_whole(order: Any) -> None:
    array = np.zeros((2000, 4000), np.float32, order=order)  # 32 MB
    array[1999, 3999] = 1
    tracemalloc.start()
    digest(in_memory({"w": array}))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 9e6


def test_a_type_that_no_other_container_holds_is_refused_by_name() -> None:
    with pytest.raises(Refused, match=r"w: .*cannot hold") as refused:
        digest(in_memory({"w": np.zeros(2, np.longdouble)}))
    assert refused.value.code == "unknown-dtype"


def test_not_a_number_has_a_digest_too() -> None:
    """The digest is of bits; whether a network makes sense is another question."""
    quiet = np.array([np.nan, np.inf])
    payload = quiet.copy()
    payload.view(np.uint64)[0] ^= 1
    assert digest(in_memory({"w": quiet})).hexdigest != digest(in_memory({"w": payload})).hexdigest
