"""graph/norm_owners.py: which layer a normalization stands behind, or whose input it is. Knows names and sizes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from nfn_cli.errors import Refused
from nfn_cli.graph.layers import Layer
from nfn_cli.graph.names import stem_and_number, words_of

_INPUT = frozenset({"input", "inp", "obs"})


def with_norms_attached(layers: Sequence[Layer]) -> list[Layer]:
    """The layers with weights, each with the norms behind it, or with the one that its input goes through.

    Raises:
        Refused: a norm whose place names and sizes leave open (code "ambiguous-norm").
    """
    weighted = [layer for layer in layers if layer.kind in ("linear", "conv")]
    norms = [layer for layer in layers if layer.kind not in ("linear", "conv")]
    taken: dict[int, list[Layer]] = {}
    read: dict[int, Layer] = {}
    for norm in norms:
        owner = None if _INPUT & words_of(norm.module) else _owner(norm, weighted)
        reading = [i for i, layer in enumerate(weighted) if layer.size_in == norm.size_out]
        if owner is None and reading and norm.kind.endswith("_norm"):
            read |= dict.fromkeys(reading, norm)
            continue
        if owner is None:
            raise _nowhere(norm)
        if norm.kind == "layer_norm" and weighted[owner].kind == "conv":
            raise Refused(
                "a normalization without running statistics behind a convolution: group norm, under which channels "
                "cannot be exchanged, is not to be excluded",
                where=norm.label,
                code="ambiguous-norm",
            )
        taken.setdefault(owner, []).append(norm)
    return [
        replace(layer, norms=tuple(taken.get(index, ())), reads_norm=read.get(index))
        for index, layer in enumerate(weighted)
    ]


def _owner(norm: Layer, weighted: Sequence[Layer]) -> int | None:
    """The layer a normalization follows: the one before it in a Sequential, or the one of its number, if sizes agree."""
    fitting = [i for i, layer in enumerate(weighted) if layer.size_out == norm.size_out or norm.size_out == 1]
    parent = norm.module[:-1]
    stem, number = stem_and_number(norm.module[-1]) if norm.module else ("", None)
    siblings = [i for i, layer in enumerate(weighted) if layer.module[:-1] == parent]
    if norm.module and norm.module[-1].isdigit():
        before = [i for i in siblings if weighted[i].key < norm.key]
        nearest = max(before, key=lambda i: weighted[i].key, default=None)
        return nearest if nearest in fitting else None
    bare = re.sub(r"_?(bn|batch_?norm|norm|ln)_?", "", norm.module[-1].lower()) if norm.module else ""
    named = [i for i in siblings if i in fitting and weighted[i].module[-1].lower() == bare]
    if len(named) == 1:
        return named[0]
    same = [i for i in siblings if i in fitting and weighted[i].number == number]
    if number is not None and len({weighted[i].module for i in same}) == 1:
        return same[0]
    if number is not None and len(same) > 1:
        conv = [i for i in same if weighted[i].kind == "conv"]
        if len(conv) == 1 and re.search("bn|batch|norm", stem.lower()):
            return conv[0]
    local = [i for i in siblings if i in fitting]
    if len(local) == 1:
        return local[0]
    inside = [i for i in fitting if weighted[i].module[: len(parent)] == parent] if parent else []
    return inside[0] if len(inside) == 1 else (fitting[0] if len(fitting) == 1 else None)


def refuse_norms_inside(starts: Sequence[Layer], layers: Sequence[Layer]) -> None:
    """A norm that follows no layer is one of the input; between two layers it is not understood.

    Raises:
        Refused: no network starts with what reads it (code "ambiguous-norm").
    """
    outside = [layer.reads_norm for layer in starts]
    for layer in layers:
        if layer.reads_norm is not None and layer.reads_norm not in outside:
            raise _nowhere(layer.reads_norm)


def _nowhere(norm: Layer) -> Refused:
    return Refused(
        f"cannot tell which layer this normalization of {norm.size_out} units belongs to",
        where=norm.label,
        code="ambiguous-norm",
    )
