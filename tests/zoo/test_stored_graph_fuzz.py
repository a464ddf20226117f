"""A stored graph changed at random is analysed or refused; nothing else happens."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import numpy as np
import pytest

from nfn_cli.api import symmetry_report
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import NfnError
from nfn_cli.graph.graph_file import GRAPH_KEY, graph_to_json
from nfn_cli.graph.model import Graph, GraphInput, Op
from tests.zoo.small_graphs import mlp_graph

JUNK = [None, -1, 0, 1, 3, 1000, 1.5, "x", "tanh", [], [1], [1, 2], [1, 1, 1], [0, 0], {}, True]
NAMES = ["groups", "stride", "padding", "dilation", "axis", "axes", "order", "shape", "size", "kernel", "eps", "slope"]
NAMES += ["out_axis", "in_axis", "transposed", "positions", "start", "before", "statistic", "multiply", "value"]
KINDS = ["conv", "linear", "slice", "softmax", "matmul", "concat", "mul", "add", "reshape", "permute", "expand", "pad"]
KINDS += [
    "normalize",
    "layer_norm",
    "batch_norm",
    "parameter",
    "constant",
    "scale",
    "max_pool",
    "pool",
    "reduce",
    "odd",
]


def residual_cnn() -> Graph:
    axes = {"out_axis": 0, "in_axis": 1, "padding": 1}
    norm = {"weight": "n.w", "bias": "n.b", "running_mean": "n.m", "running_var": "n.v"}
    ops = (
        Op("conv", ("x",), "a", {"weight": "c1.w"}, axes),
        Op("batch_norm", ("a",), "b", norm, {"eps": 1e-5}),
        Op("pointwise", ("b",), "c", {}, {"function": "relu"}),
        Op("conv", ("c",), "d", {"weight": "c2.w", "bias": "c2.b"}, axes),
        Op("add", ("c", "d"), "e"),
        Op("pointwise", ("e",), "f", {}, {"function": "leaky_relu", "slope": 0.01}),
        Op("max_pool", ("f",), "g", {}, {"kernel": 2, "stride": 2}),
        Op("flatten", ("g",), "h", {}, {"order": "channel_outer", "positions": 4}),
        Op("linear", ("h",), "i", {"weight": "fc.w", "bias": "fc.b"}, {"out_axis": 0, "in_axis": 1}),
    )
    shapes = {"c1.w": (3, 1, 3, 3), "c2.w": (3, 3, 3, 3), "c2.b": (3,), "fc.w": (2, 12), "fc.b": (2,)}
    return Graph((GraphInput("x", (None, 1, 4, 4)),), ops, ("i",), shapes | dict.fromkeys(norm.values(), (3,)))


BASES = [json.loads(json.dumps(graph_to_json(graph))) for graph in (mlp_graph(), residual_cnn())]


def changed(values: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    values = copy.deepcopy(values)
    for _ in range(draw.choice([0, 1, 1, 2])):
        op = draw.choice(values["ops"])
        what = draw.choice(["attribute", "new attribute", "kind", "gone", "inputs", "roles", "input"])
        if what == "attribute" and op[4]:
            op[4][draw.choice(list(op[4]))] = draw.choice(JUNK)
        elif what == "new attribute":
            op[4][draw.choice(NAMES)] = draw.choice(JUNK)
        elif what == "kind":
            op[0] = draw.choice(KINDS)
            op[4] |= {name: draw.choice(JUNK) for name in draw.sample(NAMES, 5)}
        elif what == "gone" and len(values["ops"]) > 1:
            values["ops"].remove(op)
        elif what == "inputs":
            op[1] = [draw.choice([*(other[2] for other in values["ops"]), "x"]) for _ in range(draw.choice([0, 1, 2]))]
        elif what == "roles" and op[3]:
            op[3][draw.choice(list(op[3]))] = draw.choice(list(values["tensors"]))
        elif what == "input":
            values["inputs"][0][1] = draw.choice(
                [[None], [], [None, 1], [None, 4], [None, 1, 4, 4], [None, None], [2, 3, 4]]
            )
    return values


@pytest.mark.parametrize("seed", range(4))
def test_a_changed_graph_is_analysed_or_refused(seed: int) -> None:
    draw = random.Random(seed)
    taken = refused = 0
    for _ in range(100):
        values = changed(draw.choice(BASES), draw)
        rng = np.random.default_rng(0)
        tensors = {name: rng.uniform(0.1, 1, shape).astype(np.float32) for name, shape in values["tensors"].items()}
        try:
            report = symmetry_report(
                Checkpoint("f", "safetensors", tensors, {GRAPH_KEY: json.dumps(values)}), elements=1
            )
        except NfnError:
            refused += 1
        else:
            taken += 1
            assert report.passed
    assert taken > 5  # the controls: both happen
    assert refused > 30
