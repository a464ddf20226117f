"""checkpoint/origin.py: what a reader remembers for its own writer. Knows paths and names; no file format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nfn_cli.checkpoint.model import Array, Checkpoint


@dataclass(frozen=True)
class Origin:
    """The payload of every `Checkpoint` that was read from files.

    Attributes:
        files: every file that was read; none of them may be the output.
        tensors: the arrays as read, to tell which ones changed.
        stored_names: name in `Checkpoint.tensors` -> name in the file (they differ by wrapper prefixes).
        content: private to the container's reader and writer.
    """

    files: tuple[Path, ...]
    tensors: Mapping[str, Array]
    stored_names: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    content: Any = None

    def stored(self, name: str) -> str:
        """The name under which the file keeps the tensor."""
        return self.stored_names.get(name, name)


def origin_of(checkpoint: Checkpoint) -> Origin:
    """The origin of a checkpoint; an empty one where it was made in memory."""
    payload = checkpoint.payload
    return payload if isinstance(payload, Origin) else Origin((), MappingProxyType({}))
