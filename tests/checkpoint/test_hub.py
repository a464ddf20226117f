"""Files on the hub, fetched from a real server on this machine that speaks the hub's protocol."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from safetensors.numpy import save

from tests.cli.running import RELU, nfn

CONTENT = {
    "owner/repo/resolve/main/nets/model.safetensors": save({"w": np.arange(4, dtype=np.float32).reshape(2, 2)}),
    "owner/repo/resolve/main/nets/config.json": b'{"hidden_act": "gelu"}',
    "owner/repo/resolve/v1/nets/model.safetensors": save({"w": np.full((2, 2), 7, np.float32)}),
    f"owner/repo/resolve/{'1' * 40}/nets/model.safetensors": save({"w": np.full((2, 2), 8, np.float32)}),
    "owner/large/resolve/main/model.safetensors": save({"w": np.ones((300, 1000), np.float32)}),
}


def commit(revision: str) -> str:
    """What a branch or a tag stands for; a commit for itself."""
    return revision if re.fullmatch("[0-9a-f]{40}", revision) else hashlib.sha1(revision.encode()).hexdigest()


def content(path: str) -> bytes | None:
    """What is kept under /owner/repo/resolve/REVISION/file, the revision being a branch, a tag or a commit of one."""

    def place(name: str) -> tuple[str, ...]:
        owner, repo, _, revision, *file = name.split("/")
        return owner, repo, commit(revision), *file

    wanted = path.lstrip("/")
    known = {place(name): body for name, body in CONTENT.items()}
    return known.get(place(wanted)) if wanted.count("/") > 3 else None


class HubServer(ThreadingHTTPServer):
    """Listens on loopback.

    Attributes:
        cuts: of each answer with a large file, the byte at which the connection ends.
        elsewhere: another server that large files are kept on, as the hub does; "" for none.
        mute: whether it takes questions and does not answer; "files": only those for the content of large ones.
        asked: paths, in the order in which they were asked for.
    """

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.cuts: list[int] = []
        self.elsewhere = ""
        self.mute = threading.Event()
        self.closing = threading.Event()
        self.asked: list[str] = []


class Hub(BaseHTTPRequestHandler):
    def _answer(self, with_body: bool) -> None:
        hub: HubServer = self.server  # type: ignore[assignment]
        hub.asked.append(self.path)
        if hub.mute.is_set():
            hub.closing.wait(60)
            return
        if self.path.startswith("/owner/gated/"):
            self.send_response(403)
            self.send_header("X-Error-Code", "GatedRepo")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = content(self.path)
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
        if hub.elsewhere and "/owner/large/" in self.path:
            self.send_response(302)
            self.send_header("Location", f"{hub.elsewhere}{self.path}")
            self.send_header("X-Repo-Commit", commit(self.path.split("/")[4]))
            self.send_header("X-Linked-ETag", f'"{etag}"')
            self.send_header("X-Linked-Size", str(len(body)))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", commit(self.path.split("/")[4]))
        self.send_header("ETag", f'"{etag}"')
        self.send_header("Content-Length", str(len(body) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        if not with_body:
            return
        if hub.cuts and "/owner/large/" in self.path:
            self.wfile.write(body[start : hub.cuts.pop()])
            self.close_connection = True
            return
        self.wfile.write(body[start:])

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        self._answer(True)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[HubServer]:
    server = HubServer(Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with serving() as server:
        yield server


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


def settings(endpoint: str, cache: Path) -> dict[str, str]:
    return {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(cache),
        "NO_PROXY": "127.0.0.1,localhost",
        "HF_HUB_DISABLE_XET": "1",
    }


def run(code: str, endpoint: str, cache: Path, **more: str) -> subprocess.CompletedProcess[str]:
    # huggingface_hub reads its settings once, when it is imported: a process of its own for each test
    environment = os.environ | settings(endpoint, cache) | more
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


def test_a_large_file_may_lie_on_another_server(hub: HubServer, endpoint: str, tmp_path: Path) -> None:
    with serving() as storage:
        hub.elsewhere = f"http://localhost:{storage.server_port}"
        assert answer("hf://owner/large/model.safetensors", endpoint, tmp_path) == "300000.0"
        assert storage.asked
        storage.cuts = [500_000]  # what arrived before a connection broke off is not asked for again
        assert answer("hf://owner/large/model.safetensors", endpoint, tmp_path / "other") == "300000.0"


def test_a_server_that_does_not_answer_is_not_waited_for_for_long(
    hub: HubServer, endpoint: str, tmp_path: Path
) -> None:
    source = "hf://owner/repo/nets/model.safetensors"
    assert answer(source, endpoint, tmp_path) == "6.0"
    hub.mute.set()
    short = "import nfn_cli.checkpoint.hub as hub\nhub.PATIENCE = 0.5\n"
    for cache, expected in ((tmp_path, "6.0"), (tmp_path / "empty", "hub-unreachable")):
        hub.asked.clear()
        done = run(short + NO_WAITING + TOLD.format(source), endpoint, cache)
        assert done.stdout.startswith(expected), done.stderr
        assert (done.stderr, done.stdout.count("\n")) == ("", 1)
        assert len(hub.asked) <= 3  # not again and again
    assert "did not answer in time" in done.stdout


def test_answers_say_the_commit_that_was_read(endpoint: str, tmp_path: Path) -> None:
    sources = ["hf://owner/repo/nets/model.safetensors", "hf://owner/repo@v1/nets/model.safetensors"]
    lines = nfn("digest", *sources, RELU, "--json", **settings(endpoint, tmp_path)).json()  # type: ignore[arg-type]
    assert [line.get("commits") for line in lines] == [
        {sources[0]: commit("main")},
        {sources[1]: commit("v1")},
        None,
    ]
    schema = json.loads((files("nfn_cli") / "schemas" / "digest.json").read_text())
    for line in lines:
        jsonschema.validate(line, schema)
    (both,) = nfn("equivalent", *sources, "--json", **settings(endpoint, tmp_path)).json()  # type: ignore[arg-type]
    assert set(both["commits"]) == set(sources)


def test_what_belongs_together_is_of_one_commit(endpoint: str, hub: HubServer, tmp_path: Path) -> None:
    """A branch that moves meanwhile does not give the index of one commit and the shards of another."""
    assert answer("hf://owner/repo/nets/model.safetensors", endpoint, tmp_path) == "6.0"
    assert {path for path in hub.asked if path.endswith("config.json")} == {
        f"/owner/repo/resolve/{commit('main')}/nets/config.json"
    }
