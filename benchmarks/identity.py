"""nfn equivalent on random networks: how many disguised copies it recognises, how many near misses it turns down.

    python benchmarks/identity.py --cases 500 --width 2048

A case is a random MLP, CNN or ResNet in float32 and a random element of its whole group (scales from 1e-3 to 1e3). The copy has
to be found again, with a witness; two near misses of the copy (one weight changed by 1%; two units of one layer's weight
exchanged without their partners) must not. Widths are log-uniform up to --width.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from figures import figure

from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.graph.model import Graph, GraphInput, Network, Op
from nfn_cli.match.equivalent import equivalent
from nfn_cli.symmetry.action import TransformedTensors
from nfn_cli.symmetry.element import random_flat, to_flat
from nfn_cli.symmetry.solve import find_symmetry

Tensors = dict[str, np.ndarray[Any, np.dtype[np.float32]]]
FUNCTIONS = ("relu", "tanh", "leaky_relu", "gelu")


class Layers:
    """Collects ops and float32 weights."""

    def __init__(self, generator: np.random.Generator, inputs: int, spatial: bool) -> None:
        self.random, self.ops, self.tensors = generator, [], {}
        self.input = GraphInput("x", (None, inputs, 4, 4) if spatial else (None, inputs))

    def op(self, kind: str, inputs: list[str], parameters: dict[str, str] | None = None, **attributes: Any) -> str:
        self.ops.append(Op(kind, tuple(inputs), f"v{len(self.ops)}", parameters or {}, attributes))
        return self.ops[-1].output

    def layer(self, x: str, name: str, shape: tuple[int, ...], bias: bool = True) -> str:
        self.tensors[f"{name}.weight"] = self.random.standard_normal(shape, np.float32) / np.float32(
            np.sqrt(np.prod(shape[1:]))
        )
        roles = {"weight": f"{name}.weight"}
        if bias:
            roles["bias"] = f"{name}.bias"
            self.tensors[f"{name}.bias"] = 0.1 * self.random.standard_normal(shape[0], np.float32)
        how = {"padding": shape[-1] // 2} if len(shape) > 2 else {}
        return self.op("conv" if len(shape) > 2 else "linear", [x], roles, out_axis=0, in_axis=1, **how)

    def norm(self, x: str, name: str, n: int) -> str:
        roles = {role: f"{name}.{role}" for role in ("weight", "bias", "running_mean", "running_var")}
        for role, tensor in roles.items():
            values = self.random.standard_normal(n, np.float32)
            self.tensors[tensor] = np.abs(values) + np.float32(0.2) if role == "running_var" else values
        return self.op("batch_norm", [x], roles, eps=1e-5)

    def network(self, output: str, function: str) -> tuple[Network, Tensors]:
        shapes = {name: array.shape for name, array in self.tensors.items()}
        graph = Graph((self.input,), tuple(self.ops), (output,), shapes)
        return Network("", "cnn", graph, (function,), "made"), self.tensors


def mlp(generator: np.random.Generator, width: int, function: str) -> tuple[Network, Tensors]:
    layers = Layers(generator, 16, spatial=False)
    x, into = "x", 16
    for number in range(int(generator.integers(1, 4))):
        out = _width(generator, width)
        x = layers.op("pointwise", [layers.layer(x, f"layers.{number}", (out, into))], function=function)
        into = out
    return layers.network(layers.layer(x, "head", (10, into)), function)


def cnn(generator: np.random.Generator, width: int, function: str) -> tuple[Network, Tensors]:
    layers = Layers(generator, 3, spatial=True)
    x, into, norm = "x", 3, bool(generator.integers(2))
    for number in range(int(generator.integers(2, 4))):
        out = _width(generator, max(4, width // 4))
        x = layers.layer(x, f"conv{number}", (out, into, 3, 3))
        x = layers.norm(x, f"bn{number}", out) if norm else x
        x = layers.op("pointwise", [x], function=function)
        into = out
    return layers.network(layers.layer(layers.op("spatial_mean", [x]), "fc", (10, into)), function)


def resnet(generator: np.random.Generator, width: int, function: str) -> tuple[Network, Tensors]:
    layers, n = Layers(generator, 3, spatial=True), _width(generator, max(4, width // 4))
    x = layers.norm(layers.layer("x", "stem", (n, 3, 3, 3), bias=False), "bn", n)
    x = layers.op("pointwise", [x], function=function)
    for block in range(int(generator.integers(1, 4))):
        inner = _width(generator, max(4, width // 4))
        y = layers.norm(layers.layer(x, f"{block}.conv1", (inner, n, 3, 3), bias=False), f"{block}.bn1", inner)
        y = layers.op("pointwise", [y], function=function)
        y = layers.norm(layers.layer(y, f"{block}.conv2", (n, inner, 3, 3), bias=False), f"{block}.bn2", n)
        x = layers.op("pointwise", [layers.op("add", [x, y])], function=function)
    return layers.network(layers.layer(layers.op("spatial_mean", [x]), "fc", (10, n)), function)


def _width(generator: np.random.Generator, most: int) -> int:
    return int(np.exp(generator.uniform(np.log(4), np.log(most + 1))))


def disguised(network: Network, tensors: Tensors, seed: int) -> Tensors:
    symmetry = find_symmetry([network])
    view = TransformedTensors(tensors, {}, symmetry, random_flat(symmetry, seed, scales=(1e-3, 1e3)))
    return {name: np.array(view[name]) for name in view}


def changed(tensors: Tensors, generator: np.random.Generator) -> Tensors:
    name = str(generator.choice([n for n in sorted(tensors) if n.endswith(".weight") and tensors[n].ndim > 1]))
    weight = tensors[name].copy()
    weight.reshape(-1)[generator.integers(weight.size)] *= np.float32(1.01)
    return {**tensors, name: weight}


def swapped(tensors: Tensors, generator: np.random.Generator) -> Tensors:
    name = str(generator.choice([n for n in sorted(tensors) if n.endswith(".weight") and tensors[n].ndim > 1]))
    p, q = generator.choice(len(tensors[name]), 2, replace=False)
    weight = tensors[name].copy()
    weight[[p, q]] = weight[[q, p]]
    return {**tensors, name: weight}


@dataclass
class Tally:
    """Counts by family of networks, and the time of each question."""

    right: Counter[tuple[str, str]]
    asked: Counter[tuple[str, str]]
    seconds: list[float]

    def ask(self, family: str, what: str, network: Network, one: Tensors, other: Tensors, seed: int) -> None:
        left, right = Checkpoint("a", "made", one), Checkpoint("b", "made", other)
        start = time.perf_counter()
        answer = equivalent(left, [network], right, [network])
        self.seconds.append(time.perf_counter() - start)
        good = answer.equivalent == (what == "copy")
        if good and what == "copy":
            symmetry = find_symmetry([network])
            view = TransformedTensors(one, {}, symmetry, to_flat(symmetry, answer.element), np.float64)
            good = all(np.allclose(view[n], other[n], rtol=1e-4, atol=1e-4 * np.abs(other[n]).max()) for n in other)
        self.right[family, what] += good
        self.asked[family, what] += 1
        if not good:
            print(f"wrong: seed {seed} {family} {what}: residual {answer.residual:.2e} in {answer.worst_tensor}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--first", type=int, default=0, help="number of the first case: a long run may be done in parts"
    )
    options = parser.parse_args()
    tally, widest = Tally(Counter(), Counter(), []), 0
    for case in range(options.first, options.first + options.cases):
        generator = np.random.default_rng([options.seed, case])
        family, make = (("mlp", mlp), ("cnn", cnn), ("resnet", resnet))[case % 3]
        network, tensors = make(generator, options.width, str(generator.choice(FUNCTIONS)))
        widest = max(widest, *(len(array) for array in tensors.values()))
        other = disguised(network, tensors, case)
        tally.ask(family, "copy", network, tensors, other, case)
        for what, make_miss in (("1% off", changed), ("swapped", swapped)):
            tally.ask(family, what, network, tensors, make_miss(other, generator), case)
    for (family, what), count in sorted(tally.asked.items()):
        print(f"{family:8s} {what:8s} {tally.right[family, what]} of {count} right")
    for key, kinds in (("copies", ("copy",)), ("misses", ("1% off", "swapped"))):
        asked, right = (sum(n for (_, what), n in each.items() if what in kinds) for each in (tally.asked, tally.right))
        figure(key, right / asked)
    print(
        f"widest layer {widest}; {np.median(tally.seconds):.3f} s a question (median), {max(tally.seconds):.2f} s the slowest"
    )


if __name__ == "__main__":
    main()
