"""checkpoint/hub.py: `hf://owner/repo[@revision]/file`, fetched into the cache of huggingface_hub. Knows no format."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from nfn_cli.checkpoint.sharded import shard_names
from nfn_cli.errors import NfnError, SurroundingsFailed, WrongUsage, not_installed
from nfn_cli.printable import printable

PREFIX = "hf://"
PATIENCE = 10.0  # seconds that a server may take to say what it has
_FORM = re.compile(r"^hf://(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?/(?P<file>.+)$")
_COMMITS: dict[str, str] = {}


def fetched(source: str) -> Path:
    """Local path of a file on the hub (with its config.json and, for an index, its shards beside it, all of one commit).

    Raises:
        WrongUsage: not of the form hf://owner/repo[@revision]/file.
        SurroundingsFailed: no network, no such repository or file, no permission.
    """
    match = _FORM.match(source)
    if match is None:
        raise WrongUsage("not a file on the hub", fix="write hf://owner/repo[@revision]/file", code="bad-hub-path")
    with _told():
        path = _Repository(match["repo"], match["revision"]).file(match["file"])
        commit = _commit_of(path)
        if commit:
            _COMMITS[source] = commit
        same = _Repository(match["repo"], commit or match["revision"])
        folder = match["file"].rpartition("/")[0]
        beside = f"{folder}/" if folder else ""
        if path.suffix == ".json":
            for shard in shard_names(path):
                same.file(f"{beside}{shard}")
    with suppress(Exception):  # whatever went wrong: a config.json is a help, not a need
        same.file(f"{beside}config.json")
    return path


def commit_of(source: str) -> str | None:
    """The commit that a source on the hub was found at, once it was fetched by this process."""
    return _COMMITS.get(source)


@dataclass(frozen=True)
class _Repository:
    name: str
    revision: str | None

    def file(self, name: str) -> Path:
        """From the cache where it is, else from the hub. Raises what huggingface_hub raises."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
        from huggingface_hub.errors import (
            EntryNotFoundError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        if re.fullmatch("[0-9a-f]{40}", self.revision or ""):  # what a commit holds does not change
            with suppress(LocalEntryNotFoundError):
                return Path(hf_hub_download(self.name, name, revision=self.revision, local_files_only=True))
        try:
            # asked first, and once: where nobody answers the library itself would try for minutes
            get_hf_file_metadata(hf_hub_url(self.name, name, revision=self.revision), timeout=PATIENCE)
        except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError):
            raise
        except Exception as error:
            with suppress(LocalEntryNotFoundError):
                return Path(hf_hub_download(self.name, name, revision=self.revision, local_files_only=True))
            raise _Unreachable(error) from None
        return Path(hf_hub_download(self.name, name, revision=self.revision))


class _Unreachable(Exception):
    """Nobody answers, and the file is not in the cache; holds what the transport said."""


@contextmanager
def _told() -> Iterator[None]:
    """Turn what huggingface_hub raises into what a user should read, and keep it from writing lines of its own."""
    try:
        from huggingface_hub import errors
        from huggingface_hub.utils import logging
    except ImportError:
        raise not_installed("huggingface-hub", "hf://") from None
    before = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    except errors.RevisionNotFoundError:
        raise SurroundingsFailed(
            "the hub has no such revision", fix="name a branch, a tag or a commit of it", code="hub-not-found"
        ) from None
    except errors.GatedRepoError:
        raise SurroundingsFailed(
            "the repository is gated",
            fix="ask for access on its page and log in with `hf auth login`, or set HF_TOKEN",
            code="hub-gated",
        ) from None
    except errors.RepositoryNotFoundError:
        raise SurroundingsFailed(
            "the hub has no such repository, or it is private",
            fix="for a private one log in with `hf auth login`, or set HF_TOKEN",
            code="hub-not-found",
        ) from None
    except errors.LocalEntryNotFoundError as error:
        raise _failed(error) from None
    except errors.EntryNotFoundError:
        raise SurroundingsFailed(
            "the repository has no such file", fix="nfn scan hf://owner/repo lists its networks", code="hub-not-found"
        ) from None
    except NfnError:
        raise
    except Exception as error:
        raise _failed(error.args[0] if isinstance(error, _Unreachable) else error) from None
    finally:
        logging.set_verbosity(before)


def _failed(error: Exception) -> SurroundingsFailed:
    """What a transport says differs with it and its version; whether it waited in vain is told by the name of its error."""
    if isinstance(error, TimeoutError) or "timeout" in type(error).__name__.lower():
        return SurroundingsFailed(
            "the hub did not answer in time, and the file is not in the cache",
            fix="try again; what arrived of a large file is kept",
            code="hub-unreachable",
        )
    if "offline" in type(error).__name__.lower():
        return SurroundingsFailed(
            "the hub is not asked (HF_HUB_OFFLINE), and the file is not in the cache",
            fix="unset HF_HUB_OFFLINE",
            code="hub-unreachable",
        )
    reason = printable(str(error).split("\n")[0], 100)
    return SurroundingsFailed(
        f"the hub could not be reached ({reason}), and the file is not in the cache",
        fix="is there a network, and is HF_ENDPOINT right?",
        code="hub-unreachable",
    )


def _commit_of(path: Path) -> str | None:
    """The cache keeps a file under models--OWNER--NAME/snapshots/COMMIT/."""
    for folder in path.parents:
        if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--"):
            return folder.name
    return None
