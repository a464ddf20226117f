"""graph/transposed.py: which convolutions are transposed ones, whose weight lies in × out. Knows layers; reads no value.

A transposed convolution keeps (in, out, kernel) where a convolution keeps (out, in, kernel). What tells them apart is the
length of the bias, of the norm behind it, and the channels of the layers before and after it in the same container.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod

from nfn_cli.errors import Refused
from nfn_cli.graph.layers import Layer, Shape
from nfn_cli.graph.names import stem_and_number, tokens_of, words_of

_WORDS = frozenset({"deconv", "transpose", "transposed", "convtranspose", "convt", "tconv", "upconv", "trans", "up"})


def turned_where_transposed(layers: Sequence[Layer], shapes: Mapping[str, Shape], told: Collection[str]) -> list[Layer]:
    """The layers, transposed convolutions with their two axes the other way round.

    Args:
        layers: as their weights lie, every convolution taken for a plain one.
        shapes: of every tensor.
        told: names of layers that the file says are transposed convolutions.

    Raises:
        Refused: a square convolution among transposed ones, which may be either (code "needs-graph").
    """
    is_transposed: dict[str, bool] = {}
    for layer in layers:
        if layer.kind == "conv":
            found = _by_sizes(layer, prod(shapes[layer.tensors["bias"]]) if "bias" in layer.tensors else None)
            if told:
                found = ".".join(layer.module) in told or found is True
            if found is not None:
                is_transposed[layer.tensors["weight"]] = found
    for family in _families(layers):
        _by_norms(family, is_transposed)
        convolutions = [layer for layer in family if layer.kind == "conv"]
        known = [is_transposed[name] for name in _weights(convolutions) if name in is_transposed]
        if known and all(known):  # beside plain ones, what fits turned round may as well be grouped
            _by_neighbours(convolutions, is_transposed)
        _by_the_rest(convolutions, is_transposed)
    return [_turned(layer) if is_transposed.get(layer.tensors.get("weight", "")) else layer for layer in layers]


def _turned(layer: Layer) -> Layer:
    return replace(
        layer,
        size_in=layer.size_out,
        size_out=layer.size_in,
        out_axis=layer.in_axis,
        in_axis=layer.out_axis,
        transposed=True,
    )


def _by_sizes(layer: Layer, made: int | None) -> bool | None:
    """Whether so many units are made by a transposed convolution; None where they are made by either, or by neither."""
    if layer.size_in == layer.size_out or made not in (layer.size_in, layer.size_out):
        return None
    return made == layer.size_in


def _families(layers: Sequence[Layer]) -> Iterator[list[Layer]]:
    """Layers of one container, or of one stem: "decoder.#", "gen.#.#", "deconv#"."""
    families: dict[tuple[str, ...], list[Layer]] = {}
    for layer in layers:
        masked = tuple("#" if token.isdigit() else token for token in layer.module)
        if masked and masked[-1] != "#":
            masked = (*masked[:-1], stem_and_number(masked[-1])[0])
        families.setdefault(masked, []).append(layer)
    yield from families.values()


def _by_norms(family: Sequence[Layer], is_transposed: dict[str, bool]) -> None:
    """The norm right behind a convolution in the same Sequential is as long as what it makes."""
    for layer, norm in itertools.pairwise(family):
        behind = layer.module[:-1] == norm.module[:-1] and norm.kind.endswith("_norm")
        numbered = layer.number is not None and norm.number == layer.number + 1
        if layer.kind == "conv" and behind and numbered:
            found = _by_sizes(layer, norm.size_out)
            if found is not None:
                is_transposed.setdefault(layer.tensors["weight"], found)


def _weights(family: Sequence[Layer]) -> list[str]:
    return [layer.tensors["weight"] for layer in family]


def _by_neighbours(family: Sequence[Layer], is_transposed: dict[str, bool]) -> None:
    """What the one before makes is read, what the one after reads is made: from the known ones outward."""
    for before, after in [*itertools.pairwise(family), *reversed(list(itertools.pairwise(family)))]:
        first, second = before.tensors["weight"], after.tensors["weight"]
        if first in is_transposed and second not in is_transposed:
            made = before.size_in if is_transposed[first] else before.size_out
            found = _by_sizes(after, made)
            if found is not None:
                is_transposed[second] = not found  # that many are read, not made
        elif second in is_transposed and first not in is_transposed:
            read = after.size_out if is_transposed[second] else after.size_in
            found = _by_sizes(before, read)
            if found is not None:
                is_transposed[first] = found


def _by_the_rest(family: Sequence[Layer], is_transposed: dict[str, bool]) -> None:
    """What is left: all of a family where only that fits, else plain convolutions as long as no other is transposed."""
    names = _weights(family)
    open_ = [layer for layer in family if layer.tensors["weight"] not in is_transposed]
    if not open_:
        return
    known = [is_transposed[name] for name in names if name in is_transposed]
    if not known and len(family) > 1:
        pairs = list(itertools.pairwise(family))
        plain = all(a.size_out == b.size_in for a, b in pairs)
        turned = all(a.size_in == b.size_out for a, b in pairs) and any(a.size_out % b.size_in for a, b in pairs)
        known = [turned and not plain]
    named = all(words_of(layer.module) & _WORDS for layer in family)
    if any(known) and not (all(known) and (named or all(layer.size_in != layer.size_out for layer in open_))):
        raise Refused(
            "a convolution with as many channels in as out, which may be a transposed one as others here are",
            where=open_[0].label,
            fix="export the network with torch.export (.pt2) or to ONNX",
            code="needs-graph",
        )
    is_transposed.update({layer.tensors["weight"]: any(known) for layer in open_})


def told_modules(order: Sequence[str], names: Sequence[str]) -> frozenset[str]:
    """Layers by name as `Layer.module` spells them: by their place in the order of the file where it has one."""
    return frozenset(str(order.index(name)) if name in order else ".".join(tokens_of(name)) for name in names)
