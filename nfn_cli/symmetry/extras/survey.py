"""symmetry/extras/survey.py: what the rules of the extras look up: who makes and reads a value, which tensors have one use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nfn_cli.graph.model import Graph, Network, Op
from nfn_cli.symmetry.extras.extra import FloatArray, Tensors, vector
from nfn_cli.symmetry.extras.value_shapes import Shape, value_shapes
from nfn_cli.symmetry.solve import Symmetry


@dataclass(frozen=True, eq=False)
class Survey:
    """One network, looked over.

    Attributes:
        graph: its ops.
        tensors: the checkpoint's.
        symmetry: the monomial group, against which extras are counted.
        maker: value -> the op that makes it.
        readers: value -> ops that read it, one entry for each time; the graph's output counts as a reader `None`.
        shapes: of values.
        shared: tensors that several ops, networks or names use; no extra moves them.
    """

    graph: Graph
    tensors: Tensors
    symmetry: Symmetry
    maker: Mapping[str, Op]
    readers: Mapping[str, tuple[Op | None, ...]]
    shapes: Mapping[str, Shape]
    shared: frozenset[str]

    def own(self, op: Op, role: str) -> str | None:
        """The tensor in this role if this op alone uses it."""
        name = op.parameters.get(role)
        return None if name is None or name in self.shared else name

    def free(self, op: Op) -> bool:
        """No tensor of the op has another use."""
        return not any(name in self.shared for name in op.parameters.values())

    def vector(self, name: str) -> FloatArray:
        return vector(self.tensors, name)


def is_exact(op: Op) -> bool:
    """False for a batch norm whose ε nobody knows: what it multiplies by is not known either."""
    return bool(op.attributes.get("eps_known", True))


def survey(
    network: Network, networks: Sequence[Network], tensors: Tensors, aliases: Mapping[str, str], symmetry: Symmetry
) -> Survey:
    graph = network.graph
    readers: dict[str, list[Op | None]] = {}
    for op in graph.ops:
        for name in op.inputs:
            readers.setdefault(name, []).append(op)
    for name in graph.outputs:
        readers.setdefault(name, []).append(None)
    uses = Counter(name for one in networks for op in one.graph.ops for name in op.parameters.values())
    shared = {name for name, count in uses.items() if count > 1} | set(aliases) | set(aliases.values())
    return Survey(
        graph,
        tensors,
        symmetry,
        {op.output: op for op in graph.ops},
        {name: tuple(ops) for name, ops in readers.items()},
        value_shapes(graph),
        frozenset(shared),
    )
