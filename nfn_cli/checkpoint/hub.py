"""checkpoint/hub.py: `hf://owner/repo[@revision]/file`, fetched into the cache of huggingface_hub. Knows no format."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from nfn_cli.checkpoint.sharded import shard_names
from nfn_cli.errors import NfnError, SurroundingsFailed, WrongUsage
from nfn_cli.printable import printable

PREFIX = "hf://"
_FORM = re.compile(r"^hf://(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?/(?P<file>.+)$")


def fetched(source: str) -> Path:
    """Local path of a file on the hub (with its config.json and, for an index, its shards beside it).

    Raises:
        WrongUsage: not of the form hf://owner/repo[@revision]/file.
        SurroundingsFailed: no network, no such repository or file, no permission.
    """
    match = _FORM.match(source)
    if match is None:
        raise WrongUsage("not a file on the hub", fix="write hf://owner/repo[@revision]/file", code="bad-hub-path")
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import (
            EntryNotFoundError,
            GatedRepoError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError:
        raise SurroundingsFailed(
            "huggingface-hub is missing", fix="pip install huggingface-hub", code="missing-extra"
        ) from None

    def download(name: str) -> Path:
        return Path(hf_hub_download(match["repo"], name, revision=match["revision"]))

    try:
        path = download(match["file"])
        folder = match["file"].rpartition("/")[0]
        beside = f"{folder}/" if folder else ""
        if path.suffix == ".json":
            for shard in shard_names(path):
                download(f"{beside}{shard}")
    except RevisionNotFoundError:
        raise SurroundingsFailed("the hub has no such revision", code="hub-not-found") from None
    except GatedRepoError:
        raise SurroundingsFailed(
            "the repository is gated",
            fix="ask for access on its page and log in with `hf auth login`, or set HF_TOKEN",
            code="hub-gated",
        ) from None
    except RepositoryNotFoundError:
        raise SurroundingsFailed("the hub has no such repository, or it is private", code="hub-not-found") from None
    except LocalEntryNotFoundError:
        raise SurroundingsFailed(
            "the hub could not be reached, and the file is not in the cache", code="hub-unreachable"
        ) from None
    except EntryNotFoundError:
        raise SurroundingsFailed("the repository has no such file", code="hub-not-found") from None
    except NfnError:
        raise
    except Exception as error:
        # a connection that breaks off raises what the library's transport has, and that changes with its version
        reason = printable(str(error).split("\n")[0], 100)
        raise SurroundingsFailed(f"the hub could not be reached ({reason})", code="hub-unreachable") from None
    with suppress(Exception):  # as above; a config.json is a help, not a need
        download(f"{beside}config.json")
    return path
