"""checkpoint/model.py: what a checkpoint is once read. Knows arrays and names; no file format, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Hints:
    """What a container says about the network beyond its tensors; every field may be unknown (None).

    Attributes:
        activation: name as the source spells it, or one name per hidden layer joined by commas.
        omega: frequency of sine activations, per hidden layer or one for all.
        pooling: "none", "average" or "max": the spatial pooling between layers.
        architecture: name of a known architecture, e.g. from a config.json.
        architecture_arguments: what it was made with, as a JSON object of numbers, booleans, text and lists of them.
        suggested: an activation that is in the file without a word on where it is applied, so that nothing is made of it.
        order: names of layers (the parts of tensor names before the last) in the order in which they follow one another.
        transposed: names of the layers that are transposed convolutions.
        epsilons: what a batch norm adds to the variance, by name of its layer.
        source: where this was found, for the report (e.g. "data in the Stable-Baselines3 zip").
    """

    activation: str | None = None
    omega: str | None = None
    pooling: str | None = None
    architecture: str | None = None
    architecture_arguments: str | None = None
    suggested: str | None = None
    order: tuple[str, ...] = ()
    transposed: tuple[str, ...] = ()
    epsilons: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    source: str = ""


@dataclass(frozen=True)
class Checkpoint:
    """Content of one checkpoint file: tensors by bare name, and whatever is needed to write it back.

    Attributes:
        path: the input as the user named it (`DIR#row` and `hf://…` included).
        container: "safetensors", "safetensors-sharded", "torch-zip", "torch-legacy", "torch-objects-zip",
            "torch-objects-legacy", "torch-objects-pickle", "pickle", "npz", "npy", "sb3-zip", "zoo-row", "onnx", "pt2",
            "torchscript", "keras-hdf5", "keras-zip", "flax-msgpack".
        tensors: name -> array, in file order; read-only and memory-mapped where the container allows. bfloat16 and
            float8 are numpy arrays with the dtypes of `ml_dtypes`. Only arrays that may be weights are here; optimizer
            state, counters of the training loop and other leftovers are listed in `left_aside`.
        metadata: free text pairs of the container (safetensors `__metadata__`), kept on the way out.
        hints: what the container says about activation and architecture.
        aliases: tensor name -> the name it shares memory with (both keep the same values on the way out).
        left_aside: one line for each thing in the file that is not a weight ("optimizer: Adam state, 12 tensors").
        payload: private to the container's reader and writer.
    """

    path: str
    container: str
    tensors: Mapping[str, Array]
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    hints: Hints = Hints()
    aliases: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    left_aside: tuple[str, ...] = ()
    payload: Any = None

    def with_tensors(self, changed: Mapping[str, Array]) -> Checkpoint:
        """A checkpoint in which the named tensors (and their aliases) are replaced; the rest is shared."""
        unknown = sorted(set(changed) - set(self.tensors))
        if unknown:
            raise KeyError(f"not in this checkpoint: {unknown}")
        merged = {
            name: changed.get(name, changed.get(self.aliases.get(name, ""), array))
            for name, array in self.tensors.items()
        }
        return replace(self, tensors=MappingProxyType(merged))
