"""graph/from_names.py: networks recovered from tensor names and shapes alone. Reads no file and no value.

What names cannot tell (strides, pooling, where exactly an activation stands) is put in on the safe side: the graph then
has the symmetries that every possible reading has, and a note says what would settle it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt, prod

from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import Refused, WrongUsage
from nfn_cli.graph.activations import ACTIVATIONS
from nfn_cli.graph.foreign import refuse_foreign
from nfn_cli.graph.layers import Layer, find_layers
from nfn_cli.graph.model import Graph, GraphInput, Network, Op
from nfn_cli.graph.names import parse_name, words_of
from nfn_cli.graph.runs import Run
from nfn_cli.graph.told import Told
from nfn_cli.graph.transposed import told_modules, turned_where_transposed
from nfn_cli.graph.wiring import chain, is_part_of, wire
from nfn_cli.printable import printable

_FLOATS = ("float16", "float32", "float64", "bfloat16")
_FILTERS_OF_ONE_CHANNEL = 64  # a grey picture seldom meets more; a depthwise convolution looks the same
_OF_NO_LIBRARY = ("npz", "npy", "pickle", "zoo-row")
_STRAY = frozenset({"log", "std", "sigma", "logstd", "temperature", "averaged"})


@dataclass(frozen=True)
class NameOptions:
    """What the user says about the network.

    Attributes:
        activation: one name, or one for each hidden layer joined by commas.
        layers: weights in order, joined by commas.
        pooling: "none", "average" or "max" between convolutions.
        omega: frequency of sin, cos and their like: one number, one for each hidden layer joined by commas, or a list
            that ends in "..." and goes on with its last number.
        concat: "hidden-first" or "input-first" where an input is concatenated to hidden units.
        arch: "torchvision:NAME", "timm:NAME" or "file.py:factory": the architecture, instead of what names tell.
        trust_code: whether that file may be run.
        residual: "yes" or "no": whether blocks add their input (default: assumed wherever names suggest it).
    """

    activation: str | None = None
    layers: str | None = None
    pooling: str | None = None
    omega: str | None = None
    concat: str | None = None
    residual: str | None = None
    arch: str | None = None
    trust_code: bool = False


def networks_from_names(checkpoint: Checkpoint, options: NameOptions = NameOptions()) -> tuple[Network, ...]:
    """All networks of a checkpoint.

    Raises:
        Refused: not a set of MLP or CNN chains, or not to be told apart without help; the message says what would help.
        WrongUsage: an option has an unknown value.
    """
    _check(options)
    complex_ = next((name for name, array in checkpoint.tensors.items() if array.dtype.kind == "c"), None)
    if complex_ is not None:
        raise Refused(
            "complex weights: the groups known here are those of real units",
            where=printable(complex_),
            code="complex-weights",
        )
    shapes = {
        name: tuple(array.shape)
        for name, array in checkpoint.tensors.items()
        if array.dtype.name in _FLOATS and name not in checkpoint.aliases
    }
    if not shapes:
        raise Refused("no floating-point weights", code="not-a-network")
    refuse_foreign({name: tuple(array.shape) for name, array in checkpoint.tensors.items()})
    torch_layout = checkpoint.container not in _OF_NO_LIBRARY
    hints = checkpoint.hints
    layers, loose = find_layers(shapes, torch_layout, hints.order)
    layers = turned_where_transposed(layers, shapes, told_modules(hints.order, hints.transposed))
    weighted = [layer for layer in layers if layer.kind in ("linear", "conv")]
    if not weighted:
        raise Refused("bare tensors or data, not a network", where=printable(next(iter(shapes))), code="not-a-network")
    order = [name.strip() for name in options.layers.split(",")] if options.layers else []
    networks = chain(layers, order) if order else wire(layers, sums=options.residual != "no")
    notes = _leftover_notes(loose, checkpoint, weighted)
    told = Told(checkpoint.hints, options.activation, options.omega, options.pooling)
    names = _network_names(networks)
    return tuple(
        _Build(checkpoint, options, told, runs).network(name, notes) for name, runs in zip(names, networks, strict=True)
    )


def _check(options: NameOptions) -> None:
    for option, value, allowed in (
        ("--pooling", options.pooling, ("none", "average", "max")),
        ("--concat", options.concat, ("hidden-first", "input-first")),
        ("--residual", options.residual, ("yes", "no")),
    ):
        if value is not None and value not in allowed:
            raise WrongUsage(f"unknown value {printable(value)!r}", where=option, fix=f"one of {', '.join(allowed)}")


def _leftover_notes(loose: list[str], checkpoint: Checkpoint, weighted: Sequence[Layer]) -> tuple[str, ...]:
    """Tensors outside every layer may stay only where they cannot stand between hidden units."""
    sizes = {layer.size_out for layer in weighted} | {layer.size_in for layer in weighted}
    hidden = {a.size_out for a in weighted for b in weighted if a is not b and b.size_in % max(1, a.size_out) == 0}
    notes = []
    for name in loose:
        shape = checkpoint.tensors[name].shape
        stray = bool(words_of((name,)) & _STRAY)
        matrix = sum(size > 1 for size in shape) > 1 and set(shape) & {s for s in sizes if s > 8}
        if not stray and (matrix or set(shape) & (hidden - {0, 1})):
            raise Refused(
                f"a tensor of shape {tuple(shape)} that is part of no layer",
                where=printable(name),
                code="unplaced-tensor",
            )
        notes.append(f"{printable(name)} {tuple(shape)} is part of no layer and stays as it is")
    return tuple(notes)


def _network_names(networks: Sequence[Sequence[Run]]) -> list[str]:
    """The common prefix of a network's layers; where networks share it, that of its first part."""
    if len(networks) == 1:
        return [""]
    whole = [_common([layer.module for run in runs for layer in run.layers]) for runs in networks]
    names = [
        name if name and whole.count(name) == 1 else _common([layer.module for layer in runs[0].layers])
        for name, runs in zip(whole, networks, strict=True)
    ]
    return [name if names.count(name) == 1 else f"{name}#{names[:i].count(name) + 1}" for i, name in enumerate(names)]


def _common(modules: Sequence[tuple[str, ...]]) -> str:
    common = modules[0]
    for module in modules[1:]:
        same = [a == b for a, b in zip(common, module, strict=False)]
        common = common[: same.index(False) if False in same else len(same)]
    return ".".join(common) or modules[0][0]


class _Build:
    """One network's graph, op by op."""

    def __init__(self, checkpoint: Checkpoint, options: NameOptions, told: Told, runs: Sequence[Run]) -> None:
        self.checkpoint, self.options, self.told, self.runs = checkpoint, options, told, runs
        self.ops: list[Op] = []
        self.inputs: list[GraphInput] = []
        self.notes: list[str] = []
        self.functions: list[str] = []
        self.hidden = 0
        self.read = [run.source for run in runs if run.source] + [b for run in runs for b in run.branches]
        self.total = sum(len(run.layers) - (run not in self.read) for run in runs)

    def network(self, name: str, notes: tuple[str, ...]) -> Network:
        ends: dict[int, str] = {}
        outputs: list[str] = []
        for run in self.runs:
            value = self._start(run, ends)
            block_input = value
            for position, layer in enumerate(run.layers):
                last = position == len(run.layers) - 1
                following = None if last else run.layers[position + 1]
                ends_network = last and run not in self.read
                if position:
                    value = self._between(run.layers[position - 1], layer, value)
                bare = f"v{len(self.ops)}"
                value = self._layer(layer, value, None if ends_network else following, ends_network, last)
            if self._residual(run):
                assumed: dict[str, object] = {} if self.options.residual == "yes" else {"assumed": True}
                value = self._op("add", [block_input, value], None, **assumed)
            ends[id(run)] = value
            if run not in self.read or run.kept:
                # an activation may stand between the two: what a norm right behind the layer allows is not claimed
                both = run.kept or any(self._place(run.last, norm, None) != "before" for norm in run.last.norms)
                outputs.extend(dict.fromkeys((bare, value)) if both else (value,))
        shapes = {
            tensor: tuple(self.checkpoint.tensors[tensor].shape) for op in self.ops for tensor in op.parameters.values()
        }
        family = "cnn" if any(op.kind == "conv" for op in self.ops) else "mlp"
        graph = Graph(tuple(self.inputs), tuple(self.ops), tuple(outputs), shapes)
        functions = tuple(dict.fromkeys(self.functions))
        every = (*dict.fromkeys(self.notes), *self.told.notes_on(self.functions), *notes)
        return Network(name, family, graph, functions, self.told.source if functions else "", every)

    def _op(self, kind: str, inputs: list[str], parameters: dict[str, str] | None = None, **attributes: object) -> str:
        output = f"v{len(self.ops)}"
        self.ops.append(Op(kind, tuple(inputs), output, parameters or {}, attributes))
        return output

    def _input(self, shape: tuple[int | None, ...]) -> str:
        name = f"x{len(self.inputs)}"
        self.inputs.append(GraphInput(name, shape))
        return name

    def _start(self, run: Run, ends: dict[int, str]) -> str:
        first = run.first
        if first.reads_norm is not None:
            self.notes.append(f"{first.reads_norm.label} is taken for a norm of the input and stays as it is")
        if run.join == "branches":
            sizes = [branch.last.size_out for branch in run.branches]
            self.notes.append(
                f"branches of {' + '.join(map(str, sizes))} units are joined in an unknown order: kept in place"
            )
            return self._op(
                "opaque",
                [ends[id(branch)] for branch in run.branches],
                shape=(0, first.size_in),
                reason=f"{first.label}: the order of the joined branches is unknown",
            )
        if run.doubtful:
            others = list(dict.fromkeys(other.last.label for other in run.doubtful))
            how = ", or several of them" if len(others) > 1 else " in an order of its own"
            self.notes.append(f"{first.label} may read {' or '.join(others)}{how}: what it may read stays in place")
        if run.source is None:
            if first.kind == "conv" and first.size_in == 1 and first.size_out > _FILTERS_OF_ONE_CHANNEL:
                self.notes.append(
                    f"{first.label} is taken to read an input of one channel: were it grouped, for {first.size_out} "
                    "channels or fewer, its units would have an order"
                )
            spatial: tuple[None, ...] = (None,) * len(first.kernel)
            return self._input((None, first.size_in, *spatial))
        value = ends[id(run.source)]
        if run.join == "direct":
            return self._between(run.source.last, first, value)
        extra = first.size_in - run.source.last.size_out
        further = self._input((None, extra))
        if self.options.concat is None:
            self.notes.append(
                f"{first.label} reads {run.source.last.size_out} units and {extra} inputs in an unknown order: "
                "units kept in place (settle with --concat hidden-first|input-first)"
            )
            return self._op(
                "opaque",
                [value, further],
                shape=(0, first.size_in),
                reason=f"{first.label}: order of the joined inputs",
            )
        parts = [value, further] if self.options.concat == "hidden-first" else [further, value]
        return self._op("concat", parts, axis=1)

    def _between(self, before: Layer, after: Layer, value: str) -> str:
        if before.kind == "conv" and after.kind == "linear":
            return self._flattened(before, after, value)
        if before.kind == "conv" and self.functions and self._signs_matter() and not self._no_room(before, after):
            self.notes.append(
                "max pooling between convolutions cannot be excluded: no sign flips claimed there "
                "(settle with --pooling none|average)"
            )
            return self._op("max_pool", [value], kernel=1, stride=1, assumed=True)
        return value

    def _signs_matter(self) -> bool:
        free = self.ops[-1].kind.endswith("_norm") or ACTIVATIONS[self.functions[-1]].parity == "odd"
        return free and self.told.pooling not in ("none", "average")

    def _no_room(self, before: Layer, after: Layer) -> bool:
        numbered = before.module[:-1] == after.module[:-1] and before.module[-1:] and before.module[-1].isdigit()
        a, b = before.number, after.number
        return bool(numbered and a is not None and b is not None and b - a - len(before.norms) <= 2)

    def _flattened(self, before: Layer, after: Layer, value: str) -> str:
        positions = after.size_in // before.size_out
        by_library = self.checkpoint.container not in _OF_NO_LIBRARY or parse_name(before.label).channels_last
        if positions > 1 and before.size_out > 1 and not by_library:
            why = f"{after.label}: the order in which channels and positions are flattened"
            self.notes.append(f"{why} is not known: the channels of {before.label} stay in place")
            return self._op("opaque", [value], shape=(0, after.size_in), reason=why)
        known = self.told.pooling in ("none", "average")
        rank = len(before.kernel)
        if positions == 1 and known:
            return self._op("spatial_mean", [value])
        root = isqrt(positions)
        size = (root, root) if rank == 2 and root * root == positions else (positions, *(1,) * (rank - 1))
        if rank == 3 and round(positions ** (1 / 3)) ** 3 == positions:
            size = (round(positions ** (1 / 3)),) * 3
        value = self._op("pool", [value], size=size, statistic="average" if known else "unknown")
        order = "channel_inner" if before.out_axis != 0 else "channel_outer"
        assert prod(size) == positions
        return self._op("flatten", [value], order=order)

    def _layer(self, layer: Layer, value: str, following: Layer | None, ends_network: bool, last: bool) -> str:
        attributes: dict[str, object] = {"out_axis": layer.out_axis, "in_axis": layer.in_axis}
        if layer.transposed:
            attributes |= {"transposed": True, "padding": tuple((k - 1) // 2 for k in layer.kernel)}
        elif layer.kind == "conv":
            attributes["padding"] = tuple(k // 2 for k in layer.kernel)
        value = self._op(layer.kind, [value], dict(layer.tensors), **attributes)
        norms = [norm for norm in layer.norms if norm.kind != "slopes"]
        slopes = [norm for norm in layer.norms if norm.kind == "slopes"]
        if ends_network:
            for norm in norms:
                value = self._norm(norm, value)
            return value
        function = self.told.function(self.hidden, self.total)
        omega = self.told.omega(self.hidden, self.total) if ACTIVATIONS[function].frequency else None
        self.hidden += 1
        self.functions.append(function)
        if slopes and function != "prelu":
            raise Refused(
                "learned slopes, but the activation is not prelu", where=slopes[0].label, code="unplaced-tensor"
            )

        open_end = last and self._ends_a_part(layer)

        def activated(value: str) -> str:
            extra: dict[str, object] = {}
            if ACTIVATIONS[function].frequency:
                extra = {"assumed": True} if omega is None else {"omega": omega}
            if open_end:
                extra["assumed"] = True
            parameters = {"weight": slopes[0].tensors["weight"]} if slopes else None
            return self._op("pointwise", [value], parameters, function=function, **extra)

        if open_end and not self._safe_as_identity(function):
            # whether the end of a named part carries the activation is not known: only what holds either way
            value = self._op("pointwise", [value], function="gelu", assumed=True)
            self.notes.append(
                f"whether an activation follows {layer.label} is not known: only permutations claimed there"
            )
        if not norms:
            return activated(value)
        places = {self._place(layer, norm, following) for norm in norms}
        if places != {"before"}:
            value = activated(value)
        for norm in norms:
            value = self._norm(norm, value)
        if places != {"after"}:
            value = activated(value)
        if "unknown" in places:
            self.notes.append("whether normalization stands before or after the activation is not known: both assumed")
        return value

    def _ends_a_part(self, layer: Layer) -> bool:
        """Whether only parts of another name read this layer; an activation may or may not stand between them."""
        (run,) = (run for run in self.runs if run.last is layer)
        readers = [other for other in self.runs if other.source is run or run in other.branches]
        return not any(is_part_of(run, reader) for reader in readers)

    def _safe_as_identity(self, function: str) -> bool:
        """Whether all that is claimed for the function holds for the identity too."""
        entry = ACTIVATIONS[function]
        return not entry.periodic and entry.parity in ("odd", None) and entry.degree in (1, None)

    def _norm(self, norm: Layer, value: str) -> str:
        if norm.kind == "layer_norm" and not {"ln", "layer", "layernorm"} & words_of(norm.module):
            self.notes.append(f"{norm.label} is taken for the weight of a layer norm")
        return self._op(norm.kind, [value], dict(norm.tensors), **self._norm_settings(norm))

    def _norm_settings(self, norm: Layer) -> dict[str, object]:
        if norm.kind != "batch_norm":
            return {"axes": (1,)} if norm.kind == "layer_norm" else {}
        layer, _, role = norm.tensors["running_var"].replace("/", ".").rpartition(".")
        if layer in self.checkpoint.hints.epsilons:
            return {"eps": self.checkpoint.hints.epsilons[layer]}
        if role.startswith("moving_"):  # TensorFlow and its offspring agree on no ε
            self.notes.append(f"{norm.label}: ε is not known, so no scales are claimed before this norm")
            return {"eps_known": False}
        return {}

    def _place(self, layer: Layer, norm: Layer, following: Layer | None) -> str:
        """Sequential indices tell: 0 conv, 1 norm, 2 activation; or 0 conv, 1 activation, 2 norm."""
        a, n = layer.number, norm.number
        same = layer.module[:-1] == norm.module[:-1] and layer.module[-1].isdigit() and norm.module[-1].isdigit()
        if not same or a is None or n is None:
            return "unknown"
        b = following.number if following is not None and following.module[:-1] == layer.module[:-1] else None
        if n > a + 1:
            return "after"
        return "before" if b is None or b > n + 1 else "unknown"

    def _residual(self, run: Run) -> bool:
        """Blocks of two or more equally wide layers in a numbered container may add their input."""
        if self.options.residual == "no" or run.source is None or run.join != "direct":
            return False
        width = run.first.size_in
        nested = len(run.first.module) > 2 and any(part.isdigit() for part in run.first.module[:-1])
        named = bool(words_of(run.first.module) & {"res", "resnet", "block", "blocks", "residual", "skip"})
        square = run.first.kind == "linear" and width == run.last.size_out == run.source.last.size_out
        if square and (self.options.residual == "yes" or named or (nested and len(run.layers) > 1)):
            self.notes.append("blocks may add their input: their units are tied (sound either way)")
            return True
        if named and run.first.kind == "conv":
            raise Refused("residual convolutions need the network's graph", where=run.first.label, code="needs-graph")
        return False
