"""predictors/takes.py: which networks a predictor was trained for. Knows graphs and chains; no weights, no torch.

A predictor takes chains of given shapes, classifiers with given inputs and outputs, or both. What it does not take it
refuses with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from nfn_cli.errors import Refused
from nfn_cli.graph.graph_file import graph_from_json, graph_to_json
from nfn_cli.graph.model import Graph, Op
from nfn_cli.predictors.chain_input import ChainWeights, chain_of

Array = np.ndarray[Any, np.dtype[Any]]
Tensors = Mapping[str, Array]


@dataclass(frozen=True)
class Chain:
    """Chains of one shape and activation.

    Attributes:
        activation: after every layer but the last.
        widths: units per axis, input first.
        kernels: kernel shape per layer; () is a linear layer.
        graph: the training networks' own graph, for a predictor that runs networks: a file of weights alone does not
            tell strides and paddings, so a chain of exactly this shape is run as the training networks were. Its
            tensors are named as the graph names them, in torch layout.
    """

    activation: str
    widths: tuple[int, ...]
    kernels: tuple[tuple[int, ...], ...]
    graph: Graph | None = None

    def mismatch(self, chain: ChainWeights) -> str | None:
        """Why this chain is another one, in one sentence without a full stop; None if it is not."""
        shapes = tuple(weight.shape for weight in chain.weights)
        if len(shapes) != len(self.kernels):
            return f"it has {len(shapes)} layers, not {len(self.kernels)} ({self})"
        for number, shape in enumerate(shapes, start=1):
            want = (self.widths[number], self.widths[number - 1], *self.kernels[number - 1])
            if tuple(shape) != want:
                return f"layer {number} has shape {tuple(shape)}, not {want} (out, in, kernel)"
        others = sorted(set(chain.activations) - {self.activation})
        if others:
            return f"the activation is {', '.join(others)}, not {self.activation}"
        if chain.pooling_between:
            return f"it pools between layers ({', '.join(chain.pooling_between)}), which no training network did"
        return None

    def __str__(self) -> str:
        layers = []
        for i, kernel in enumerate(self.kernels):
            kind = f"convolution {'x'.join(map(str, kernel))}" if kernel else "linear"
            layers.append(f"{kind} {self.widths[i]}-{self.widths[i + 1]}")
        return f"{', '.join(layers)}; activation {self.activation}"


@dataclass(frozen=True)
class Classifier:
    """Any network that the graph core reads, from inputs of one shape to so many outputs.

    Attributes:
        input_shape: without the batch axis, (channels, height, width); None where any size is taken.
        outputs: number of classes.
        seen: kinds of networks it was trained on, in words.
    """

    input_shape: tuple[int | None, ...]
    outputs: int
    seen: str

    @property
    def known_shape(self) -> tuple[int, ...]:
        """The shape, of a predictor that feeds networks and therefore knows it in full."""
        assert None not in self.input_shape
        return tuple(size for size in self.input_shape if size is not None)

    def mismatch(self, graph: Graph) -> str | None:
        """Why this graph is no such classifier; None if it is one as far as shapes tell."""
        if len(graph.inputs) != 1 or len(graph.outputs) != 1:
            return f"it has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs, not one of each"
        given = graph.inputs[0].shape[1:]
        fits = len(given) == len(self.input_shape) and all(
            free is None or want is None or free == want for free, want in zip(given, self.input_shape, strict=True)
        )
        if given and not fits:
            return f"its input is {_sizes(given)}, not {_sizes(self.input_shape)}"
        width = output_width(graph)
        if width is not None and width != self.outputs:
            return f"it has {width} outputs, not {self.outputs}"
        return None

    def __str__(self) -> str:
        return f"any classifier of {_sizes(self.input_shape)} inputs into {self.outputs} classes ({self.seen})"


@dataclass(frozen=True)
class Takes:
    """What a predictor takes."""

    chains: tuple[Chain, ...] = ()
    classifiers: tuple[Classifier, ...] = ()

    def __str__(self) -> str:
        chains = [f"{'weights alone of ' if self.classifiers else ''}{chain}" for chain in self.chains]
        return "; or ".join([*map(str, self.classifiers), *chains])

    @property
    def inputs_known(self) -> bool:
        """Whether the shape of the inputs is part of it. Where it is not, networks for other data are taken too, so that
        such a predictor is asked only by those who name it.
        """
        return all(None not in classifier.input_shape for classifier in self.classifiers)

    def to_json(self) -> dict[str, Any]:
        """Plain values; `takes_from_json` gives them back."""
        return {
            "chains": [
                {
                    "activation": chain.activation,
                    "widths": list(chain.widths),
                    "kernels": [list(kernel) for kernel in chain.kernels],
                    "graph": None if chain.graph is None else graph_to_json(chain.graph),
                }
                for chain in self.chains
            ],
            "classifiers": [
                {"input_shape": list(c.input_shape), "outputs": c.outputs, "seen": c.seen} for c in self.classifiers
            ],
        }

    def accepted_chain(self, graph: Graph, tensors: Tensors) -> tuple[Chain, ChainWeights]:
        """The chain form that takes this network, and its weights.

        Raises:
            Refused: none does.
        """
        weights = chain_of(graph, tensors)
        reasons = [chain.mismatch(weights) for chain in self.chains]
        for chain, reason in zip(self.chains, reasons, strict=True):
            if reason is None:
                return chain, weights
        alike = [r for r, c in zip(reasons, self.chains, strict=True) if {c.activation} >= set(weights.activations)]
        raise mismatch(str([*alike, *reasons, "no chain was among the training networks"][0]))

    def completed(self, graph: Graph, tensors: Tensors) -> tuple[Graph, dict[str, Array]]:
        """Weights alone with the graph of the training networks of their shape.

        Raises:
            Refused: there were none, or the graph tells that it is run otherwise.
        """
        chain, weights = self.accepted_chain(graph, tensors)
        reason = contradicts(chain, graph)
        if reason is not None:
            raise mismatch(reason)
        return as_trained(chain, weights)


def takes_from_json(values: Mapping[str, Any]) -> Takes:
    """Raises KeyError, TypeError or ValueError where `values` are not what `Takes.to_json` gives."""
    return Takes(
        tuple(
            Chain(
                str(chain["activation"]),
                tuple(chain["widths"]),
                tuple(tuple(kernel) for kernel in chain["kernels"]),
                None if chain["graph"] is None else graph_from_json(chain["graph"]),
            )
            for chain in values["chains"]
        ),
        tuple(Classifier(tuple(c["input_shape"]), int(c["outputs"]), str(c["seen"])) for c in values["classifiers"]),
    )


def mismatch(reason: str) -> Refused:
    """The refusal of a network that a predictor was not trained for."""
    return Refused(reason, fix="use a predictor trained on such networks", code="predictor-mismatch")


def in_torch_layout(graph: Graph) -> Graph:
    """The same chain for tensors in torch layout: (out, in, *kernel), after a flatten channel outer."""
    shapes = dict(graph.parameter_shapes)
    ops = []
    for op in graph.ops:
        if op.kind in ("linear", "conv"):
            axes = (op.attributes.get("out_axis", 0), op.attributes.get("in_axis", 1))
            shape = shapes[op.parameters["weight"]]
            kernel = tuple(size for axis, size in enumerate(shape) if axis not in axes)
            shapes[op.parameters["weight"]] = (shape[axes[0]], shape[axes[1]], *kernel)
            op = replace(op, attributes={**op.attributes, "out_axis": 0, "in_axis": 1})
        elif "order" in op.attributes:
            op = replace(op, attributes={**op.attributes, "order": "channel_outer"})
        ops.append(op)
    return replace(graph, ops=tuple(ops), parameter_shapes=shapes)


def as_trained(chain: Chain, weights: ChainWeights) -> tuple[Graph, dict[str, Array]]:
    """A chain under the graph of the training networks of the same shape, its tensors named as that graph names them.

    Raises:
        Refused: it has a bias where the training networks had none.
    """
    assert chain.graph is not None
    tensors: dict[str, Array] = {}
    layers = [op for op in chain.graph.ops if op.kind in ("linear", "conv")]
    for number, (op, weight, bias) in enumerate(zip(layers, weights.weights, weights.biases, strict=True), start=1):
        tensors[op.parameters["weight"]] = weight
        if "bias" in op.parameters:
            tensors[op.parameters["bias"]] = bias
        elif np.any(bias):
            raise mismatch(f"layer {number} has a bias, which no training network had")
    return chain.graph, tensors


# What a graph may tell of an op that a file of weights alone does not, with the defaults.
_TOLD: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "conv": {"stride": 1, "padding": 0, "dilation": 1},
        "pointwise": {"slope": 0.01, "omega": 1.0},
    }
)


def contradicts(chain: Chain, graph: Graph) -> str | None:
    """Where a graph tells strides, paddings, dilations, slopes or frequencies that the training networks did not have."""
    assert chain.graph is not None
    for kind, told in _TOLD.items():
        pairs = zip(_ops(chain.graph, kind), _ops(graph, kind), strict=False)
        for number, (trained, given) in enumerate(pairs, start=1):
            for name, default in told.items():
                here, there = _flat(given, name, default), _flat(trained, name, default)
                if name in given.attributes and here != there:
                    return f"{_WORDS[kind]} {number} has {name} {here}, not {there}"
    return None


def without_final_softmax(graph: Graph) -> Graph:
    """The graph up to its logits: a softmax at the very end is left out."""
    last = next((op for op in graph.ops if op.output == graph.outputs[0]), None)
    if last is None or last.kind != "softmax":
        return graph
    return replace(graph, ops=tuple(op for op in graph.ops if op is not last), outputs=(last.inputs[0],))


_WORDS = {"conv": "convolution", "pointwise": "activation"}


def _ops(graph: Graph, kind: str) -> list[Op]:
    """In order; what does nothing is left out, as a chain leaves it out."""
    return [op for op in graph.ops if op.kind == kind and op.attributes.get("function") != "identity"]


def _flat(op: Op, name: str, default: Any) -> Any:
    """An attribute as one number where all axes agree."""
    value = op.attributes.get(name, default)
    numbers = set(np.asarray(value).reshape(-1).tolist())
    return numbers.pop() if len(numbers) == 1 else value


def _sizes(shape: tuple[int | None, ...]) -> str:
    return " × ".join("any" if size is None else str(size) for size in shape)


def output_width(graph: Graph) -> int | None:
    """Outputs of the last layer, where the graph ends in one; None where it ends otherwise."""
    value = without_final_softmax(graph).outputs[0]
    last = next((op for op in graph.ops if op.output == value), None)
    if last is None or last.kind not in ("linear", "conv"):
        return None
    shape = graph.parameter_shapes[last.parameters["weight"]]
    return int(shape[last.attributes.get("out_axis", 0)])
