"""zoo/population.py: which small CNNs a zoo is made of: architectures and hyper-parameters, drawn. No torch, no image.

The hyper-parameters are those of Unterthiner et al. 2020 (arXiv 2002.11448, section 3): optimizer, learning rate, L2,
dropout, fraction of the training set, initialization. Networks that are trained at once (a group) share architecture,
fraction and minibatches; everything else is drawn for each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

KERNEL = 3  # of every convolution; padding 1
SMALL_CNN, HETEROGENEOUS = "small-cnn", "heterogeneous"
ACTIVATIONS_OF: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {SMALL_CNN: ("relu", "tanh"), HETEROGENEOUS: ("relu", "tanh", "gelu", "silu", "leaky_relu")}
)
OPTIMIZERS = ("adam", "sgd", "rmsprop")
W_INITS = ("normal", "orthogonal", "he_normal", "glorot_normal")
B_INITS = ("zeros", "normal")
TRAIN_FRACTIONS = (0.1, 0.25, 0.5, 1.0)
BIAS_STD = 0.05
# ranges by optimizer, and the 40% without dropout, are those of the zoos made in the image of the published one
LEARNING_RATES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"adam": (3e-4, 3e-2), "sgd": (1e-3, 0.3), "rmsprop": (1e-4, 1e-2)}
)
NO_DROPOUT = 0.4  # share of networks trained without
LARGEST_COST = 1_000_000  # multiplications of one network on one image


@dataclass(frozen=True, slots=True)
class ConvLayer:
    """A 3×3 convolution with padding 1."""

    width: int
    stride: int


@dataclass(frozen=True, slots=True)
class Architecture:
    """Convolutions, mean over positions, dropout while training, one linear layer.

    A layer is `activation(norm(conv(x)) + shortcut(x))`: the norm where `batch_norm`, the shortcut where `residual` and
    the layer is not the first: x itself, or a 1×1 convolution of it where width or stride differ.

    Attributes:
        channels, height, width: of the images.
        classes: outputs.
        layers: the convolutions, input to output.
    """

    channels: int
    height: int
    width: int
    classes: int
    layers: tuple[ConvLayer, ...]
    activation: str
    batch_norm: bool = False
    residual: bool = False

    def incoming(self, index: int) -> int:
        """Channels that layer `index` reads."""
        return self.layers[index - 1].width if index else self.channels

    def has_projection(self, index: int) -> bool:
        """Whether layer `index` has a shortcut with weights."""
        changes = self.layers[index].stride != 1 or self.incoming(index) != self.layers[index].width
        return self.residual and index > 0 and changes

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Trained tensors, name -> shape, in the order in which they are kept flat."""
        shapes: dict[str, tuple[int, ...]] = {}
        for index, layer in enumerate(self.layers):
            shapes[f"convs.{index}.weight"] = (layer.width, self.incoming(index), KERNEL, KERNEL)
            if self.batch_norm:
                shapes[f"norms.{index}.weight"] = (layer.width,)
                shapes[f"norms.{index}.bias"] = (layer.width,)
            else:
                shapes[f"convs.{index}.bias"] = (layer.width,)
            if self.has_projection(index):
                shapes[f"shortcuts.{index}.weight"] = (layer.width, self.incoming(index), 1, 1)
        shapes["head.weight"] = (self.classes, self.layers[-1].width)
        shapes["head.bias"] = (self.classes,)
        return shapes

    def buffer_shapes(self) -> dict[str, tuple[int, ...]]:
        """Running statistics, name -> shape."""
        named = [(f"norms.{i}.running_", (layer.width,)) for i, layer in enumerate(self.layers) if self.batch_norm]
        return {name + which: shape for name, shape in named for which in ("mean", "var")}

    @property
    def cost(self) -> int:
        """Multiplications of the convolutions on one image."""
        total, height, width = 0, self.height, self.width
        for index, layer in enumerate(self.layers):
            height, width = -(-height // layer.stride), -(-width // layer.stride)
            taps = KERNEL**2 + self.has_projection(index)
            total += height * width * taps * self.incoming(index) * layer.width
        return total


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters of the m networks of a group; every array is (m,)."""

    optimizer: Array
    learning_rate: Array
    l2reg: Array
    dropout: Array
    w_init: Array
    init_std: Array
    b_init: Array
    train_fraction: float

    def __len__(self) -> int:
        return len(self.optimizer)

    def columns(self) -> dict[str, Any]:
        """`config.*` columns, (m,) each."""
        names = ("learning_rate", "l2reg", "dropout", "w_init", "init_std", "b_init", "optimizer")
        columns = {f"config.{name}": getattr(self, name).tolist() for name in names}
        return columns | {"config.train_fraction": [self.train_fraction] * len(self)}


@dataclass(frozen=True, slots=True)
class ImageShape:
    """What the networks see: (channels, height, width) and the number of classes."""

    channels: int
    height: int
    width: int
    classes: int


def draw_group(
    kind: str, image: ImageShape, activations: Sequence[str], size: int, seed: int, index: int
) -> tuple[Architecture, Settings]:
    """The architecture of group `index` and the hyper-parameters of its `size` networks; the same for the same arguments."""
    generator = np.random.default_rng([seed, index, 0])
    # activations take turns, so that the zoo is balanced however short it is
    activation = activations[index % len(activations)]
    architecture = _small_cnn(image, activation) if kind == SMALL_CNN else _heterogeneous(generator, image, activation)
    return architecture, draw_settings(generator, size)


def draw_settings(generator: np.random.Generator, size: int) -> Settings:
    """Hyper-parameters of `size` networks."""
    optimizer = generator.choice(OPTIMIZERS, size)
    low, high = (np.array([LEARNING_RATES[name][end] for name in optimizer]) for end in (0, 1))
    dropout = np.where(generator.random(size) < NO_DROPOUT, 0.0, generator.uniform(0.0, 0.7, size))
    return Settings(
        optimizer=optimizer,
        learning_rate=np.exp(generator.uniform(np.log(low), np.log(high))),
        l2reg=np.exp(generator.uniform(np.log(1e-8), np.log(1e-2), size)),
        dropout=dropout,
        w_init=generator.choice(W_INITS, size),
        init_std=np.exp(generator.uniform(np.log(1e-2), np.log(0.5), size)),
        b_init=generator.choice(B_INITS, size),
        train_fraction=float(generator.choice(TRAIN_FRACTIONS)),
    )


def initial_tensors(architecture: Architecture, settings: Settings, generator: np.random.Generator) -> dict[str, Array]:
    """Trained tensors before the first step, name -> (m, *shape) float32; norms start as the identity."""
    return {
        name: np.stack([_initial(name, shape, settings, row, generator) for row in range(len(settings))])
        for name, shape in architecture.tensor_shapes().items()
    }


def _initial(name: str, shape: tuple[int, ...], settings: Settings, row: int, generator: np.random.Generator) -> Array:
    if name.startswith("norms."):
        return np.full(shape, 1.0 if name.endswith(".weight") else 0.0, np.float32)
    if name.endswith(".bias"):
        std = BIAS_STD if settings.b_init[row] == "normal" else 0.0
        return np.float32(std) * generator.standard_normal(shape).astype(np.float32)
    outgoing, incoming = shape[0], shape[1]
    positions = int(np.prod(shape[2:], dtype=np.int64))
    kind = settings.w_init[row]
    if kind == "orthogonal":
        drawn: Array = _orthogonal(outgoing, incoming * positions, generator).reshape(shape).astype(np.float32)
        return drawn
    std = {
        "normal": settings.init_std[row],
        "he_normal": np.sqrt(2.0 / (incoming * positions)),
        "glorot_normal": np.sqrt(2.0 / ((incoming + outgoing) * positions)),
    }[kind]
    values: Array = (std * generator.standard_normal(shape)).astype(np.float32)
    return values


def _orthogonal(rows: int, columns: int, generator: np.random.Generator) -> Array:
    """(rows, columns) with orthonormal rows or columns, whichever are fewer; uniform over such matrices (Haar)."""
    tall = generator.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(tall)
    q = q * np.sign(np.diag(r))
    orthogonal: Array = q if rows >= columns else q.T
    return orthogonal


def _small_cnn(image: ImageShape, activation: str) -> Architecture:
    layers = (ConvLayer(16, 2),) * 3
    return Architecture(image.channels, image.height, image.width, image.classes, layers, activation)


def _heterogeneous(generator: np.random.Generator, image: ImageShape, activation: str) -> Architecture:
    """2–6 layers of 8–64 channels; drawn again while it costs more than `LARGEST_COST`."""
    while True:
        residual = bool(generator.random() < 0.5)
        layers = _random_layers(generator, min(image.height, image.width), residual)
        norm = bool(generator.random() < 0.5)
        found = Architecture(
            image.channels, image.height, image.width, image.classes, layers, activation, norm, residual
        )
        # larger images make every architecture dearer: the limit is that of 32×32
        if found.cost <= LARGEST_COST * max(1.0, image.height * image.width / 1024):
            return found


def _random_layers(generator: np.random.Generator, size: int, residual: bool) -> tuple[ConvLayer, ...]:
    layers: list[ConvLayer] = []
    for index in range(int(generator.integers(2, 7))):
        # halve while the image is large, then less and less often
        halve = index == 0 or size > 8 or (size > 2 and generator.random() < (0.6 if size > 4 else 0.3))
        width = 8 * round(float(np.exp(generator.uniform(np.log(8), np.log(64)))) / 8)
        if residual and layers and not halve and generator.random() < 0.7:
            width = layers[-1].width  # where the identity can be the shortcut
        size = -(-size // 2) if halve else size
        layers.append(ConvLayer(width, 2 if halve else 1))
    return tuple(layers)
