"""zoo/hub_listing.py: which files of a repository on the hub may hold weights, and what changes when they do. Reads no file."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nfn_cli.checkpoint.hub import PATIENCE, PREFIX
from nfn_cli.errors import SurroundingsFailed, not_installed
from nfn_cli.printable import printable

_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".npz", ".npy", ".onnx", ".pt2")
_INDEX = re.compile(r"(?P<stem>.+)\.safetensors\.index\.json")
_PART = re.compile(r"(?P<stem>.+)-[0-9]{5}-of-[0-9]{5}\.safetensors")
_REPOSITORY = re.compile(r"(?P<name>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?(?:/|/(?P<folder>.+)/)?")


def is_repository(source: str) -> bool:
    """Whether it names a repository, or with a slash at its end a folder in one, and not a file."""
    return source.startswith(PREFIX) and _REPOSITORY.fullmatch(source.removeprefix(PREFIX)) is not None


def listed(source: str) -> Iterator[tuple[str, str]]:
    """hf://owner/repo[@revision][/folder/] -> (hf://… of a file, a stamp that changes with its content), in sorted order.

    Files are told by their names; the parts of a sharded checkpoint are left to its index.

    Raises:
        SurroundingsFailed: no network, no such repository, revision or folder, no permission.
    """
    match = _REPOSITORY.fullmatch(source.removeprefix(PREFIX))
    assert match is not None
    found = _files(source, match["name"], match["revision"])
    if match["folder"]:
        found = {name: stamp for name, stamp in found.items() if name.startswith(f"{match['folder']}/")}
        if not found:
            raise SurroundingsFailed("the repository has no such folder", where=printable(source), code="hub-not-found")
    stems = {index["stem"] for name in found if (index := _INDEX.fullmatch(name))}
    start = PREFIX + match["name"] + (f"@{match['revision']}" if match["revision"] else "")
    for name in sorted(found):
        part = _PART.fullmatch(name)
        if _INDEX.fullmatch(name) or (name.endswith(_SUFFIXES) and not (part and part["stem"] in stems)):
            yield f"{start}/{name}", found[name]


def _files(source: str, name: str, revision: str | None) -> dict[str, str]:
    """Name -> stamp of all files."""
    try:
        from huggingface_hub import HfApi, errors
    except ImportError:
        raise not_installed("huggingface-hub", "hf://") from None

    def failed(what: str, code: str) -> SurroundingsFailed:
        return SurroundingsFailed(what, where=printable(source), code=code)

    try:
        siblings = HfApi().model_info(name, revision=revision, timeout=PATIENCE, files_metadata=True).siblings or []
    except errors.RevisionNotFoundError:
        raise failed("the hub has no such revision", "hub-not-found") from None
    except errors.RepositoryNotFoundError:
        raise failed("the hub has no such repository, or it is private", "hub-not-found") from None
    except (
        Exception
    ) as error:  # its client's own errors, those of whatever it speaks HTTP with, answers that are no listing
        reason = printable(str(error).split("\n")[0], 100)
        raise failed(f"the hub could not be asked what is there ({reason})", "hub-unreachable") from None
    return {file.rfilename: str(file.blob_id) for file in siblings}
