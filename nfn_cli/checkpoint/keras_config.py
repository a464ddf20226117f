"""checkpoint/keras_config.py: what the configuration of a Keras model says: its layers in order, activations, pooling. JSON only.

Keras 2 keeps it in the HDF5 file (attribute model_config), Keras 3 in config.json of a .keras archive. A model that is
no chain of layers, or has layers not known here, is refused: names of tensors alone would make a wrong chain of it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nfn_cli.checkpoint.model import Hints
from nfn_cli.errors import Refused
from nfn_cli.printable import printable

_TURNED = frozenset(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"))
_WEIGHTED = _TURNED | {"Dense", "Conv1D", "Conv2D", "Conv3D", "DepthwiseConv2D", "SeparableConv2D", "Convolution2D"}
_POOLING = {"Max": "max", "Average": "average"}
_NORMS = ("BatchNormalization", "LayerNormalization")
# layers that do nothing once training is over
IN_TRAINING_ONLY = r"(Spatial|Gaussian|Alpha)?Dropout([123]D)?|GaussianNoise|ActivityRegularization|Masking"
# layers that change no unit on its own in evaluation
_NEUTRAL = re.compile(
    rf"InputLayer|{IN_TRAINING_ONLY}|Flatten|Reshape|"
    r"(Global)?(Max|Average)Pool(ing)?[123]D|ZeroPadding[123]D|Cropping[123]D|UpSampling[123]D|Rescaling"
)
# layers that only prepare the input, whatever they make of it; behind a layer with weights they would not be known
PREPARING = r"Lambda|(TF|Slicing)OpLambda|Resizing|CenterCrop|Normalization"
_AHEAD = re.compile(rf"{PREPARING}|Random\w+|Permute|ExpandDims")
_DEEPEST = 8  # models within models
_RECURRENT = re.compile(r"(CuDNN)?(LSTM|GRU)|SimpleRNN|RNN|Bidirectional|ConvLSTM\dD")


@dataclass(frozen=True)
class KerasLayer:
    """A layer of a configuration.

    Attributes:
        kind: its class.
        name: by which the model knows it.
        saved: by which a Keras 3 archive knows it: its class in small letters, counted.
        settings: its own configuration.
    """

    kind: str
    name: str
    saved: str
    settings: Mapping[str, Any]

    @property
    def transposed(self) -> bool:
        """Whether it is a transposed convolution."""
        return self.kind in _TURNED

    @property
    def epsilon(self) -> float | None:
        """What a batch norm adds to the variance."""
        said = self.settings.get("epsilon") if self.kind == "BatchNormalization" else None
        return float(said) if isinstance(said, (int, float)) and 0 <= said < 1 else None


def layers_of(config: Any) -> tuple[KerasLayer, ...]:
    """The layers of a model in order.

    Raises:
        Refused: recurrent ("recurrent"), with branches ("needs-graph"), with layers of unknown kinds ("unknown-layer"), or
            no configuration of a model ("bad-header").
    """
    inner = config.get("config") if isinstance(config, dict) else None
    entries = inner.get("layers") if isinstance(inner, dict) else inner  # Keras before 2.2.3 has the list itself
    if isinstance(inner, dict) and entries is None and isinstance(config.get("class_name"), str):
        raise Refused(
            f"a Keras model of the class {printable(config['class_name'], 60)}, which the file does not take apart",
            fix="export the model to ONNX",
            code="needs-graph",
        )
    if not isinstance(entries, list) or not all(_is_layer(entry) for entry in entries):
        raise Refused("the configuration of the Keras model is damaged", code="bad-header")
    layers = []
    for entry, saved in zip(entries, saved_names([entry["class_name"] for entry in entries]), strict=True):
        settings = entry["config"]
        layers.append(
            KerasLayer(entry["class_name"], str(settings.get("name", entry.get("name", ""))), saved, settings)
        )
    first = next((position for position, layer in enumerate(layers) if layer.kind in _WEIGHTED), 0)
    for position, layer in enumerate(layers):
        if position >= first or not _AHEAD.fullmatch(layer.kind):
            _refuse_unknown(layer)
    _refuse_branches(entries, [layer.name for layer in layers])
    return tuple(layers)


def saved_names(kinds: Sequence[str]) -> list[str]:
    """By which names a Keras 3 archive knows layers of these classes, in their order."""
    counts: Counter[str] = Counter()
    names = []
    for kind in kinds:
        small = _small(kind)
        names.append(f"{small}_{counts[small]}" if counts[small] else small)
        counts[small] += 1
    return names


def variables_left_out(config: Any, saved: tuple[str, ...] = ()) -> dict[str, frozenset[str]]:
    """Layers of a Keras 3 archive by their names, nested models' first, and which variables their settings leave out."""
    inner = config.get("config") if isinstance(config, dict) else None
    entries = inner.get("layers") if isinstance(inner, dict) else None
    if not isinstance(entries, list) or not all(_is_layer(entry) for entry in entries) or len(saved) > _DEEPEST:
        return {}
    found: dict[str, frozenset[str]] = {}
    for entry, name in zip(entries, saved_names([entry["class_name"] for entry in entries]), strict=True):
        said = entry["config"]
        out = {role for setting, role in (("scale", "gamma"), ("center", "beta")) if said.get(setting) is False}
        if out:
            found["/".join((*saved, name))] = frozenset(out)
        found |= variables_left_out(entry, (*saved, name))
    return found


def hints_of(layers: tuple[KerasLayer, ...]) -> Hints:
    """Activations of the hidden layers in order, and the pooling between them."""
    activations: list[str] = []
    pooling: set[str] = set()
    for layer in layers:
        if layer.kind in _WEIGHTED:
            activations.append("linear")
        pooling |= {word for kind, word in _POOLING.items() if re.match(rf"(Global)?{kind}Pool", layer.kind)}
        said = _activation(layer)
        if said != "linear" and activations:
            # two functions one after another are neither of them
            activations[-1] = said if activations[-1] == "linear" else f"{activations[-1]} and {said}"
    hidden = activations[:-1]
    stated = hidden[0] if len(set(hidden)) == 1 else ",".join(hidden)
    if any(" and " in name for name in hidden) or not hidden:
        stated = ""
    pools = "max" if "max" in pooling else "average" if pooling else "none"
    return Hints(activation=stated or None, pooling=pools, source="the Keras configuration")


def _activation(layer: KerasLayer) -> str:
    settings = layer.settings
    if layer.kind == "ReLU":
        limits = (settings.get("max_value"), settings.get("negative_slope") or 0.0, settings.get("threshold") or 0.0)
        known = {(None, 0.0, 0.0): "relu", (6.0, 0.0, 0.0): "relu6"}
        return known.get(limits) or ("leaky_relu" if limits[0] is None and limits[2] == 0.0 else "bounded relu")
    if layer.kind in ("LeakyReLU", "ELU", "PReLU", "Softmax"):
        return {"LeakyReLU": "leaky_relu"}.get(layer.kind, layer.kind.lower())
    said = settings.get("activation")
    if isinstance(said, dict):  # Keras 3 writes functions of its own as {"class_name": "function", "config": name}
        said = said.get("config") if isinstance(said.get("config"), str) else said.get("class_name")
    return str(said) if said is not None and layer.kind in (*_WEIGHTED, "Activation") else "linear"


def _refuse_unknown(layer: KerasLayer) -> None:
    if _RECURRENT.fullmatch(layer.kind):
        raise Refused(
            "a recurrent network, which is not analysed",
            where=printable(layer.name),
            fix="export the model to ONNX: what is recurrent is then frozen and the rest analysed",
            code="recurrent",
        )
    known = layer.kind in (*_WEIGHTED, *_NORMS, "Activation", "ReLU", "LeakyReLU", "ELU", "PReLU", "Softmax")
    channels_first = layer.settings.get("data_format") == "channels_first"
    if not known and not _NEUTRAL.fullmatch(layer.kind):
        raise Refused(
            f"a Keras layer of class {printable(layer.kind, 60)}, whose function is not known",
            where=printable(layer.name),
            fix="export the model to ONNX",
            code="unknown-layer",
        )
    if channels_first and layer.kind in _WEIGHTED:
        raise Refused("a Keras layer with channels first", where=printable(layer.name), code="unknown-layer")


def _refuse_branches(entries: list[Any], names: list[str]) -> None:
    """Each layer of a functional model must read what the one before it gives, and nothing else."""
    for entry, before in zip(entries[1:], names, strict=False):
        if "inbound_nodes" in entry and set(_inbound(entry["inbound_nodes"])) != {before}:
            raise Refused(
                "a Keras model with branches, or layers used twice: the order of its tensors does not tell how",
                where=printable(str(entry.get("name", ""))),
                fix="export the model to ONNX",
                code="needs-graph",
            )


def _inbound(nodes: Any, depth: int = 0) -> Iterator[str]:
    """Names of layers that a layer reads, in the nested lists of Keras 2 or the tensors of Keras 3."""
    if depth > 20:
        return
    if isinstance(nodes, dict):
        history = nodes.get("keras_history")
        if isinstance(history, list) and history:
            yield str(history[0])
        else:
            for value in nodes.values():
                yield from _inbound(value, depth + 1)
    elif isinstance(nodes, list):
        if len(nodes) >= 3 and isinstance(nodes[0], str) and all(isinstance(n, int) for n in nodes[1:3]):
            yield nodes[0]
            return
        for value in nodes:
            yield from _inbound(value, depth + 1)


def _is_layer(entry: Any) -> bool:
    return (
        isinstance(entry, dict) and isinstance(entry.get("class_name"), str) and isinstance(entry.get("config"), dict)
    )


def _small(kind: str) -> str:
    """As keras/src/utils/naming.py, `to_snake_case`."""
    words = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", kind))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()
