"""symmetry/element_file.py: group elements as safetensors files, and acting on whole checkpoints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nfn_cli.checkpoint.model import Array, Checkpoint
from nfn_cli.errors import Refused
from nfn_cli.graph.model import Network
from nfn_cli.printable import printable
from nfn_cli.symmetry.action import TransformedTensors
from nfn_cli.symmetry.element import GroupElement, SetElement, from_flat, random_flat, to_flat
from nfn_cli.symmetry.solve import find_symmetry

FORMAT = "nfn.element/1"
_PARTS = ("permutation", "scale", "sign", "shift", "shift_sign")


def act(
    element: GroupElement, checkpoint: Checkpoint, networks: Sequence[Network], *, inverse: bool = False
) -> Checkpoint:
    """The checkpoint after a group element. Tensors are computed when they are read, in their own dtype.

    Raises:
        Refused: the element does not belong to this network's group (code "element-does-not-fit").
    """
    symmetry = find_symmetry(networks, checkpoint.aliases)
    flat = to_flat(symmetry, element.inverse() if inverse else element)
    return replace(checkpoint, tensors=TransformedTensors(checkpoint.tensors, checkpoint.aliases, symmetry, flat))


def random_element(
    checkpoint: Checkpoint,
    networks: Sequence[Network],
    *,
    seed: int = 0,
    scales: tuple[float, float] = (0.25, 4.0),
    windings: int = 3,
) -> GroupElement:
    """A random element: uniform permutations and signs, log-uniform scales between `scales`, phase counts to ±`windings`."""
    symmetry = find_symmetry(networks, checkpoint.aliases)
    return from_flat(symmetry, random_flat(symmetry, seed, scales=scales, shifts=windings))


def write_element(element: GroupElement, path: str | Path, *, force: bool = False) -> None:
    """Write `SET/permutation`, `SET/scale`, `SET/sign`, `SET/shift` for every unit set.

    Raises:
        WrongUsage: the file exists and `force` is off.
    """
    from nfn_cli.checkpoint import save

    tensors: dict[str, Array] = {
        f"{name}/{part}": np.asarray(getattr(values, part)) for name, values in element.sets.items() for part in _PARTS
    }
    metadata = {"format": FORMAT, "unit_sets": json.dumps(list(element.sets), ensure_ascii=False)}
    save(Checkpoint(str(path), "safetensors", tensors, metadata), path, force=force)


def read_element(path: str | Path) -> GroupElement:
    """Read a file of `write_element`.

    Raises:
        Refused: not such a file (code "not-an-element").
    """
    from nfn_cli.checkpoint import load

    checkpoint = load(path)
    if checkpoint.metadata.get("format") != FORMAT:
        raise Refused(
            "not a group element", where=str(path), fix="name a file that --element wrote", code="not-an-element"
        )
    try:
        names = json.loads(checkpoint.metadata["unit_sets"])
        sets = {
            name: SetElement(*(np.array(checkpoint.tensors[f"{name}/{part}"]) for part in _PARTS)) for name in names
        }
    except (KeyError, ValueError, TypeError, RecursionError):
        raise Refused("the group element is incomplete", where=printable(path), code="not-an-element") from None
    for name, part in sets.items():
        if not _is_sound(part):
            raise Refused(
                f"what it says of {printable(name)} is no permutation with scales, signs and shifts",
                where=printable(path),
                code="not-an-element",
            )
    return GroupElement(sets)


def _is_sound(part: SetElement) -> bool:
    """Whether the arrays have the shapes and values of `SetElement`; whether they fit a network, `act` says."""
    n = part.permutation.size
    whole = all(array.dtype.kind in "iu" for array in (part.permutation, part.sign, part.shift, part.shift_sign))
    rows = all(array.ndim == 2 and array.shape[1] == n for array in (part.scale, part.sign, part.shift))
    if not whole or not rows or part.scale.dtype.kind != "f" or part.shift_sign.shape != part.shift.shape[:1]:
        return False
    signs = bool(np.all((part.shift_sign >= -1) & (part.shift_sign < max(len(part.sign), 1))))
    scaled = bool(np.all(np.isfinite(part.scale) & (part.scale > 0))) and bool(np.all(np.abs(part.sign) == 1))
    return part.permutation.ndim == 1 and np.array_equal(np.sort(part.permutation), np.arange(n)) and signs and scaled
