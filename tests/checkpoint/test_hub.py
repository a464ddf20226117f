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
}


class Hub(BaseHTTPRequestHandler):
    def _answer(self, with_body: bool) -> None:
        body = CONTENT.get(self.path.lstrip("/"))
        if body is None:
            self.send_response(404)
            code = "EntryNotFound" if "/owner/repo/" in self.path else "RepoNotFound"
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        self._answer(True)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def run(code: str, endpoint: str, cache: Path) -> subprocess.CompletedProcess[str]:
    # huggingface_hub reads its settings once, when it is imported: a process of its own for each test
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "NO_PROXY": "127.0.0.1"}
    environment["HF_HUB_DISABLE_XET"] = "1"
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


@pytest.mark.parametrize("source", ["hf://owner/repo/none.safetensors", "hf://owner/other/x", "hf://owner", "down"])
def test_what_is_not_there_is_said_in_one_line(endpoint: str, tmp_path: Path, source: str) -> None:
    code = (
        "from nfn_cli.checkpoint import load\nfrom nfn_cli.errors import NfnError\n"
        f"try:\n    load({'hf://owner/repo/x' if source == 'down' else source!r})\n"
        "except NfnError as error:\n    print(error.code, error)\n"
    )
    done = run(code, "http://127.0.0.1:9" if source == "down" else endpoint, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    expected = {"hf://owner": "bad-hub-path", "down": "hub-unreachable"}.get(source, "hub-not-found")
    assert done.stdout.startswith(expected)
