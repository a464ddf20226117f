"""graph/from_export.py: a live program of torch.export, walked node by node. ATen itself is known by graph/aten/."""

from __future__ import annotations

import operator
from typing import Any

from nfn_cli.graph.aten import Capture, Parameter, Value, translated
from nfn_cli.graph.aten.registry import Shapes, leaves
from nfn_cli.graph.model import Graph

_LARGEST_CONSTANT = 4096  # entries of a tensor that stands in the graph itself


def graph_from_export(program: Any) -> Graph:
    """The graph of a `torch.export.ExportedProgram` (training or inference IR), its tensors by their names in the state dict.

    Raises:
        Refused: the program holds what is not a computation on tensors (code "not-capturable").
    """
    c = Capture()
    env: dict[Any, Any] = {}
    outputs: list[Any] = []
    for node in program.graph_module.graph.nodes:
        if node.op == "placeholder":
            env[node] = _placeholder(c, node, program)
        elif node.op == "call_function":
            if node.target is operator.getitem:
                env[node] = env[node.args[0]][node.args[1]]
            else:
                _called(c, node, env)
        elif node.op == "output":
            outputs = [env.get(n) for n in leaves(node.args[0])]
    return c.graph(outputs)


def _placeholder(c: Capture, node: Any, program: Any) -> Value | Parameter | None:
    signature = program.graph_signature
    shape = tuple(int(n) for n in getattr(node.meta.get("val"), "shape", ()))
    tensor = signature.inputs_to_parameters.get(node.name)
    buffer = signature.inputs_to_buffers.get(node.name)
    if tensor is None and buffer is not None and buffer not in signature.non_persistent_buffers:
        tensor = buffer
    if tensor is not None:
        return c.parameter(tensor, shape, buffer is None)
    constant = signature.inputs_to_lifted_tensor_constants.get(node.name) or buffer
    if constant is not None:
        array = program.constants.get(constant)
        if array is None or array.numel() > _LARGEST_CONSTANT or array.is_meta:
            return None
        return c.op("constant", (), shape, value=array.tolist())
    return c.input(node.name, shape)


def _called(c: Capture, node: Any, env: dict[Any, Any]) -> None:
    target = str(getattr(node.target, "_opname", None) or node.target)
    name = target.removesuffix("_") if not target.startswith("_") else target
    args = _resolved(node.args, env)
    kwargs = {key: _resolved(value, env) for key, value in node.kwargs.items() if key not in ("dtype", "memory_format")}
    made = translated(c, name, args, kwargs, _shapes(node.meta.get("val")))
    env[node] = made
    if target.endswith("_") and node.args:
        _rebind(env, node.args[0], made)


def _shapes(meta: Any) -> Shapes:
    if isinstance(meta, (list, tuple)):
        return [tuple(int(n) for n in part.shape) if hasattr(part, "shape") else None for part in meta]
    return tuple(int(n) for n in meta.shape) if hasattr(meta, "shape") else None


def _rebind(env: dict[Any, Any], written: Any, made: Any) -> None:
    """An in-place op: whoever reads the written value later reads the result."""
    old = env.get(written)
    for node, value in env.items():
        if value is old and old is not None:
            env[node] = made


def _resolved(entry: Any, env: dict[Any, Any]) -> Any:
    if isinstance(entry, (list, tuple)):
        return [_resolved(part, env) for part in entry]
    return env[entry] if type(entry).__name__ == "Node" else entry
