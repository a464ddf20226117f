"""nfn scan --ray: a cluster that runs elsewhere on this machine, and one for the time of the scan, say what one process says."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .running import RELU, TANH, nfn

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra ray is not installed")


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("here") / "collection"
    folder.mkdir()
    for name, source in (("a", RELU), ("b", TANH), ("c", RELU)):
        shutil.copy(source, folder / f"{name}.safetensors")
    (folder / "damaged.npz").write_bytes(b"PK\x03\x04 nothing")
    return folder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """Address, and the environment that may join; its workers start in a folder of their own."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    joining = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus", "2"]
    head = subprocess.Popen(
        [*command, "--port", str(port), "--include-dashboard=false"],
        cwd=tmp_path_factory.mktemp("elsewhere"),
        env=os.environ | joining,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )
    assert head.stdout is not None
    said = ""
    while "Ray runtime started" not in said:
        line = head.stdout.readline()
        if not line:  # Ray gives up where the machine is too busy to start it within a minute
            pytest.skip(f"no Ray cluster starts here: {said.splitlines()[-1] if said else 'it says nothing'}")
        said += line
    yield f"127.0.0.1:{port}", joining
    os.killpg(head.pid, signal.SIGTERM)
    head.wait(60)


@needs_ray
def test_a_cluster_gives_the_same_bytes(
    collection: Path, cluster: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also for paths that are relative to where the scan was started, not the workers; a log is read and written as ever."""
    address, joining = cluster
    monkeypatch.chdir(collection.parent)
    alone = nfn("scan", "collection", "--json")
    run = nfn("scan", "collection", "--json", "--ray", address, "--resume", tmp_path / "log", **joining)
    assert (run.out, run.code, run.err) == (alone.out, 3, alone.err)
    assert len((tmp_path / "log").read_text().splitlines()) == 4


@needs_ray
def test_who_may_not_join_is_told_so(collection: Path, cluster: tuple[str, dict[str, str]]) -> None:
    address, joining = cluster
    run = nfn("scan", collection, "--ray", address, **joining | {"RAY_AUTH_TOKEN": secrets.token_hex(16)})
    last = run.err.splitlines()[-1]  # Ray has its say before
    assert (run.code, run.out, last.startswith("error: "), "RAY_AUTH_MODE" in last) == (4, "", True, True)


@needs_ray
def test_local_needs_no_cluster(collection: Path, tmp_path: Path) -> None:
    run = nfn("scan", collection, "--json", "--ray", "local", HOME=str(tmp_path))
    assert (run.out, run.err) == (nfn("scan", collection, "--json").out, nfn("scan", collection).err)


@needs_ray
@pytest.mark.parametrize("address", ["127.0.0.1:9", "nowhere.invalid:1", "ray://127.0.0.1:9"])
def test_where_no_cluster_is_the_scan_says_so_at_once(collection: Path, address: str) -> None:
    start = time.monotonic()
    run = nfn("scan", collection, "--ray", address)
    assert (run.code, run.err.count("\n"), "no cluster there" in run.err) == (4, 1, True)
    assert time.monotonic() - start < 60


def test_without_the_extra_its_name_is_said(collection: Path) -> None:
    if importlib.util.find_spec("ray") is None:
        run = nfn("scan", collection, "--ray", "local")
        assert (run.code, "nfn-cli[ray]" in run.err) == (4, True)
    assert nfn("scan", collection, "--ray", "local", "--jobs", 2).code == 2
