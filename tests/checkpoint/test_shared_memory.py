"""Tensors that lie in each other's memory are one for the program that saved them: none is moved without the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import nfn_cli
from nfn_cli.errors import Refused

State = dict[str, torch.Tensor]
RELU = nfn_cli.NameOptions(activation="relu")


def _network(first: torch.Tensor) -> State:
    return {"fc1.weight": first, "fc1.bias": torch.randn(4), "fc2.weight": torch.randn(2, 4)}


def _part_of_a_bank() -> State:
    bank = torch.randn(12, 3)
    return _network(bank[:4]) | {"bank": bank}


def _tied_decoder() -> State:
    first = torch.randn(4, 3)
    return {"fc1.weight": first, "fc1.bias": torch.randn(4), "fc2.weight": first.T}


def _beside_each_other() -> State:
    bank = torch.randn(12, 3)
    return _network(bank[:4]) | {"bank": bank[4:]}


def _columns_between_columns() -> State:
    bank = torch.randn(4, 6)
    return _network(bank[:, ::2]) | {"bank": bank.reshape(-1)[1::2]}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("make", [_part_of_a_bank, _tied_decoder])
def test_a_tensor_in_the_memory_of_another_is_not_moved(
    tmp_path: Path, make: Callable[[], State], zipped: bool
) -> None:
    torch.save(make(), tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
    form = nfn_cli.canonicalize(tmp_path / "m.pt", RELU)
    with pytest.raises(Refused) as caught:
        nfn_cli.save(form.checkpoint, tmp_path / "out.pt")
    assert caught.value.code == "shared-memory"
    assert not (tmp_path / "out.pt").exists()


@pytest.mark.parametrize("make", [_beside_each_other, _columns_between_columns])
def test_tensors_of_one_storage_that_have_no_entry_in_common_are(tmp_path: Path, make: Callable[[], State]) -> None:
    torch.save(make(), tmp_path / "m.pt")
    form = nfn_cli.canonicalize(tmp_path / "m.pt", RELU)
    nfn_cli.save(form.checkpoint, tmp_path / "out.pt")
    assert nfn_cli.equivalent(tmp_path / "m.pt", tmp_path / "out.pt", RELU).equivalent
