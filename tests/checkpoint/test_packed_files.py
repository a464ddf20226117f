"""Pickles that were compressed as a whole, as joblib does it, are read and written in the same packing."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.neural_network import MLPRegressor

import nfn_cli
from nfn_cli.checkpoint import packed_file
from nfn_cli.errors import Refused

PACK: dict[str, Callable[[bytes], bytes]] = {
    "zlib": zlib.compress,
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
}


@pytest.fixture(scope="module")
def perceptron() -> Any:
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 3))
    return MLPRegressor(hidden_layer_sizes=(8, 6), activation="tanh", max_iter=5, random_state=0, tol=10.0).fit(
        x, np.sin(x).sum(1)
    )


@pytest.mark.parametrize("packing", PACK)
def test_a_packed_model_is_the_model_and_comes_back_packed(tmp_path: Path, perceptron: Any, packing: str) -> None:
    joblib.dump(perceptron, tmp_path / "plain.joblib")
    joblib.dump(perceptron, tmp_path / "packed.joblib", compress=(packing, 3))
    plain, found = (nfn_cli.load(tmp_path / f"{name}.joblib") for name in ("plain", "packed"))
    assert {name: array.tobytes() for name, array in plain.tensors.items()} == {
        name: array.tobytes() for name, array in found.tensors.items()
    }
    nfn_cli.save(nfn_cli.canonicalize(found).checkpoint, tmp_path / "out.joblib")
    assert (tmp_path / "out.joblib").read_bytes()[:2] == (tmp_path / "packed.joblib").read_bytes()[:2]
    again = joblib.load(tmp_path / "out.joblib")
    x = np.random.default_rng(1).normal(size=(20, 3))
    assert np.allclose(again.predict(x), perceptron.predict(x), rtol=1e-9)
    assert not np.array_equal(again.coefs_[0], perceptron.coefs_[0])


@pytest.mark.parametrize("packing", PACK)
def test_what_is_no_pickle_is_still_compressed(tmp_path: Path, packing: str) -> None:
    (tmp_path / "m").write_bytes(PACK[packing](b"a,b\n1,2\n" * 100))
    with pytest.raises(Refused) as caught:
        nfn_cli.load(tmp_path / "m")
    assert caught.value.code == "compressed"


@pytest.mark.parametrize("packing", PACK)
def test_a_damaged_file_is_refused(tmp_path: Path, perceptron: Any, packing: str) -> None:
    joblib.dump(perceptron, tmp_path / "m", compress=(packing, 3))
    whole = (tmp_path / "m").read_bytes()
    (tmp_path / "m").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Refused) as caught:
        nfn_cli.load(tmp_path / "m")
    assert caught.value.code == "truncated"


@pytest.mark.parametrize("packing", PACK)
def test_a_bomb_is_given_up_before_it_is_unpacked(
    tmp_path: Path, packing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_file, "_ROOM", 4 << 20 if packing in ("xz", "lzma") else 1 << 20)
    small = PACK[packing] if packing not in ("xz", "lzma") else _light(packing)
    (tmp_path / "m").write_bytes(small(b"\x80\x04" + bytes(10 << 20)))
    with pytest.raises(Refused) as caught:
        nfn_cli.load(tmp_path / "m")
    assert caught.value.code == "zip-bomb"


def _light(packing: str) -> Callable[[bytes], bytes]:
    form = lzma.FORMAT_XZ if packing == "xz" else lzma.FORMAT_ALONE
    return lambda data: lzma.compress(data, form, preset=0)
