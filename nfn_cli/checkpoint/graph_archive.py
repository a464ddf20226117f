"""checkpoint/graph_archive.py: what archives with a program and its weights have in common: written again, weights changed.

Knows storages and zip archives; which program it is, its readers know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nfn_cli.checkpoint.atomic_write import atomic_output
from nfn_cli.checkpoint.model import Array, Checkpoint
from nfn_cli.checkpoint.origin import Origin, origin_of
from nfn_cli.checkpoint.storage import StoredTensor, aliases_of, changed_members, member_bytes
from nfn_cli.checkpoint.zip_guard import checked_zip, open_zip, read_member
from nfn_cli.checkpoint.zip_patch import patch_zip


@dataclass(frozen=True)
class Archive:
    """What the front end and the writer need.

    Attributes:
        program: the program, as its reader gives it.
        stored: where each tensor lies.
        inner: the member that is itself an archive and holds the weights; "" where the file holds them.
    """

    program: Any
    stored: Mapping[str, StoredTensor]
    inner: str = ""


def archive_checkpoint(path: Path, container: str, tensors: Mapping[str, Array], archive: Archive) -> Checkpoint:
    frozen = MappingProxyType(dict(tensors))
    return Checkpoint(
        str(path),
        container,
        frozen,
        aliases=MappingProxyType(aliases_of(archive.stored)),
        payload=Origin((path,), frozen, content=archive),
    )


def write_archive(checkpoint: Checkpoint, out: Path, force: bool) -> tuple[str, ...]:
    """The same archive, byte for byte, with other weights.

    Raises:
        Refused: as `changed_members` and `patch_zip`.
    """
    origin = origin_of(checkpoint)
    content: Archive = origin.content
    (path,) = origin.files
    with open_zip(path) as archive, path.open("rb") as source, atomic_output(out, force) as target:
        if not content.inner:
            changed = changed_members(
                partial(member_bytes, archive), content.stored, origin.tensors, checkpoint.tensors
            )
            patch_zip(source, archive, target, changed)
            return ()
        inner, made = BytesIO(read_member(archive, archive.getinfo(content.inner))), BytesIO()
        with checked_zip(inner, inner.getbuffer().nbytes) as weights:
            changed = changed_members(
                partial(member_bytes, weights), content.stored, origin.tensors, checkpoint.tensors
            )
            patch_zip(inner, weights, made, changed)
        patch_zip(source, archive, target, [(content.inner, made.getvalue())])
    return ()
