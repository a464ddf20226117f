"""graph/layers.py: tensors grouped into layers: which weight has which bias, and which way round a weight lies."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from nfn_cli.errors import Refused
from nfn_cli.graph.names import NaturalKey, TensorName, natural_key, parse_name, stem_and_number, tokens_of
from nfn_cli.printable import printable

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """A linear layer, a convolution, or a normalization.

    Attributes:
        module: tokens of its name.
        kind: "linear", "conv", "batch_norm", "layer_norm" or "slopes" (of a prelu).
        tensors: role -> tensor name.
        size_in, size_out: units read and made (equal for a normalization).
        out_axis, in_axis: axes of the weight.
        kernel: kernel shape of a convolution.
        norms: what stands behind it, before or after the activation.
        transposed: whether it is a transposed convolution.
        reads_norm: the norm that its input goes through, where that follows no layer.
    """

    module: tuple[str, ...]
    kind: str
    tensors: Mapping[str, str]
    size_in: int
    size_out: int
    out_axis: int = 0
    in_axis: int = 1
    kernel: Shape = ()
    norms: tuple[Layer, ...] = field(default=())
    transposed: bool = False
    reads_norm: Layer | None = None

    @property
    def key(self) -> NaturalKey:
        return natural_key(self.module)

    @property
    def number(self) -> int | None:
        return stem_and_number(self.module[-1])[1] if self.module else None

    @property
    def label(self) -> str:
        return printable(self.tensors["weight"] if "weight" in self.tensors else next(iter(self.tensors.values())))


def find_layers(
    shapes: Mapping[str, Shape], torch_layout: bool, order: Sequence[str] = ()
) -> tuple[list[Layer], list[str]]:
    """Layers in natural order of their names, and the tensors that belong to none.

    Args:
        shapes: tensor name -> shape; only floating tensors.
        torch_layout: whether the container's convention is out × in where nothing else tells.
        order: names of layers in the order in which the file says that they follow one another; they count as numbered.

    Raises:
        Refused: the orientation of the weights cannot be told (code "layout-ambiguous").
    """
    modules: dict[tuple[str, ...], dict[str, TensorName]] = {}
    loose: list[str] = []
    positional: list[TensorName] = []
    numbers = {tokens_of(layer): (str(number),) for number, layer in enumerate(order)}
    for name, shape in shapes.items():
        parsed = parse_name(name)
        parsed = replace(parsed, module=numbers.get(parsed.module, parsed.module))
        if parsed.role == "counter":
            continue
        if parsed.role == "positional":
            positional.append(parsed)
        elif parsed.role and parsed.role not in modules.get(parsed.module, {}):
            modules.setdefault(parsed.module, {})[parsed.role] = parsed
        elif len(shape) > 0:
            loose.append(name)
    modules |= _paired(positional, shapes)
    layers: list[Layer] = []
    weights: list[tuple[tuple[str, ...], dict[str, TensorName]]] = []
    for module, roles in modules.items():
        if "weight" in roles and len(shapes[roles["weight"].full]) >= 2:
            weights.append((module, roles))
        else:
            made = _norm(module, {role: parsed.full for role, parsed in roles.items()}, shapes)
            if made is None:
                loose.extend(parsed.full for parsed in roles.values() if shapes[parsed.full])
            else:
                layers.append(made)
    by_hand = not torch_layout and not any(roles["weight"].channels_last for _, roles in weights)
    filters = [w for w in weights if by_hand and len(shapes[w[1]["weight"].full]) > 2]
    transposed = _orientation([w for w in weights if w not in filters], shapes, torch_layout)
    for module, roles in weights:
        turned = _filters_last(roles, shapes) if (module, roles) in filters else transposed
        layers.append(_weighted(module, roles, shapes, turned))
        extra = set(roles) - {"weight", "bias"}
        if extra:
            loose.extend(roles[role].full for role in extra)
    return sorted(layers, key=lambda layer: layer.key), loose


def _paired(
    positional: Sequence[TensorName], shapes: Mapping[str, Shape]
) -> dict[tuple[str, ...], dict[str, TensorName]]:
    """Numbered tensors: W, b, W, b, … or all weights before all biases."""
    found: dict[tuple[str, ...], dict[str, TensorName]] = {}
    groups: dict[tuple[str, ...], list[TensorName]] = {}
    for parsed in positional:
        groups.setdefault(parsed.module, []).append(parsed)
    for module, members in groups.items():
        members.sort(key=lambda parsed: natural_key((parsed.full,)))
        biases = [parsed for parsed in members if len(shapes[parsed.full]) == 1] or _flat_biases(members, shapes)
        weights = [parsed for parsed in members if len(shapes[parsed.full]) >= 2 and parsed not in biases]
        adjacent = {a.full: b for a, b in itertools.pairwise(members) if a in weights and b in biases}
        for position, weight in enumerate(weights):
            roles = {"weight": weight}
            if len(adjacent) == len(biases):
                if weight.full in adjacent:
                    roles["bias"] = adjacent[weight.full]
            elif len(biases) == len(weights):
                roles["bias"] = biases[position]
            elif biases:
                raise Refused(
                    "cannot tell which numbered vectors are the biases",
                    where=printable(weight.full),
                    fix="name the tensors layer by layer",
                    code="ambiguous-names",
                )
            found[(*module, str(position))] = roles
        if not weights:
            for parsed in members:
                found[(*module, parsed.full)] = {"": parsed}
    return found


def _flat_biases(members: Sequence[TensorName], shapes: Mapping[str, Shape]) -> list[TensorName]:
    """Rows or columns that stand for biases: every second tensor, or the second half, each as long as its weight is."""
    for weights, biases in (
        (members[0::2], members[1::2]),
        (members[: len(members) // 2], members[len(members) // 2 :]),
    ):
        pairs = [(shapes[w.full], shapes[b.full]) for w, b in zip(weights, biases, strict=False)]
        if len(weights) == len(biases) and all(max(b) == prod(b) and prod(b) in w for w, b in pairs):
            return list(biases)
    return []


def _norm(module: tuple[str, ...], roles: dict[str, str], shapes: Mapping[str, Shape]) -> Layer | None:
    """A normalization or the slopes of a prelu, from vectors alone."""
    vectors = {role: shapes[name] for role, name in roles.items()}
    if not vectors or any(sum(size > 1 for size in shape) > 1 for shape in vectors.values()):
        return None
    size = max((max(shape, default=1) for shape in vectors.values()), default=1)
    named = {{"norm_weight": "weight", "norm_bias": "bias"}.get(role, role): name for role, name in roles.items()}
    if {"running_mean", "running_var"} <= set(named):
        return Layer(module, "batch_norm", named, size, size)
    words = "".join(module).lower()
    if (
        "weight" in named
        and "bias" in named
        and ("norm" in words or re.search(r"ln\d*$", words) or "norm_weight" in roles)
    ):
        return Layer(module, "layer_norm", named, size, size)
    if set(named) == {"weight"} and ("prelu" in words or "act" in words or (module[-1:] and module[-1].isdigit())):
        return Layer(module, "slopes", named, size, size)
    if set(named) == {"weight", "bias"} and module and module[-1].isdigit():
        return Layer(module, "layer_norm", named, size, size)
    return None


def _orientation(
    weights: Sequence[tuple[tuple[str, ...], dict[str, TensorName]]], shapes: Mapping[str, Shape], torch_layout: bool
) -> bool:
    """Whether weights lie in × out (kernel positions first), decided once for the whole file."""
    votes = {False: "", True: ""}
    for _, roles in weights:
        name, shape = roles["weight"].full, shapes[roles["weight"].full]
        if roles["weight"].channels_last:
            votes[True] = name
        elif "bias" in roles:
            size = prod(shapes[roles["bias"].full])
            if shape[0] == size != shape[-1]:
                votes[False] = name
            elif shape[-1] == size != shape[0] and len(shape) == 2:
                votes[True] = name
    if votes[False] and votes[True]:
        raise Refused(
            f"the weight lies out × in, but {printable(votes[True])} lies in × out",
            where=printable(votes[False]),
            code="layout-ambiguous",
        )
    if votes[False] or votes[True]:
        return bool(votes[True])
    ordered = [shapes[roles["weight"].full] for _, roles in sorted(weights, key=lambda w: natural_key(w[0]))]
    if torch_layout or len(ordered) < 2 or any(len(shape) != 2 for shape in ordered):
        return False
    as_torch = all(a[0] == b[1] for a, b in itertools.pairwise(ordered))
    as_numpy = all(a[1] == b[0] for a, b in itertools.pairwise(ordered))
    if as_torch and as_numpy:
        raise Refused(
            "cannot tell whether weights lie out × in or in × out",
            where=printable(weights[0][1]["weight"].full),
            fix="name them kernel (in × out) or save them as a torch state dict",
            code="layout-ambiguous",
        )
    return as_numpy


def _filters_last(roles: dict[str, TensorName], shapes: Mapping[str, Shape]) -> bool:
    """Whether a convolution of somebody's own program keeps (kernel, in, out), not (out, in, kernel).

    Raises:
        Refused: neither a square kernel nor the bias tells (code "layout-ambiguous").
    """
    shape = shapes[roles["weight"].full]
    made = prod(shapes[roles["bias"].full]) if "bias" in roles else None
    fits = {False: made in (None, shape[0]), True: made in (None, shape[-1])}
    if len(shape) > 3:
        fits[False] &= len(set(shape[2:])) == 1
        fits[True] &= len(set(shape[:-2])) == 1
    if fits[True] == fits[False]:
        raise Refused(
            "cannot tell whether the filters lie (out, in, kernel) or (kernel, in, out)",
            where=printable(roles["weight"].full),
            fix="name them kernel (in × out, as Keras does) or save them as a torch state dict",
            code="layout-ambiguous",
        )
    return fits[True]


def _weighted(
    module: tuple[str, ...], roles: dict[str, TensorName], shapes: Mapping[str, Shape], transposed: bool
) -> Layer:
    name = roles["weight"].full
    shape = shapes[name]
    rank = len(shape)
    kind = "linear" if rank == 2 else "conv"
    if rank > 5:
        raise Refused(f"a weight with {rank} axes", where=printable(name), code="not-a-network")
    out_axis, in_axis = (rank - 1, rank - 2) if transposed else (0, 1)
    tensors = {"weight": name}
    if "bias" in roles:
        size = prod(shapes[roles["bias"].full])
        if size == shape[out_axis] or (kind == "conv" and size == shape[in_axis]):  # the latter where transposed
            pass
        else:
            raise Refused(
                f"has {size} entries, its weight {printable(name)} makes {shape[out_axis]}",
                where=printable(roles["bias"].full),
                code="shape-mismatch",
            )
        tensors["bias"] = roles["bias"].full
    kernel = tuple(size for axis, size in enumerate(shape) if axis not in (out_axis, in_axis))
    return Layer(module, kind, tensors, shape[in_axis], shape[out_axis], out_axis, in_axis, kernel)
