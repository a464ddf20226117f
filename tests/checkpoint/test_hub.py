"""Files on the hub, fetched from a real server on this machine that speaks the hub's protocol."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

CONTENT = {
    "owner/repo/resolve/main/nets/model.safetensors": save({"w": np.arange(4, dtype=np.float32).reshape(2, 2)}),
    "owner/repo/resolve/main/nets/config.json": b'{"hidden_act": "gelu"}',
    "owner/repo/resolve/v1/nets/model.safetensors": save({"w": np.full((2, 2), 7, np.float32)}),
    f"owner/repo/resolve/{'1' * 40}/nets/model.safetensors": save({"w": np.full((2, 2), 8, np.float32)}),
    "owner/large/resolve/main/model.safetensors": save({"w": np.ones((300, 1000), np.float32)}),
}


class HubServer(ThreadingHTTPServer):
    """Listens on loopback. `cuts`: of each answer with a large file, the byte at which the connection ends."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.cuts: list[int] = []


class Hub(BaseHTTPRequestHandler):
    def _answer(self, with_body: bool) -> None:
        if self.path.startswith("/owner/gated/"):
            self.send_response(403)
            self.send_header("X-Error-Code", "GatedRepo")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = CONTENT.get(self.path.lstrip("/"))
        if body is None:
            self.send_response(404)
            known = "/owner/repo/" in self.path
            code = "RevisionNotFound" if "/none/" in self.path else "EntryNotFound" if known else "RepoNotFound"
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        etag = hashlib.sha256(body).hexdigest()
        start = int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", hashlib.sha1(self.path.split("/")[4].encode()).hexdigest())
        self.send_header("ETag", f'"{etag}"')
        self.send_header("Content-Length", str(len(body) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        if not with_body:
            return
        cuts: list[int] = self.server.cuts  # type: ignore[attr-defined]
        if cuts and "/owner/large/" in self.path:
            self.wfile.write(body[start : cuts.pop()])
            self.close_connection = True
            return
        self.wfile.write(body[start:])

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        self._answer(True)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[HubServer]:
    server = HubServer(Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def endpoint(hub: HubServer) -> str:
    return f"http://127.0.0.1:{hub.server_port}"


# the library waits longer and longer between its tries; these tests need not
NO_WAITING = "import time\ntime.sleep = lambda seconds: None\n"
TOLD = (
    "from nfn_cli.checkpoint import load\nfrom nfn_cli.errors import NfnError\n"
    "try:\n    print(load({!r}).tensors['w'].sum())\n"
    "except NfnError as error:\n    print(error.code, error)\n"
)


def answer(source: str, endpoint: str, cache: Path, **environment: str) -> str:
    """The sum of the tensor, or code and message of the error, in one line."""
    done = run(NO_WAITING + TOLD.format(source), endpoint, cache, **environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    return done.stdout.strip()


def run(code: str, endpoint: str, cache: Path, **more: str) -> subprocess.CompletedProcess[str]:
    # huggingface_hub reads its settings once, when it is imported: a process of its own for each test
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "NO_PROXY": "127.0.0.1"}
    environment |= {"HF_HUB_DISABLE_XET": "1", **more}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_file_and_its_config_are_fetched(endpoint: str, tmp_path: Path) -> None:
    code = (
        "from nfn_cli.checkpoint import load\n"
        "found = load('hf://owner/repo@main/nets/model.safetensors')\n"
        "assert found.path == 'hf://owner/repo@main/nets/model.safetensors'\n"
        "assert found.tensors['w'].tolist() == [[0, 1], [2, 3]]\n"
        "assert found.hints.activation == 'gelu'\n"
    )
    done = run(code, endpoint, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("hf://owner/repo/none.safetensors", "hub-not-found"),
        ("hf://owner/other/x", "hub-not-found"),
        ("hf://owner/repo@none/nets/model.safetensors", "hub-not-found"),
        ("hf://owner", "bad-hub-path"),
        ("hf://owner/gated/model.safetensors", "hub-gated"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(endpoint: str, tmp_path: Path, source: str, expected: str) -> None:
    assert answer(source, endpoint, tmp_path).startswith(expected)


def test_a_gated_repository_says_how_to_get_in(endpoint: str, tmp_path: Path) -> None:
    said = answer("hf://owner/gated/model.safetensors", endpoint, tmp_path)
    assert "HF_TOKEN" in said


def test_a_hub_that_is_down_is_said_in_one_line(tmp_path: Path) -> None:
    assert answer("hf://owner/repo/x", "http://127.0.0.1:9", tmp_path).startswith("hub-unreachable")


def test_without_a_network_the_cache_answers_and_nothing_else(endpoint: str, tmp_path: Path) -> None:
    source = "hf://owner/repo/nets/model.safetensors"
    assert answer(source, endpoint, tmp_path, HF_HUB_OFFLINE="1").startswith("hub-unreachable")
    assert answer(source, endpoint, tmp_path) == "6.0"
    assert answer(source, endpoint, tmp_path, HF_HUB_OFFLINE="1") == "6.0"
    assert answer(source, "http://127.0.0.1:9", tmp_path) == "6.0"


@pytest.mark.parametrize(("revision", "total"), [("main", "6.0"), ("v1", "28.0"), ("1" * 40, "32.0")])
def test_a_branch_a_tag_or_a_commit_is_what_is_read(endpoint: str, tmp_path: Path, revision: str, total: str) -> None:
    assert answer(f"hf://owner/repo@{revision}/nets/model.safetensors", endpoint, tmp_path) == total


def test_a_download_that_breaks_off_is_completed_or_refused_and_never_read_in_part(
    hub: HubServer, endpoint: str, tmp_path: Path
) -> None:
    source = "hf://owner/large/model.safetensors"
    hub.cuts = [700_000] * 50  # every try ends after the same byte
    assert answer(source, endpoint, tmp_path).startswith("hub-unreachable")
    hub.cuts = []
    assert answer(source, endpoint, tmp_path) == "300000.0"
