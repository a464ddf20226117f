"""networks/graph_evaluator/run.py: one network on one batch of inputs, op by op, in torch. Knows graphs and tensors; no file.

A captured graph may speak of the batch it was captured with. Where its ops do not show that each row is treated alone,
other batches are cut into groups of that size, run side by side, so that every op means what it meant when captured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph, Op
from nfn_cli.networks.graph_evaluator import layers, pointwise, whole_tensors, windows  # noqa: F401 — fill the table
from nfn_cli.networks.graph_evaluator.batch import for_any_batch, stated_batch
from nfn_cli.networks.graph_evaluator.registry import CODE, EVALUATORS, Parameters
from nfn_cli.printable import printable

Watch = Callable[[Op, Tensor], None]

# what torch raises for values that do not fit an op
_MISFITS = (RuntimeError, ValueError, IndexError, TypeError, KeyError, OverflowError, NotImplementedError)


def watched(
    graph: Graph, tensors: Mapping[str, Tensor], inputs: Mapping[str, Tensor], watch: Watch | None
) -> tuple[Tensor, ...]:
    """As `rows.evaluate`; `watch` sees every value as it is made (of one group, where the batch is cut into groups)."""
    missing = [entry.name for entry in graph.inputs if entry.name not in inputs]
    if missing:
        raise Refused("no value for this input", where=printable(missing[0]), code=CODE)
    fed = {entry.name: inputs[entry.name] for entry in graph.inputs}
    size, given = stated_batch(graph), {x.shape[0] if x.ndim else None for x in fed.values()}
    if not size or len(given) != 1 or given <= {None, size}:
        return _run(graph, tensors, fed, watch)
    general = for_any_batch(graph)
    if general is not None:
        return _run(general, tensors, fed, watch)
    count = next(iter(fed.values())).shape[0]
    groups = -(-count // size)
    cut = {name: _in_groups(x, groups, size) for name, x in fed.items()}
    answers: tuple[Tensor, ...] = torch.func.vmap(lambda group: _run(graph, tensors, group, watch))(cut)
    for answer in answers:
        if answer.ndim < 2 or answer.shape[1] != size:
            raise Refused("an output without an axis for the batch, in a graph of a fixed batch", code=CODE)
    return tuple(answer.flatten(0, 1)[:count] for answer in answers)


def _in_groups(x: Tensor, groups: int, size: int) -> Tensor:
    """(N, …) -> (groups, size, …), the last row repeated where rows are lacking."""
    lacking = groups * size - x.shape[0]
    return (torch.cat([x, x[-1:].expand(lacking, *x.shape[1:])]) if lacking else x).reshape(groups, size, *x.shape[1:])


def _run(
    graph: Graph, tensors: Mapping[str, Tensor], inputs: Mapping[str, Tensor], watch: Watch | None
) -> tuple[Tensor, ...]:
    some = next(iter(inputs.values()), None)
    if some is None:
        raise Refused("a graph without inputs", code=CODE)
    parameters = Parameters(tensors, some.dtype, some.device)
    readers = dict.fromkeys(graph.outputs, 1)
    for op in graph.ops:
        for name in op.inputs:
            readers[name] = readers.get(name, 0) + 1
    values = dict(inputs)
    for op in graph.ops:
        values[op.output] = _made(op, [values[name] for name in op.inputs], parameters)
        if watch is not None:
            watch(op, values[op.output])
        for name in op.inputs:
            readers[name] -= 1
            if not readers[name]:
                del values[name]
    return tuple(values[name] for name in graph.outputs)


def _made(op: Op, inputs: list[Tensor], parameters: Parameters) -> Tensor:
    """The op's value.

    Raises:
        Refused: the op is not known or cannot be run on these values; says which op.
    """
    evaluator = EVALUATORS.get(op.kind)
    if evaluator is None:
        reason = op.attributes.get("reason") if op.kind == "opaque" else None
        what = f"not known: {printable(reason)}" if reason else f"what {printable(op.kind)!r} computes is not known"
        raise Refused(what, where=name_of(op), code=CODE)
    try:
        return evaluator(op, inputs, parameters)
    except Refused as refusal:
        raise refusal.located(name_of(op)) from None
    except torch.OutOfMemoryError:
        raise
    except _MISFITS as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise Refused(f"{op.kind} does not fit: {printable(said, 200)}", where=name_of(op), code=CODE) from None


def name_of(op: Op) -> str:
    """What a user knows the op by: its weight, or the value it makes."""
    return printable(op.parameters.get("weight", op.output))
