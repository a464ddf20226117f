"""Links among shards: followed within their folder and in a store like that of the hub's cache, refused where they lead out."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from nfn_cli.checkpoint import load
from nfn_cli.errors import Refused

INDEX = "model.safetensors.index.json"


def write_shards(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number in (0, 1):
        save_file({f"{number}.weight": np.full((2, 2), number, np.float32)}, folder / f"{number}.safetensors")
    where = {f"{number}.weight": f"{number}.safetensors" for number in (0, 1)}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))


def refused(index: Path) -> str:
    with pytest.raises(Refused) as told:
        load(index)
    return told.value.code


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    write_shards(tmp_path / "mine")
    write_shards(tmp_path / "given")
    assert set(load(tmp_path / "given" / INDEX).tensors) == {"0.weight", "1.weight"}
    (tmp_path / "given" / "1.safetensors").unlink()
    (tmp_path / "given" / "1.safetensors").symlink_to(tmp_path / "mine" / "1.safetensors")
    assert refused(tmp_path / "given" / INDEX) == "shard-outside-folder"


def test_a_folder_that_is_a_link_out_is_refused(tmp_path: Path) -> None:
    write_shards(tmp_path / "mine")
    write_shards(tmp_path / "given")
    index = tmp_path / "given" / INDEX
    index.write_text(index.read_text().replace("1.safetensors", "sub/1.safetensors"))
    (tmp_path / "given" / "sub").symlink_to(tmp_path / "mine", target_is_directory=True)
    assert refused(index) == "shard-outside-folder"


def test_a_link_within_the_folder_is_followed(tmp_path: Path) -> None:
    write_shards(tmp_path / "given")
    (tmp_path / "given" / "kept").mkdir()
    os.rename(tmp_path / "given" / "1.safetensors", tmp_path / "given" / "kept" / "x")
    (tmp_path / "given" / "1.safetensors").symlink_to("kept/x")
    assert set(load(tmp_path / "given" / INDEX).tensors) == {"0.weight", "1.weight"}


@pytest.mark.parametrize("shared", [False, True])
def test_the_cache_of_the_hub_is_followed(tmp_path: Path, shared: bool) -> None:
    """Snapshots of links into the repository's blobs, of which the larger ones are links into a store of the whole cache."""
    repository = tmp_path / "hub" / "models--owner--name"
    write_shards(repository / "blobs")
    snapshot = repository / "snapshots" / "1234"
    snapshot.mkdir(parents=True)
    (tmp_path / "hub" / "blobs" / "00").mkdir(parents=True)
    for number, name in enumerate((INDEX, "0.safetensors", "1.safetensors")):
        blob = repository / "blobs" / f"{number:064x}"
        os.rename(repository / "blobs" / name, blob)
        (snapshot / name).symlink_to(f"../../blobs/{blob.name}")
        if shared and name != INDEX:
            os.rename(blob, tmp_path / "hub" / "blobs" / "00" / blob.name)
            blob.symlink_to(f"../../blobs/00/{blob.name}")
    assert set(load(snapshot / INDEX).tensors) == {"0.weight", "1.weight"}
    write_shards(tmp_path / "mine")
    (snapshot / "1.safetensors").unlink()
    (snapshot / "1.safetensors").symlink_to(tmp_path / "mine" / "1.safetensors")
    assert refused(snapshot / INDEX) == "shard-outside-folder"
