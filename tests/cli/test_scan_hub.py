"""nfn scan hf://owner/repo: a repository on a real server on this machine that speaks the hub's protocol."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from tests.checkpoint.test_hub import CONTENT, Hub, HubServer

from .running import RELU, TANH, Run, nfn

START = "owner/repo/resolve/main/"
HINT = b'{"hidden_act": "relu"}'


def files() -> dict[str, bytes]:
    """A network, a copy in two shards, another network, a torn file, one that is withheld, and what is no checkpoint."""
    tensors = load_file(RELU)
    names = sorted(tensors)
    order = np.random.default_rng(0).permutation(len(tensors["conv1.weight"]))
    moved = tensors | {n: tensors[n][order] for n in ("conv1.weight", "conv1.bias")}
    moved["conv2.weight"] = np.ascontiguousarray(tensors["conv2.weight"][:, order])
    parts = {f"m-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    weight_map = {name: part for part, held in parts.items() for name in held}
    return {
        "README.md": b"# nothing",
        "config.json": HINT,
        "deep/config.json": HINT,
        "deep/m.safetensors.index.json": json.dumps({"metadata": {}, "weight_map": weight_map}).encode(),
        **{f"deep/{part}": save({n: moved[n] for n in held}) for part, held in parts.items()},
        "model.safetensors": RELU.read_bytes(),
        "other.safetensors": TANH.read_bytes(),
        "torn.npz": b"PK\x03\x04 nothing",
        "withheld.safetensors": b"",
    }


class Listing(Hub):
    """Also tells what is in a repository."""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path not in ("/api/models/owner/repo", "/api/models/owner/repo/revision/main"):
            if path.startswith("/api/models/owner/repo/revision/"):
                self.refuse(404, "RevisionNotFound")
            else:
                super().do_GET()
            return
        held = {name.removeprefix(START): content for name, content in CONTENT.items()}
        siblings = [
            {"rfilename": name, "size": len(content), "blobId": hashlib.sha1(content).hexdigest()}
            for name, content in held.items()
        ]
        body = json.dumps({"id": "owner/repo", "sha": "0" * 40, "siblings": siblings}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer(self, with_body: bool) -> None:
        if self.path.endswith("withheld.safetensors"):
            self.refuse(403, "GatedRepo")
        else:
            super()._answer(with_body)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in list(CONTENT):
        monkeypatch.delitem(CONTENT, name)
    for name, content in files().items():
        monkeypatch.setitem(CONTENT, START + name, content)
    server = HubServer(Listing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def scan(endpoint: str, cache: Path, *arguments: object) -> Run:
    hub = {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_XET": "1"}
    return nfn("scan", *arguments, "--json", **hub)


def test_a_repository_is_scanned_file_by_file(endpoint: str, tmp_path: Path) -> None:
    """The parts of a sharded checkpoint are one network; what is refused stands in its place."""
    run = scan(endpoint, tmp_path, "hf://owner/repo")
    lines = run.json()
    names = ["deep/m.safetensors.index.json", "model.safetensors", "other.safetensors"]
    paths = [f"hf://owner/repo/{name}" for name in [*names, "torn.npz", "withheld.safetensors"]]
    assert [line["path"] for line in lines[:5]] == paths
    assert [line.get("kind") for line in lines] == ["network"] * 3 + [None] * 2 + ["group", "summary"]
    assert "damaged" in lines[3]["error"]["message"]
    assert (run.code, lines[4]["error"]["code"]) == (4, "hub-gated")
    assert lines[5]["paths"] == paths[:2]


def test_a_revision_and_a_folder_narrow_it(endpoint: str, tmp_path: Path) -> None:
    run = scan(endpoint, tmp_path, "hf://owner/repo@main/deep/", "hf://owner/repo/model.safetensors")
    paths = [line["path"] for line in run.json()[:2]]
    assert paths == ["hf://owner/repo@main/deep/m.safetensors.index.json", "hf://owner/repo/model.safetensors"]
    assert run.json()[-1]["groups"] == 1


def test_with_a_log_only_what_changed_is_done_again(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("hf://owner/repo", "--resume", tmp_path / "log")
    scan(endpoint, tmp_path, *arguments)
    assert len((tmp_path / "log").read_text().splitlines()) == 4
    monkeypatch.setitem(CONTENT, f"{START}other.safetensors", RELU.read_bytes())
    # the test's server gives all contents one commit, for which a cache would keep what it has
    again = scan(endpoint, tmp_path / "another cache", *arguments)
    assert len((tmp_path / "log").read_text().splitlines()) == 5
    assert len(next(line for line in again.json() if line.get("kind") == "group")["paths"]) == 3


def test_what_is_not_there_is_said_in_one_line_and_the_rest_is_done(endpoint: str, tmp_path: Path) -> None:
    run = scan(endpoint, tmp_path, "hf://owner/none", "hf://owner/repo@none", "hf://owner", "hf://owner/repo/no/", RELU)
    *failed, network, summary = run.json()
    codes = [line["error"]["code"] for line in failed]
    assert codes == ["hub-not-found", "hub-not-found", "bad-hub-path", "hub-not-found"]
    assert (network["path"], summary["networks"], run.code) == (str(RELU), 1, 4)
    assert run.err.count("\n") == 4


def test_no_hub_is_said_in_one_line(tmp_path: Path) -> None:
    run = scan("http://127.0.0.1:9", tmp_path, "hf://owner/repo")
    assert (run.json()[0]["error"]["code"], run.code, run.err.count("\n")) == ("hub-unreachable", 4, 1)
