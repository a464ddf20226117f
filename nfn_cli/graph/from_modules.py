"""graph/from_modules.py: the network of a pickled torch.nn.Sequential: its modules called one after another. Runs no code of it.

Only a Sequential says what it computes: what the forward of any other class does is not in the file. Attributes of the
modules are those of torch/nn/modules/*.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.checkpoint.object_file import Objects
from nfn_cli.checkpoint.object_tree import is_module
from nfn_cli.checkpoint.origin import origin_of
from nfn_cli.checkpoint.pickle_values import Object
from nfn_cli.checkpoint.storage import StoredTensor
from nfn_cli.graph.aten import Program
from nfn_cli.graph.captured_network import captured_network
from nfn_cli.graph.likely_shapes import is_floating, likely_shapes, shape_note
from nfn_cli.graph.model import Network
from nfn_cli.graph.torchscript.meta import DoesNotFit, meta_tensor, run_op

_NN = "torch.nn.modules."
_SEQUENTIAL = _NN + "container.Sequential"
_WRAPPERS = ("torch.nn.parallel.data_parallel.DataParallel", "torch.nn.parallel.distributed.DistributedDataParallel")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


def network_from_modules(checkpoint: Checkpoint) -> Network | None:
    """The network of a file of objects; None where it is no Sequential of modules that are known here.

    Raises:
        Refused: as the translations of its operations do.
    """
    objects: Objects = origin_of(checkpoint).content
    root = _root(objects.tree)
    if root is None:
        return None
    try:
        leaves = list(_in_order(root))
        for shape in likely_shapes(checkpoint):
            try:
                return _followed(checkpoint, objects, root, leaves, shape)
            except DoesNotFit:
                continue
    except (_Unknown, RecursionError):
        pass
    return None


class _Unknown(Exception):
    """A module, or a setting of one, whose function is not in the table."""


def _root(tree: Any) -> Object | None:
    """The one Sequential of the file, alone, in a map beside other things, or within what trains on several devices."""
    if isinstance(tree, dict):
        found = [value for value in tree.values() if is_module(value)]
        tree = found[0] if len(found) == 1 else None
    while is_module(tree) and tree.kind in _WRAPPERS:
        tree = tree.state["_modules"].get("module")
    return tree if is_module(tree) and tree.kind == _SEQUENTIAL else None


def _in_order(module: Object, depth: int = 0) -> Iterator[Object]:
    """What is called, one after another."""
    if depth > 50 or any(module.state.get(hooks) for hooks in _HOOKS):
        raise _Unknown
    if module.kind != _SEQUENTIAL:
        if module.kind not in _CALLS:
            raise _Unknown
        yield module
        return
    for inner in module.state["_modules"].values():
        if not is_module(inner):
            raise _Unknown
        yield from _in_order(inner, depth + 1)


def _followed(
    checkpoint: Checkpoint, objects: Objects, root: Object, leaves: list[Object], shape: tuple[int, ...]
) -> Network:
    program = Program()
    floats = [array.dtype.name for array in checkpoint.tensors.values() if is_floating(array)]
    if not floats:
        raise _Unknown
    x = program.input("input", shape, content=meta_tensor(shape, floats[0]))
    tensors = _Tensors(checkpoint, objects, program)

    def run(name: str, *args: Any, **kwargs: Any) -> Any:
        made = run_op(program, name, args, kwargs)
        if made is None or isinstance(made, list):
            raise _Unknown
        return made

    for leaf in leaves:
        module = _Module(leaf.state, tensors)
        try:
            x = _CALLS[leaf.kind](run, x, module)
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError):
            raise _Unknown from None
    notes = (shape_note(shape), "read in evaluation mode") if root.state.get("training") else (shape_note(shape),)
    return captured_network(program.graph([x]), checkpoint, "the modules in the file", notes)


class _Tensors:
    """Stored tensors as values of the program: one stand-in each."""

    def __init__(self, checkpoint: Checkpoint, objects: Objects, program: Program) -> None:
        self.checkpoint, self.objects, self.program = checkpoint, objects, program
        self.made: dict[str, Any] = {}

    def __call__(self, stored: StoredTensor, trained: bool) -> Any:
        name = self.objects.names[id(stored)]
        name = self.checkpoint.aliases.get(name, name)
        if name not in self.made:
            array = self.checkpoint.tensors[name]
            meta = meta_tensor(array.shape, array.dtype.name)
            self.made[name] = self.program.parameter(name, array.shape, trained, is_floating(array), meta)
        return self.made[name]


class _Module:
    """What a module keeps: its settings as attributes, its tensors by name (None where it has none)."""

    def __init__(self, state: Mapping[str, Any], tensors: _Tensors) -> None:
        self.state, self.tensors = state, tensors

    def __getattr__(self, name: str) -> Any:
        return self.state[name]

    def tensor(self, name: str, part: str = "_parameters") -> Any:
        stored = self.state[part][name]
        if stored is None:
            return None
        if not isinstance(stored, StoredTensor):
            raise _Unknown
        return self.tensors(stored, part == "_parameters")


Run = Callable[..., Any]


def _only(condition: bool) -> None:
    if not condition:
        raise _Unknown


def _linear(run: Run, x: Any, m: _Module) -> Any:
    return run("linear", x, m.tensor("weight"), m.tensor("bias"))


def _conv(axes: int) -> Callable[[Run, Any, _Module], Any]:
    def call(run: Run, x: Any, m: _Module) -> Any:
        _only(m.padding_mode == "zeros")
        padding = m.padding if isinstance(m.padding, str) else list(m.padding)
        return run(
            f"conv{axes}d", x, m.tensor("weight"), m.tensor("bias"), list(m.stride), padding, list(m.dilation), m.groups
        )

    return call


def _conv_transpose(axes: int) -> Callable[[Run, Any, _Module], Any]:
    def call(run: Run, x: Any, m: _Module) -> Any:
        _only(m.padding_mode == "zeros")
        where = (list(m.stride), list(m.padding), list(m.output_padding), m.groups, list(m.dilation))
        return run(f"conv_transpose{axes}d", x, m.tensor("weight"), m.tensor("bias"), *where)

    return call


def _batch_norm(axes: int) -> Callable[[Run, Any, _Module], Any]:
    def call(run: Run, x: Any, m: _Module) -> Any:
        _only(len(x.shape) == axes + 2 or (axes == 1 and len(x.shape) == 2))
        mean, var = m.tensor("running_mean", "_buffers"), m.tensor("running_var", "_buffers")
        _only(mean is not None and var is not None)
        return run("batch_norm", x, m.tensor("weight"), m.tensor("bias"), mean, var, False, 0.1, float(m.eps), False)

    return call


def _layer_norm(run: Run, x: Any, m: _Module) -> Any:
    return run("layer_norm", x, list(m.normalized_shape), m.tensor("weight"), m.tensor("bias"), float(m.eps))


def _group_norm(run: Run, x: Any, m: _Module) -> Any:
    return run("group_norm", x, m.num_groups, m.tensor("weight"), m.tensor("bias"), float(m.eps))


def _max_pool(axes: int) -> Callable[[Run, Any, _Module], Any]:
    def call(run: Run, x: Any, m: _Module) -> Any:
        _only(not m.return_indices)
        where = [_each(value, axes) for value in (m.kernel_size, m.stride, m.padding, m.dilation)]
        return run(f"max_pool{axes}d", x, *where, bool(m.ceil_mode))

    return call


def _average_pool(axes: int) -> Callable[[Run, Any, _Module], Any]:
    def call(run: Run, x: Any, m: _Module) -> Any:
        where = [_each(value, axes) for value in (m.kernel_size, m.stride, m.padding)]
        further = (m.divisor_override,) if axes > 1 else ()
        return run(f"avg_pool{axes}d", x, *where, bool(m.ceil_mode), bool(m.count_include_pad), *further)

    return call


def _adaptive_average_pool(axes: int) -> Callable[[Run, Any, _Module], Any]:
    return lambda run, x, m: run(f"adaptive_avg_pool{axes}d", x, _each(m.output_size, axes))


def _each(value: Any, axes: int) -> list[int]:
    values = [value] * axes if isinstance(value, int) else list(value)
    _only(len(values) == axes and all(type(n) is int for n in values))
    return values


def _softplus(run: Run, x: Any, m: _Module) -> Any:
    return run("softplus", x, float(m.beta), float(m.threshold))


def _along(name: str) -> Callable[[Run, Any, _Module], Any]:
    return lambda run, x, m: run(name, x, 1 if m.dim is None and len(x.shape) in (2, 4) else int(m.dim))


def _pointwise(name: str) -> Callable[[Run, Any, _Module], Any]:
    return lambda run, x, m: run(name, x)


def _same(_: Run, x: Any, __: _Module) -> Any:
    return x


_CALLS: dict[str, Callable[[Run, Any, _Module], Any]] = {
    _NN + kind: call
    for kind, call in {
        "linear.Linear": _linear,
        "linear.Identity": _same,
        "flatten.Flatten": lambda run, x, m: run("flatten", x, m.start_dim, m.end_dim),
        "normalization.LayerNorm": _layer_norm,
        "normalization.GroupNorm": _group_norm,
        **{f"conv.Conv{axes}d": _conv(axes) for axes in (1, 2, 3)},
        **{f"conv.ConvTranspose{axes}d": _conv_transpose(axes) for axes in (1, 2, 3)},
        **{f"batchnorm.BatchNorm{axes}d": _batch_norm(axes) for axes in (1, 2, 3)},
        **{f"pooling.MaxPool{axes}d": _max_pool(axes) for axes in (1, 2, 3)},
        **{f"pooling.AvgPool{axes}d": _average_pool(axes) for axes in (1, 2, 3)},
        **{f"pooling.AdaptiveAvgPool{axes}d": _adaptive_average_pool(axes) for axes in (1, 2, 3)},
        **{f"dropout.{kind}": _same for kind in ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout")},
        "activation.PReLU": lambda run, x, m: run("prelu", x, m.tensor("weight")),
        "activation.LeakyReLU": lambda run, x, m: run("leaky_relu", x, float(m.negative_slope)),
        "activation.ELU": lambda run, x, m: run("elu", x, float(m.alpha)),
        "activation.GELU": lambda run, x, m: run("gelu", x, approximate=m.approximate),
        "activation.Hardtanh": lambda run, x, m: run("hardtanh", x, float(m.min_val), float(m.max_val)),
        "activation.Softplus": _softplus,
        "activation.Softmax": _along("softmax"),
        "activation.LogSoftmax": _along("log_softmax"),
        **{
            f"activation.{kind}": _pointwise(name)
            for kind, name in {
                "ReLU": "relu",
                "ReLU6": "relu6",
                "Tanh": "tanh",
                "Sigmoid": "sigmoid",
                "SELU": "selu",
                "SiLU": "silu",
                "Mish": "mish",
                "Hardswish": "hardswish",
                "Hardsigmoid": "hardsigmoid",
                "LogSigmoid": "log_sigmoid",
            }.items()
        },
    }.items()
}
