"""graph/from_export.py: a live program of torch.export, walked node by node. ATen itself is known by graph/aten/."""

from __future__ import annotations

import operator
from typing import Any

from nfn_cli.errors import Refused
from nfn_cli.graph.aten import Program, Result, Results, Tensor
from nfn_cli.graph.aten.registry import leaves
from nfn_cli.graph.model import Graph

# regions that only say how to compute (precision, gradients): where their part of the program stands among the arguments
_REGIONS = {"wrap_with_autocast": 4, "wrap_with_set_grad_enabled": 1}


def graph_from_export(program: Any) -> Graph:
    """The graph of a `torch.export.ExportedProgram` (training or inference IR), its tensors by their names in the state dict.

    Raises:
        Refused: the program holds what is not a computation on tensors (code "not-capturable").
    """
    run = Program()
    entered = [
        _placeholder(run, node, program) for node in program.graph_module.graph.nodes if node.op == "placeholder"
    ]
    return run.graph(leaves(_walked(run, program.graph_module, entered)))


def _walked(run: Program, module: Any, entered: list[Any]) -> Any:
    """What a graph module gives for its arguments."""
    env: dict[Any, Any] = {}
    arguments = iter(entered)
    for node in module.graph.nodes:
        if node.op == "placeholder":
            env[node] = next(arguments)
        elif node.op == "get_attr":  # a part of the program that a region calls, see below
            env[node] = getattr(module, node.target)
        elif node.op == "call_function":
            region = _REGIONS.get(str(node.target))
            if region is not None:
                _, called, *passed = _resolved(node.args[region - 1 :], env)
                env[node] = _walked(run, called, passed)
            else:
                env[node] = _called(run, node, env)
        elif node.op == "output":
            return _resolved(node.args[0], env)
    raise Refused("the program has no output", code="not-capturable")


def _placeholder(run: Program, node: Any, program: Any) -> Tensor | None:
    signature, meta = program.graph_signature, node.meta.get("val")
    result = _results(meta)
    if not isinstance(result, Result):
        return None
    tensor = signature.inputs_to_parameters.get(node.name)
    buffer = signature.inputs_to_buffers.get(node.name)
    if tensor is None and buffer is not None and buffer not in signature.non_persistent_buffers:
        tensor = buffer
    if tensor is not None:
        return run.parameter(tensor, result.shape, buffer is None, result.floating)
    constant = signature.inputs_to_lifted_tensor_constants.get(node.name) or buffer
    if constant is not None:
        array = program.constants.get(constant)
        values = None if array is None or array.is_meta else array.tolist() if array.numel() < 1 << 16 else None
        return run.constant(result.shape, values, result.floating)
    return run.input(node.name, result.shape, result.floating)


def _called(run: Program, node: Any, env: dict[Any, Any]) -> Any:
    args = _resolved(node.args, env)
    if node.target is operator.getitem:
        return None if args[0] is None else args[0][args[1]]
    meta = node.meta.get("val")
    if isinstance(meta, (bool, int, float)):
        return meta
    if type(meta).__name__ in ("SymInt", "SymFloat", "SymBool"):
        return {"SymInt": int, "SymFloat": float, "SymBool": bool}[type(meta).__name__](meta)
    name = node.target._opname if getattr(node.target, "namespace", "") == "aten" else str(node.target)
    return run.call(name, args, {key: _resolved(value, env) for key, value in node.kwargs.items()}, _results(meta))


def _results(meta: Any) -> Results:
    if isinstance(meta, (list, tuple)):
        return [_result(part) for part in meta]
    return _result(meta)


def _result(meta: Any) -> Result | None:
    if not hasattr(meta, "shape"):
        return None
    return Result(tuple(int(n) for n in meta.shape), bool(meta.dtype.is_floating_point))


def _resolved(entry: Any, env: dict[Any, Any]) -> Any:
    if isinstance(entry, (list, tuple)):
        return [_resolved(part, env) for part in entry]
    return env[entry] if type(entry).__name__ == "Node" else entry
