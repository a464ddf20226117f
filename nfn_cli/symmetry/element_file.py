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
        return GroupElement(
            {name: SetElement(*(np.array(checkpoint.tensors[f"{name}/{part}"]) for part in _PARTS)) for name in names}
        )
    except (KeyError, ValueError, TypeError):
        raise Refused("the group element is incomplete", where=str(path), code="not-an-element") from None
