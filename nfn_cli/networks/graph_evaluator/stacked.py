"""networks/graph_evaluator/stacked.py: many networks of one graph on the same inputs. Torch; no file."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph
from nfn_cli.networks.graph_evaluator.registry import CODE
from nfn_cli.networks.graph_evaluator.rows import evaluate, evaluate_in_rows, rows_at_once
from nfn_cli.networks.graph_evaluator.shapes import value_entries

_SHARE = 4  # the part of a device's free memory, as 1/n, that values of networks run side by side may take


def evaluate_stacked(graph: Graph, stacked: Mapping[str, Tensor], inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """Run n networks of one graph on the same inputs.

    One after another on a CPU, where that is fastest; side by side elsewhere, as many at a time as memory allows.

    Args:
        graph: what each of them computes.
        stacked: the graph's parameters by name, (n, *shape), n > 0.
        inputs: as for `evaluate`.

    Returns:
        The graph's outputs in order, (n, *output shape).

    Raises:
        Refused: as for `evaluate`, or tensors of different numbers of networks.
    """
    tensors = {name: stacked[name] for name in graph.parameter_shapes if name in stacked}
    counts = {len(tensor) for tensor in tensors.values()}
    if len(counts) != 1 or 0 in counts:
        raise Refused(f"tensors of {sorted(counts)} networks, not of one number of them", code=CODE)
    (count,) = counts
    device = next(iter(tensors.values())).device
    if device.type == "cpu":
        rows = rows_at_once(graph, inputs)
        each = [
            evaluate_in_rows(graph, {name: t[row] for name, t in tensors.items()}, inputs, rows) for row in range(count)
        ]
        return tuple(torch.stack(answers) for answers in zip(*each, strict=True))
    chunk = max(1, _memory(device) // (_SHARE * max(1, value_bytes(graph, inputs))))
    return side_by_side(graph, tensors, inputs, min(chunk, count))


def side_by_side(
    graph: Graph, tensors: Mapping[str, Tensor], inputs: Mapping[str, Tensor], chunk: int
) -> tuple[Tensor, ...]:
    """`chunk` networks at a time as one computation."""
    run = torch.func.vmap(lambda own: evaluate(graph, own, inputs), chunk_size=chunk)
    return run(dict(tensors))


def value_bytes(graph: Graph, inputs: Mapping[str, Tensor]) -> int:
    """Bytes of all values that one network makes on these inputs; nothing is computed."""
    some = next(iter(inputs.values()))
    return len(some) * some.element_size() * value_entries(graph, {n: tuple(x.shape[1:]) for n, x in inputs.items()})


def _memory(device: torch.device) -> int:
    """Free bytes of a device; an amount that every one has where that cannot be asked."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 1 << 30
