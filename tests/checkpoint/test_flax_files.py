"""Files of flax.serialization are read with their nesting as names, and written again as the same maps of other arrays."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import ml_dtypes
import msgpack
import numpy as np
import pytest

import nfn_cli
from nfn_cli import NameOptions
from nfn_cli.errors import NfnError, Refused

TANH = NameOptions(activation="tanh")


def _packed(array: np.ndarray) -> msgpack.ExtType:
    """As flax/serialization.py, `_msgpack_ext_pack`."""
    return msgpack.ExtType(1, msgpack.packb((array.shape, array.dtype.name, array.tobytes()), use_bin_type=True))


def _file(path: Path, dtype: Any = np.float32, **more: Any) -> Path:
    random = np.random.default_rng(0)
    layers = {
        f"Dense_{i}": {
            "kernel": _packed(random.normal(size=size).astype(dtype)),
            "bias": _packed(random.normal(size=size[1]).astype(dtype)),
        }
        for i, size in enumerate([(4, 6), (6, 5), (5, 2)])
    }
    path.write_bytes(msgpack.packb({"params": layers, **more}, use_bin_type=True))
    return path


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_parameters_are_a_network(tmp_path: Path, dtype: Any) -> None:
    path = _file(tmp_path / "m.msgpack", dtype, opt_state={"0": {"mu": _packed(np.ones((4, 6)))}}, step=3)
    checkpoint = nfn_cli.load(path)
    assert list(checkpoint.tensors)[:2] == ["Dense_0.kernel", "Dense_0.bias"]
    assert all(array.dtype == dtype for array in checkpoint.tensors.values())
    report = nfn_cli.symmetry_report(path, TANH).as_json()
    assert [network["group"] for network in report["networks"]] == ["{±1}^6 ⋊ S_6 × {±1}^5 ⋊ S_5"]


def _run(path: Path, x: np.ndarray) -> np.ndarray:
    tensors = nfn_cli.load(path).tensors
    for i in range(3):
        x = x @ tensors[f"Dense_{i}.kernel"] + tensors[f"Dense_{i}.bias"]
        x = np.tanh(x) if i < 2 else x
    return x


def test_the_canonical_form_is_the_same_file_with_other_weights(tmp_path: Path) -> None:
    path, out = _file(tmp_path / "m.msgpack", np.float64, step=3, rng=msgpack.ExtType(3, b"kept")), tmp_path / "out"
    nfn_cli.save(nfn_cli.canonicalize(path, TANH).checkpoint, out)
    x = np.random.default_rng(1).normal(size=(9, 4))
    assert np.allclose(_run(path, x), _run(out, x), atol=1e-12)
    before, after = (msgpack.unpackb(p.read_bytes()) for p in (path, out))
    assert before["params"] != after["params"]
    assert (after["step"], after["rng"]) == (3, msgpack.ExtType(3, b"kept"))
    nfn_cli.save(nfn_cli.load(path), tmp_path / "same")
    assert (tmp_path / "same").read_bytes() == path.read_bytes()


def test_arrays_in_pieces_are_refused(tmp_path: Path) -> None:
    pieces = {"__msgpack_chunked_array__": True, "shape": [4], "chunks": {"0": _packed(np.ones(4))}}
    with pytest.raises(Refused) as caught:
        nfn_cli.load(_file(tmp_path / "m.msgpack", more=pieces))
    assert caught.value.code == "unsupported-tensor"


def test_damage_is_said_in_words(tmp_path: Path) -> None:
    whole = _file(tmp_path / "m.msgpack").read_bytes()
    random, broken = np.random.default_rng(0), tmp_path / "broken"
    for _ in range(200):
        damaged = bytearray(whole)
        for at in random.integers(0, len(whole), 4):
            damaged[at] = random.integers(256)
        broken.write_bytes(damaged[: random.integers(1, len(whole) + 1)])
        with suppress(NfnError):
            nfn_cli.load(broken)
