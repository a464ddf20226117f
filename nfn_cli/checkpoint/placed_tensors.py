"""checkpoint/placed_tensors.py: tensors whose numbers stand in one stretch of a file each: read, and written where they stood.

Knows stretches of bytes; no format. What a file says about sizes is checked against the bytes that are there.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nfn_cli.checkpoint.atomic_write import atomic_output
from nfn_cli.checkpoint.model import Array
from nfn_cli.checkpoint.storage import StoredTensor, changed_members
from nfn_cli.errors import Refused


@dataclass(frozen=True)
class Placed:
    """Where the tensors of a file lie.

    Attributes:
        stored: tensor name -> its member, type, shape and strides.
        places: member -> (start, length) of its bytes in the file.
        loose: bytes of members that the file spells in another way, so that they cannot be written again.
    """

    stored: Mapping[str, StoredTensor]
    places: Mapping[str, tuple[int, int]]
    loose: Mapping[str, bytes]

    def tensors(self, source: Path | bytes) -> dict[str, Array]:
        """Read-only arrays by name, memory-mapped where the source is a file and not its bytes.

        Raises:
            Refused: a tensor does not fit into its bytes.
        """
        storages = {member: self._storage(source, member) for member in {t.member for t in self.stored.values()}}
        return {name: _aligned(tensor.view(storages[tensor.member])) for name, tensor in self.stored.items()}

    def _storage(self, source: Path | bytes, member: str) -> Any:
        if member not in self.places:
            return self.loose[member]
        start, length = self.places[member]
        if isinstance(source, bytes):
            return source[start : start + length]
        return np.memmap(source, np.uint8, "r", start, (length,)) if length else b""

    def write(
        self, path: Path, before: Mapping[str, Array], after: Mapping[str, Array], out: Path, force: bool
    ) -> None:
        """Copy the file and put the changed tensors in their places.

        Raises:
            Refused: a changed tensor has no place (code "not-writable").
        """
        with path.open("rb") as source, atomic_output(out, force) as target:

            def read(member: str) -> bytes:
                start, length = self._place(member)
                source.seek(start)
                return source.read(length)

            shutil.copyfileobj(source, target, 1 << 20)
            for member, data in changed_members(read, self.stored, before, after):
                target.seek(self.places[member][0])
                target.write(data)
            target.seek(0, 2)

    def written(self, content: bytes, before: Mapping[str, Array], after: Mapping[str, Array]) -> bytes:
        """As `write`, of a file that is in memory."""

        def read(member: str) -> bytes:
            start, length = self._place(member)
            return content[start : start + length]

        found = bytearray(content)
        for member, data in changed_members(read, self.stored, before, after):
            start, length = self.places[member]
            found[start : start + length] = data
        return bytes(found)

    def _place(self, member: str) -> tuple[int, int]:
        if member not in self.places:
            raise Refused(
                "the pickle spells its numbers as text",
                fix="save it with pickle protocol 3 or later, or as .npz",
                code="not-writable",
            )
        return self.places[member]


def _aligned(view: Array) -> Array:
    # numbers in the middle of a file stand where they stand; elsewhere arrays are aligned
    array = np.require(view, requirements="A").view()
    array.flags.writeable = False
    return array
