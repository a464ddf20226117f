"""graph/from_keras/calls.py: a Keras configuration as calls of layers in order: who reads whom. JSON only; knows no layer.

Keras 2 lists in `inbound_nodes` for each call of a layer [layer, call, output, arguments]; Keras 3 lists arguments, in which
tensors tell their `keras_history` (engine/functional.py of Keras 2; keras/src/models/functional.py and legacy/saving of 3).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_MODELS = ("Functional", "Model", "Sequential")
_MOST_CALLS, _DEEPEST = 20_000, 8

# a value: which call made it. Numbers are those of `Plan.calls`, "input" and a number for what is fed from outside.
Reference = tuple[str, int]
Shape = tuple[int | None, ...]


class NoGraph(Exception):
    """The configuration does not tell a graph."""


@dataclass(frozen=True)
class Layer:
    """One layer, however often it is called.

    Attributes:
        kind: its class.
        module: where the class is from, "" before Keras 3.
        settings: its own configuration.
        path: its name, behind those of the models that it is nested in.
        saved: the same as Keras 3 archives know it: classes in small letters, counted.
        build: what Keras 3 says of the shapes it was built for.
    """

    kind: str
    module: str
    settings: Mapping[str, Any]
    path: tuple[str, ...]
    saved: tuple[str, ...]
    build: Any = None


@dataclass(frozen=True)
class Call:
    """A layer called on values, and on plain arguments.

    Attributes:
        arguments: where each stands, "before" the first value or "behind" it, or its name; and what it is.
        shape: of what it makes, batch first, where a file of Keras 3 says it.
    """

    layer: Layer
    inputs: tuple[Reference, ...]
    arguments: tuple[tuple[str, Any], ...] = ()
    shape: Shape | None = None


@dataclass
class Plan:
    """Calls in an order in which each stands behind those that it reads.

    Attributes:
        inputs: for each value fed from outside what is said of its shape, batch first; None where nothing is.
    """

    calls: list[Call] = field(default_factory=list)
    inputs: list[Shape | None] = field(default_factory=list)
    outputs: list[Reference] = field(default_factory=list)

    def called(self, call: Call) -> Reference:
        if len(self.calls) >= _MOST_CALLS:
            raise NoGraph
        self.calls.append(call)
        return ("call", len(self.calls) - 1)

    def fed(self, shape: Shape | None) -> Reference:
        self.inputs.append(shape)
        return ("input", len(self.inputs) - 1)


def calls_of(config: Any) -> Plan:
    """Raises NoGraph where the configuration is of no model, of a class of its own, or damaged."""
    plan = Plan()
    try:
        plan.outputs = _model(plan, config, None, (), ())
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError):
        raise NoGraph from None
    return plan


def _model(
    plan: Plan, config: Any, given: Sequence[Reference] | None, path: tuple[str, ...], saved: tuple[str, ...]
) -> list[Reference]:
    """The outputs of a model; `given` is what it is called on, None for the outermost."""
    kind, inner = config["class_name"], config["config"]
    if kind not in _MODELS or len(path) > _DEEPEST:
        raise NoGraph
    entries = inner if isinstance(inner, list) else inner["layers"]
    layers = [_layer(entry, path, name) for entry, name in zip(entries, _saved(entries, saved), strict=True)]
    if kind == "Sequential":
        return [_sequential(plan, entries, layers, given)]
    return _functional(plan, inner, entries, layers, given)


def _layer(entry: Mapping[str, Any], path: tuple[str, ...], saved: tuple[str, ...]) -> Layer:
    settings = entry["config"]
    if not isinstance(settings, dict):
        settings = {"layers": settings}
    name = str(entry.get("name") or settings.get("name", ""))
    module = str(entry.get("module") or "")
    return Layer(str(entry["class_name"]), module, settings, (*path, name), saved, entry.get("build_config"))


def _saved(entries: Sequence[Mapping[str, Any]], saved: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    from nfn_cli.checkpoint.keras_config import saved_names

    for name in saved_names([str(entry["class_name"]) for entry in entries]):
        yield (*saved, name)


def _sequential(
    plan: Plan, entries: Sequence[Any], layers: Sequence[Layer], given: Sequence[Reference] | None
) -> Reference:
    value: Reference | None = None
    if given is not None:
        (value,) = given
    for entry, layer, behind in zip(entries, layers, [*layers[1:], None], strict=True):
        if layer.kind == "InputLayer":
            value = plan.fed(_input_shape(layer)) if value is None else value
            continue
        if value is None:
            value = plan.fed(_input_shape(layer) or _built_for(layer))
        (value,) = _all_called(plan, entry, layer, [value], shape=None if behind is None else _built_for(behind))
    if value is None:
        raise NoGraph
    return value


def _functional(
    plan: Plan,
    inner: Mapping[str, Any],
    entries: Sequence[Mapping[str, Any]],
    layers: Sequence[Layer],
    given: Sequence[Reference] | None,
) -> list[Reference]:
    made: dict[tuple[str, int], list[Reference]] = {}
    told = dict(_told([entry["inbound_nodes"] for entry in entries]))
    ends = [_end(end) for end in _ends(inner["input_layers"])]
    if given is not None and len(given) != len(ends):
        raise NoGraph
    by_name = {layer.path[-1]: layer for layer in layers}
    for number, (name, _, _) in enumerate(ends):
        layer = by_name[name]
        made[name, 0] = [plan.fed(_input_shape(layer)) if given is None else given[number]]
    waiting = [
        (entry, layer, number, node)
        for entry, layer in zip(entries, layers, strict=True)
        for number, node in enumerate(entry["inbound_nodes"])
        if layer.kind != "InputLayer"
    ]
    # a layer that is called several times stands once in the list, and may be called on what stands behind it
    while waiting:
        left = []
        for entry, layer, number, node in waiting:
            tensors, arguments = _read(node)
            if any((name, call) not in made for name, call, _ in tensors):
                left.append((entry, layer, number, node))
                continue
            inputs = [made[name, call][output] for name, call, output in tensors]
            name = layer.path[-1]
            made[name, number] = _all_called(plan, entry, layer, inputs, arguments, told.get((name, number, 0)))
        if len(left) == len(waiting):
            raise NoGraph
        waiting = left
    return [made[name, call][output] for name, call, output in map(_end, _ends(inner["output_layers"]))]


def _all_called(
    plan: Plan,
    entry: Any,
    layer: Layer,
    inputs: Sequence[Reference],
    arguments: tuple[tuple[str, Any], ...] = (),
    shape: Shape | None = None,
) -> list[Reference]:
    if layer.kind in _MODELS and is_of_keras(layer):
        return _model(plan, entry, inputs, layer.path, layer.saved)
    return [plan.called(Call(layer, tuple(inputs), arguments, shape))]


def _told(value: Any, depth: int = 0) -> Iterator[tuple[tuple[str, int, int], Shape]]:
    """Shapes of values as those who read them tell them, in files of Keras 3."""
    if depth > 2 * _DEEPEST:
        return
    if isinstance(value, dict) and "keras_history" in value:
        shape = _shape(value.get("shape"))
        if shape is not None:
            yield _end(value["keras_history"]), shape
    elif isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _told(inner, depth + 1)


def _ends(ends: Any) -> list[Any]:
    """Keras 2 and 3 list several inputs or outputs, Keras 3 names a single one without a list of it."""
    return [ends] if ends and isinstance(ends[0], str) else list(ends)


def _end(end: Any) -> tuple[str, int, int]:
    name, call, output = end
    if not isinstance(name, str) or type(call) is not int or type(output) is not int:
        raise NoGraph
    return name, call, output


def _read(node: Any) -> tuple[list[tuple[str, int, int]], tuple[tuple[str, Any], ...]]:
    """Tensors and plain arguments of one call; arguments that say nothing about the answer are none."""
    tensors: list[tuple[str, int, int]] = []
    arguments: list[tuple[str, Any]] = []
    if isinstance(node, dict):  # Keras 3
        _arguments(node["args"], "", tensors, arguments)
        for name, value in node.get("kwargs", {}).items():
            _arguments([value], name, tensors, arguments)
    else:
        for part in [node] if node and isinstance(node[0], str) else node:
            tensors.append(_end(part[:3]))
            for name, value in (part[3] if len(part) > 3 else {}).items():
                if isinstance(value, list) and len(value) >= 3 and isinstance(value[0], str) and name != "name":
                    tensors.append(_end(value[:3]))
                else:
                    arguments.append((name, value))
    return tensors, tuple((name, value) for name, value in arguments if not _says_nothing(name, value))


def _says_nothing(name: str, value: Any) -> bool:
    return name == "name" or (name in ("training", "mask") and not value)


def _arguments(
    values: Any, name: str, tensors: list[tuple[str, int, int]], found: list[tuple[str, Any]], depth: int = 0
) -> None:
    if depth > _DEEPEST:
        raise NoGraph
    for value in values:
        if isinstance(value, dict) and "keras_history" in value.get("config", {}):
            tensors.append(_end(value["config"]["keras_history"]))
        elif isinstance(value, list):
            _arguments(value, name, tensors, found, depth + 1)
        else:
            found.append((name or ("behind" if tensors else "before"), value))


def is_of_keras(layer: Layer) -> bool:
    """Whether a class is Keras' own, as far as the file tells: a class of somebody else may have any name."""
    return layer.module in ("", "keras") or layer.module.startswith("keras.")


def _input_shape(layer: Layer) -> Shape | None:
    said = layer.settings.get("batch_shape") or layer.settings.get("batch_input_shape")
    return _shape(said)


def _built_for(layer: Layer) -> Shape | None:
    return _shape(layer.build.get("input_shape")) if isinstance(layer.build, dict) else None


def _shape(said: Any) -> Shape | None:
    if not isinstance(said, list) or not 2 <= len(said) <= 5:
        return None
    if not all(size is None or (type(size) is int and 0 < size < 1 << 20) for size in said):
        return None
    return (None, *said[1:])
