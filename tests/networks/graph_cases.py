"""One small graph for each way an op of the vocabulary can be used, with random float64 weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nfn_cli.graph.model import Graph, GraphInput
from tests.symmetry.networks import Builder, Tensors

Shape = tuple[int, ...]
PLANES, LINE, SOLID, FLAT = (4, 7, 8), (4, 9), (2, 5, 6, 5), (6,)


def _op(
    kind: str,
    of: Shape = PLANES,
    tensors: dict[str, Shape] | None = None,
    more: tuple[Shape, ...] = (),
    **attributes: Any,
) -> tuple[Graph, Tensors]:
    """The op on an input of that shape, and on further inputs."""
    shapes = (of, *more)
    inputs = [GraphInput(f"x{number}", (None, *each)) for number, each in enumerate(shapes)]
    b = Builder(0, inputs)
    roles = {role: b.tensor(role, *size, positive=role == "running_var") for role, size in (tensors or {}).items()}
    return _made(b, b.op(kind, [entry.name for entry in inputs], roles, **attributes))


def _made(b: Builder, *outputs: str) -> tuple[Graph, Tensors]:
    network, tensors = b.network(*outputs)
    return network.graph, tensors


def _conv(weight: Shape, shape: Shape = PLANES, bias: int | None = None, **attributes: Any) -> tuple[Graph, Tensors]:
    tensors = {"weight": weight} | ({"bias": (bias,)} if bias else {})
    return _op("conv", shape, tensors, **({"out_axis": 0, "in_axis": 1} | attributes))


def _transposed(weight: Shape, shape: Shape = PLANES, **attributes: Any) -> tuple[Graph, Tensors]:
    return _conv(weight, shape, transposed=True, **({"out_axis": 1, "in_axis": 0} | attributes))


def _computed_weight() -> tuple[Graph, Tensors]:
    b = Builder(0, [GraphInput("x", (None, *PLANES))])
    gain = b.op("mul", [b.parameter("v", 5, 4, 3, 3), b.parameter("g", 5, 1, 1, 1)])
    return _made(b, b.op("conv", ["x", gain], out_axis=0, in_axis=1, stride=2, padding=[1, 0]))


def _sources() -> tuple[Graph, Tensors]:
    b = Builder(0, [GraphInput("x", (None, 4))])
    x = b.op("add", ["x", b.parameter("offset", 1, 4, trained=False), b.op("constant", [], value=[[1.0, -2, 3, 0.5]])])
    return _made(b, x, b.op("expand", [b.parameter("row", 1, 4)], shape=[3, 4]))


def _norm(*roles: str, shape: Shape = PLANES, **attributes: Any) -> tuple[Graph, Tensors]:
    return _op("batch_norm", shape, dict.fromkeys((*roles, "running_mean", "running_var"), (shape[0],)), **attributes)


CASES: dict[str, Callable[[], tuple[Graph, Tensors]]] = {
    "linear": lambda: _op("linear", FLAT, {"weight": (3, 6), "bias": (3,)}, out_axis=0, in_axis=1),
    "linear in × out": lambda: _op("linear", FLAT, {"weight": (6, 3), "bias": (3,)}, out_axis=1, in_axis=0),
    "linear on rows": lambda: _op("linear", (5, 6), {"weight": (3, 6)}, out_axis=0, in_axis=1),
    "conv": lambda: _conv((5, 4, 3, 3), bias=5),
    "conv stride": lambda: _conv((5, 4, 3, 2), bias=5, stride=[2, 3], padding=[1, 2]),
    "conv dilation": lambda: _conv((5, 4, 3, 2), padding=2, dilation=[1, 3]),
    "conv groups": lambda: _conv((6, 2, 3, 3), bias=6, groups=2, padding=1, stride=2),
    "conv depthwise": lambda: _conv((8, 1, 3, 3), groups=4),
    "conv channels last": lambda: _conv((3, 2, 4, 5), bias=5, out_axis=3, in_axis=2, stride=2),
    "conv in first": lambda: _conv((4, 5, 3, 3), out_axis=1, in_axis=0),
    "conv kernel between": lambda: _conv((5, 3, 3, 4), out_axis=0, in_axis=3, padding=1),
    "conv of a line": lambda: _conv((5, 4, 3), LINE, bias=5, stride=2, padding=1),
    "conv of a solid": lambda: _conv((3, 2, 2, 3, 2), SOLID, bias=3, stride=[1, 2, 1], padding=[0, 1, 1]),
    "conv computed weight": _computed_weight,
    "conv transposed": lambda: _transposed((4, 5, 3, 3)),
    "conv transposed steps": lambda: _transposed((4, 5, 3, 2), stride=[2, 3], padding=[1, 0], output_padding=[1, 2]),
    "conv transposed groups": lambda: _transposed((4, 3, 3, 3), groups=2, dilation=2, stride=2, padding=1, bias=6),
    "conv transposed out first": lambda: _transposed((5, 4, 2, 2), out_axis=0, in_axis=1, stride=2),
    "conv transposed line": lambda: _transposed((4, 5, 3), LINE, stride=2, output_padding=1),
    "batch_norm": lambda: _norm("weight", "bias", eps=1e-3),
    "batch_norm bare": _norm,
    "batch_norm of vectors": lambda: _norm("bias", shape=FLAT, eps=0.1),
    "layer_norm": lambda: _op("layer_norm", (5, 6), {"weight": (6,), "bias": (6,)}, eps=0.1, axes=(-1,)),
    "layer_norm two axes": lambda: _op("layer_norm", (5, 6), {"weight": (5, 6)}, axes=[1, 2], eps=1e-6),
    "layer_norm default": lambda: _op("layer_norm", FLAT),
    "normalize": lambda: _op("normalize", axes=[1, 2, 3], eps=0.2),
    "normalize groups": lambda: _op("normalize", axes=[1, 2, 3], eps=0.2, groups=2),
    "rms_normalize": lambda: _op("rms_normalize", (5, 6), axes=[-1], eps=0.1),
    "pointwise omega": lambda: _op("pointwise", FLAT, function="sin", omega=30.0),
    "pointwise slope": lambda: _op("pointwise", FLAT, function="leaky_relu", slope=0.2),
    "pointwise one slope": lambda: _op("pointwise", PLANES, {"weight": (1,)}, function="prelu"),
    "pointwise slopes": lambda: _op("pointwise", PLANES, {"weight": (4,)}, function="prelu"),
    "max_pool": lambda: _op("max_pool", kernel=2),
    "max_pool steps": lambda: _op("max_pool", kernel=[3, 2], stride=[2, 1], padding=1, dilation=[1, 2]),
    "max_pool ceil": lambda: _op("max_pool", kernel=3, stride=2, padding=1, ceil=True),
    "max_pool ceil short": lambda: _op("max_pool", kernel=2, stride=3, padding=1, ceil=True),
    "max_pool wide padding": lambda: _op("max_pool", kernel=3, stride=2, padding=[1, 2], ceil=True),
    "max_pool of a line": lambda: _op("max_pool", LINE, kernel=3, stride=2, padding=1),
    "max_pool of a solid": lambda: _op("max_pool", SOLID, kernel=2, stride=[1, 2, 2]),
    "average_pool": lambda: _op("average_pool", kernel=[2, 3]),
    "average_pool padded": lambda: _op("average_pool", kernel=3, stride=2, padding=1),
    "average_pool uncounted": lambda: _op("average_pool", kernel=3, stride=2, padding=1, count_padding=False),
    "average_pool ceil": lambda: _op("average_pool", kernel=3, stride=2, padding=1, ceil=True),
    "average_pool ceil uncounted": lambda: _op(
        "average_pool", kernel=3, stride=2, padding=1, ceil=True, count_padding=False
    ),
    "average_pool dilation": lambda: _op("average_pool", kernel=2, stride=1, padding=1, dilation=2, ceil=True),
    "average_pool wide": lambda: _op("average_pool", kernel=[3, 4], stride=2, padding=[2, 3], count_padding=False),
    "average_pool of a line": lambda: _op("average_pool", LINE, kernel=3, stride=2, padding=1),
    "pool average": lambda: _op("pool", size=[3, 2], statistic="average"),
    "pool max": lambda: _op("pool", size=[5, 3], statistic="max"),
    "pool of a line": lambda: _op("pool", LINE, size=[4], statistic="max"),
    "pool of a solid": lambda: _op("pool", SOLID, size=[2, 4, 1], statistic="average"),
    "spatial_mean": lambda: _op("spatial_mean"),
    "spatial_mean of vectors": lambda: _op("spatial_mean", FLAT),
    "flatten": lambda: _op("flatten", order="channel_outer"),
    "flatten channels inner": lambda: _op("flatten", order="channel_inner"),
    "add": lambda: _op("add", more=((4, 1, 1), PLANES)),
    "mul": lambda: _op("mul", more=((4, 1, 1), PLANES)),
    "scale": lambda: _op("scale", tensors={"weight": (4, 1, 1)}, axis=1),
    "scale last": lambda: _op("scale", tensors={"weight": (8,)}, axis=-1),
    "scalar": lambda: _op("scalar", multiply=-0.5, add=3.0),
    "parameter, constant, expand": _sources,
    "reshape": lambda: _op("reshape", shape=[-1, 2, 2, 56]),
    "permute": lambda: _op("permute", order=[0, 2, 3, 1]),
    "expand": lambda: _op("expand", (1, 5), shape=[8, 3, 5]),
    "slice": lambda: _op("slice", axis=2, start=1, stop=6, step=2),
    "slice open": lambda: _op("slice", axis=-1, start=-5, stop=None),
    "slice backwards": lambda: _op("slice", axis=1, start=None, stop=None, step=-1),
    "pad": lambda: _op("pad", before=[0, 0, 1, 0], after=[0, 1, 2, 3]),
    "pad value": lambda: _op("pad", before=[0, 0, 1, 2], after=[0, 0, 0, 1], value=-2.5),
    "pad crops": lambda: _op("pad", before=[0, 0, -1, 2], after=[0, 0, 3, -2]),
    **{
        f"pad {mode}": lambda mode=mode: _op("pad", before=[0, 0, 2, 9], after=[0, 0, 3, -1], mode=mode)
        for mode in ("reflect", "replicate", "circular")
    },
    "filter": lambda: _op("filter", kernel=[[1.0, 2, 1], [2, 4, 2], [1, 2, -3]], stride=2, padding=1),
    "filter steps": lambda: _op("filter", LINE, kernel=[1.0, -1], dilation=3),
    **{
        f"reduce {statistic}": lambda statistic=statistic: _op("reduce", axes=[1, 3], statistic=statistic)
        for statistic in ("mean", "sum", "max", "min", "norm", "variance")
    },
    "reduce nothing": lambda: _op("reduce", axes=[], statistic="norm"),
    "resize nearest": lambda: _op("resize", size=[5, 11], mode="nearest"),
    "resize linear": lambda: _op("resize", size=[5, 11], mode="linear"),
    "resize corners": lambda: _op("resize", size=[1, 13], mode="linear", align_corners=True),
    "softmax": lambda: _op("softmax", axis=1),
    "matmul": lambda: _op("matmul", (3, 5), more=((5, 2),)),
    "clip": lambda: _op("clip", low=-0.5, high=0.25),
    "clip below": lambda: _op("clip", low=0.1, high=None),
    "clip not": lambda: _op("clip"),
    "concat": lambda: _op("concat", more=((2, 7, 8), (1, 7, 8)), axis=1),
}
