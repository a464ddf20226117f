"""The oracle of maximality: which rescalings and signed permutations of tensor axes keep a small network's function?

Nothing here knows a symmetry rule. An element is any choice, for every axis of every tensor on its own, of a rescaling or
a signed permutation of its slots; whether it keeps the function is found by running the network.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import factorial, prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nfn_cli.graph.model import Graph
from nfn_cli.symmetry.action import TransformedTensors
from nfn_cli.symmetry.element import FlatElement, identity
from nfn_cli.symmetry.solve import Symmetry

from .networks import Tensors
from .torch_evaluator import run

# Float64 derivatives are exact to about 1e-13; what a symmetry leaves is that, what is none is far larger. A singular value
# between the two bounds (relative to the largest) is no answer, and is raised.
_ZERO, _NONZERO = 1e-10, 1e-7
_SAME = 1e-9  # relative change of outputs under a symmetry; another element changes them by order 1
_LARGEST_SEARCH = 1 << 16
_CHUNK = 1 << 13
_DRAWS = 6  # of weights and inputs


@dataclass(frozen=True)
class Handle:
    """One axis of one tensor; of a grouped convolution's weight, axis 1 of the rows of one group.

    A slot's factor c multiplies entries as θ → c**power·(θ + offset) − offset.
    """

    tensor: str
    dim: int
    size: int
    rows: tuple[int, int] | None = None
    power: int = 1
    offset: float = 0.0
    trained: bool = True
    kernel: bool = False


def handles(graph: Graph) -> list[Handle]:
    """Every axis of every tensor, by what the ops that read it say about it."""
    found: dict[str, list[Handle]] = {}
    for op in graph.ops:
        for role, tensor in op.parameters.items():
            shape = graph.parameter_shapes[tensor]
            how: dict[str, Any] = {"trained": bool(op.attributes.get("trained", True))}
            if role == "running_var":
                how |= {"power": 2, "offset": float(op.attributes["eps"])}
            dims = [dim for dim, size in enumerate(shape) if size > 1] or [0]
            conv = (op.kind, role) == ("conv", "weight")
            axes = [Handle(tensor, dim, shape[dim], kernel=conv and dim > 1, **how) for dim in dims]
            groups = int(op.attributes.get("groups", 1)) if conv else 1
            if groups > 1:  # rows of axis 0 fall into groups, in direct and in transposed convolutions
                step = shape[0] // groups
                axes = [handle for handle in axes if handle.dim != 1] + [
                    Handle(tensor, 1, shape[1], (start, start + step), **how) for start in range(0, shape[0], step)
                ]
            found[tensor] = axes
    return [handle for axes in found.values() for handle in axes]


# --- scales -----------------------------------------------------------------------------------------------------------


def scale_dimension(graph: Graph, tensors: Tensors, seed: int = 0, true_statistics: bool = True) -> int:
    """Dimension of the group of all rescalings of tensor axes that keep the function, modulo those that move nothing.

    v ↦ d/dt f(θ·exp(t v)) is linear in the log-scales v; a one-parameter group that keeps f is in its null space at every
    θ. The null space over several random θ and inputs is counted, less the v that move no tensor.

    Args:
        true_statistics: a batch norm's mean and variance must stay those of its input. Without this, each of its channels has
            one more scale in evaluation: var + ε → c²(var + ε) with γ → c·γ, which training would not keep.
    """
    variables = [(handle, slot) for handle in handles(graph) if handle.trained for slot in range(handle.size)]
    moved = _tangents(variables, _as_torch(tensors))
    moves = torch.cat([moved[name].reshape(len(variables), -1) for name in moved], 1).T
    rows, count = [], 0
    for draw in itertools.count():
        parameters = _perturbed(graph, tensors, seed + draw)
        rows.append(_derivatives(graph, parameters, variables, seed + draw, true_statistics))
        count += rows[-1].shape[0]
        if draw >= _DRAWS and count >= 2 * len(variables):
            break
    return _rank(moves) - _rank(torch.cat(rows))


def _tangents(variables: list[tuple[Handle, int]], parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """(variables, *shape) for each tensor: how it moves when one slot's log-scale does."""
    out = {name: torch.zeros(len(variables), *value.shape, dtype=torch.float64) for name, value in parameters.items()}
    for number, (handle, slot) in enumerate(variables):
        where = _slot(handle, slot, parameters[handle.tensor].ndim)
        out[handle.tensor][number][where] = handle.power * (parameters[handle.tensor][where] + handle.offset)
    return out


def _slot(handle: Handle, slot: int, rank: int) -> tuple[Any, ...]:
    where: list[Any] = [slice(None)] * rank
    where[0] = slice(*handle.rows) if handle.rows else slice(None)
    where[handle.dim] = slot
    return tuple(where)


def _derivatives(
    graph: Graph, parameters: Mapping[str, Tensor], variables: list[tuple[Handle, int]], seed: int, normalized: bool
) -> Tensor:
    """(outputs, variables)."""
    inputs = random_inputs(graph, seed)

    def function(p: dict[str, Tensor]) -> Tensor:
        return run(graph, p, inputs, normalized)

    def derivative(tangent: dict[str, Tensor]) -> Tensor:
        out: Tensor = torch.func.jvp(function, (dict(parameters),), (tangent,))[1]
        return out

    return torch.func.vmap(derivative)(_tangents(variables, parameters)).T


def _rank(matrix: Tensor) -> int:
    values = torch.linalg.svdvals(matrix)
    relative = values / values[0]
    unclear = relative[(relative > _ZERO) & (relative < _NONZERO)]
    if len(unclear):
        raise ArithmeticError(f"singular values {unclear.tolist()} are neither zero nor not")
    return int((relative >= _NONZERO).sum())


# --- signed permutations ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Moves:
    """What is tried on each axis: permutations, signs or both."""

    permutations: bool = True
    signs: bool = True


@dataclass(frozen=True)
class Discrete:
    """The tensors (as bytes) of all members of the orbit of one set of weights that were found."""

    members: frozenset[bytes]

    def __len__(self) -> int:
        return len(self.members)


def discrete_symmetries(
    graph: Graph, tensors: Tensors, moves: Moves = Moves(), held: tuple[tuple[str, int], ...] = (), seed: int = 0
) -> Discrete:
    """All signed permutations of tensor axes that keep the function, counted by what they make of the tensors.

    Args:
        held: (tensor, axis) pairs that are not moved, to keep the search small.

    Raises:
        ValueError: more candidates than can be tried.
    """
    by_tensor: dict[str, list[Handle]] = {}
    for handle in handles(graph):
        if not handle.kernel and (handle.tensor, handle.dim) not in held:  # kernel positions are the grid's, not units
            by_tensor.setdefault(handle.tensor, []).append(handle)
    candidates = prod(_tried(handle, moves) for axes in by_tensor.values() for handle in axes)
    if candidates > 64 * _LARGEST_SEARCH:  # different moves of one tensor's axes may do the same
        raise ValueError(f"{candidates} candidates are too many")
    variants = {name: _variants(tensors[name].shape, axes, moves) for name, axes in by_tensor.items()}
    sizes = [len(stack) for stack in variants.values()]
    if prod(sizes) > _LARGEST_SEARCH:
        raise ValueError(f"{prod(sizes)} candidates are too many: {dict(zip(variants, sizes, strict=True))}")
    found = np.arange(prod(sizes))
    for draw in range(_DRAWS):
        found = _survivors(graph, _perturbed(graph, tensors, seed + draw), variants, found, seed + draw)
    members = set()
    for number in found:
        choice = np.unravel_index(number, sizes)
        chosen = {name: variants[name].of(tensors[name])[int(i)] for name, i in zip(variants, choice, strict=True)}
        members.add(_bytes({**tensors, **chosen}))
    return Discrete(frozenset(members))


@dataclass(frozen=True)
class Variants:
    """Signed rearrangements of one tensor's entries: (how many, entries) sources and signs; the first changes nothing."""

    source: np.ndarray[Any, Any]
    sign: np.ndarray[Any, Any]

    def __len__(self) -> int:
        return len(self.source)

    def of(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        made: np.ndarray[Any, Any] = array.reshape(-1)[self.source] * self.sign
        return made.reshape(-1, *array.shape)


def _variants(shape: tuple[int, ...], axes: list[Handle], moves: Moves) -> Variants:
    """Every combination of moves of the tensor's axes, each result once."""
    start = np.arange(1, prod(shape) + 1).reshape(shape)  # signed entries' numbers
    results = {start.tobytes(): start}
    for handle in axes:
        for before in list(results.values()):
            for permutation, sign in _moves(handle, moves):
                made = before.copy()
                part = np.moveaxis(made[slice(*handle.rows)] if handle.rows else made, handle.dim, 0)
                part[...] = part[list(permutation)] * np.reshape(sign, (-1, *(1,) * (part.ndim - 1)))
                results.setdefault(made.tobytes(), made)
    stack = np.stack(list(results.values())).reshape(len(results), -1)
    return Variants(np.abs(stack) - 1, np.sign(stack).astype(np.float64))


def _moves(handle: Handle, moves: Moves) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    slots = range(handle.size)
    signed = moves.signs and handle.trained and handle.power == 1
    yield from itertools.product(
        itertools.permutations(slots) if moves.permutations else [tuple(slots)],
        itertools.product((1, -1), repeat=handle.size) if signed else [(1,) * handle.size],
    )


def _tried(handle: Handle, moves: Moves) -> int:
    signed = moves.signs and handle.trained and handle.power == 1
    return (factorial(handle.size) if moves.permutations else 1) * (2**handle.size if signed else 1)


def _survivors(
    graph: Graph,
    weights: Mapping[str, Tensor],
    variants: Mapping[str, Variants],
    candidates: np.ndarray[Any, Any],
    seed: int,
) -> np.ndarray[Any, Any]:
    inputs = random_inputs(graph, seed)
    stacks = {name: torch.tensor(some.of(weights[name].numpy())) for name, some in variants.items()}
    fixed = {name: value for name, value in weights.items() if name not in variants}
    wanted = run(graph, weights, inputs)
    evaluate = torch.func.vmap(lambda p: run(graph, {**fixed, **p}, inputs))
    kept = [candidates[:0]]
    for start in range(0, len(candidates), _CHUNK):
        numbers = candidates[start : start + _CHUNK]
        chosen = np.unravel_index(numbers, [len(stack) for stack in stacks.values()])
        made = evaluate({name: stack[torch.tensor(i)] for (name, stack), i in zip(stacks.items(), chosen, strict=True)})
        change = (made - wanted).abs().amax(1)
        kept.append(numbers[(change <= _SAME * wanted.abs().max()).numpy()])
    return np.concatenate(kept)


# --- what is claimed --------------------------------------------------------------------------------------------------


def claimed_scale_dimension(symmetry: Symmetry, tensors: Tensors) -> int:
    """Dimension of the claimed scales by what they do to the tensors; less than the number of classes if some do nothing."""
    classes = symmetry.classes["scale"]
    rows = []
    for number in range(int(classes.max(initial=-1)) + 1):
        element = identity(symmetry)
        element.scale[classes == number] = 2.0
        moved = TransformedTensors(tensors, {}, symmetry, element)
        rows.append(np.concatenate([(moved[name] / array).reshape(-1) for name, array in tensors.items()]))
    return int(np.linalg.matrix_rank(np.log(np.abs(np.stack(rows))))) if rows else 0


def claimed_discrete(symmetry: Symmetry, tensors: Tensors, moves: Moves = Moves()) -> Discrete:
    """All tensors that the claimed permutations and signs lead to."""
    members = set()
    for permutation in _permutations(symmetry) if moves.permutations else [identity(symmetry).permutation]:
        for sign in _signs(symmetry) if moves.signs else [identity(symmetry).sign]:
            plain = identity(symmetry)
            view = TransformedTensors(tensors, {}, symmetry, FlatElement(permutation, plain.scale, sign, plain.shift))
            members.add(_bytes({name: np.asarray(view[name]) for name in tensors}))
    return Discrete(frozenset(members))


def _permutations(symmetry: Symmetry) -> Iterator[np.ndarray[Any, Any]]:
    exchanges: dict[int, list[tuple[int, ...]]] = {}
    for s in symmetry.unit_sets:
        if s.permutable and s.block_size:
            exchanges[s.block_family] = list(itertools.permutations(range(s.size // s.block_size)))
    for chosen in itertools.product(*exchanges.values()):
        order = dict(zip(exchanges, chosen, strict=True))
        parts = []
        for s in symmetry.unit_sets:
            if not s.permutable:
                parts.append([np.arange(s.size)])
            elif s.block_size:
                inner = itertools.product(itertools.permutations(range(s.block_size)), repeat=s.size // s.block_size)
                start = np.array(order[s.block_family])[:, None] * s.block_size
                parts.append([(start + np.array(within)).reshape(-1) for within in inner])
            else:
                parts.append([np.array(p, np.int64) for p in itertools.permutations(range(s.size))])
        for one in itertools.product(*parts):
            pieces = [part + s.start for part, s in zip(one, symmetry.unit_sets, strict=True)]
            yield np.concatenate([np.zeros(0, np.int64), *pieces])


def _signs(symmetry: Symmetry) -> Iterator[np.ndarray[Any, Any]]:
    classes = symmetry.classes["sign"]
    for choice in itertools.product((1.0, -1.0), repeat=int(classes.max(initial=-1)) + 1):
        yield np.array(choice, np.float64)[classes]


# --- shared -----------------------------------------------------------------------------------------------------------


def random_inputs(graph: Graph, seed: int, batch: int = 6, spatial: int = 4) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        entry.name: 3  # far enough out that functions with bounds show them
        * torch.randn(
            [(batch if axis == 0 else spatial) if size is None else size for axis, size in enumerate(entry.shape)],
            generator=generator,
            dtype=torch.float64,
        )
        for entry in graph.inputs
    }


def _as_torch(tensors: Tensors) -> dict[str, Tensor]:
    return {name: torch.tensor(array, dtype=torch.float64) for name, array in tensors.items()}


def _perturbed(graph: Graph, tensors: Tensors, seed: int) -> dict[str, Tensor]:
    """Other weights of the same sizes, variances positive: a unit that is dead or always on in one draw is not in another."""
    generator = torch.Generator().manual_seed(seed)
    by_tensor = {handle.tensor: handle for handle in handles(graph)}
    out = _as_torch(tensors)
    for name, handle in by_tensor.items():
        if handle.trained:
            noise = torch.randn(out[name].shape, generator=generator, dtype=torch.float64)
            size = out[name].square().mean().sqrt()
            out[name] = size * (noise if handle.power == 1 else torch.exp(0.5 * noise))
    return out


def _bytes(tensors: Tensors) -> bytes:
    return b"".join((np.asarray(tensors[name], np.float64) + 0.0).tobytes() for name in sorted(tensors))
