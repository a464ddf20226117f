"""train/audit_subjects.py: the networks of an audit, their functions, and copies that were never trained. No predictor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from nfn_cli.checkpoint.dtypes import is_floating
from nfn_cli.checkpoint.finite import check_finite
from nfn_cli.checkpoint.model import Array, Checkpoint
from nfn_cli.errors import NfnError
from nfn_cli.graph.model import Network
from nfn_cli.symmetry.check import outputs, relative_change
from nfn_cli.symmetry.extras import Extra, find_extras, survey
from nfn_cli.symmetry.solve import Symmetry, find_symmetry
from nfn_cli.train.audited import Item

Tensors = Mapping[str, Array]
_STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True, eq=False)
class Subject:
    """One network (or several in one file) with float32 weights.

    Attributes:
        outputs: its float64 outputs on random inputs, all networks one after another.
        seed: of these inputs.
    """

    checkpoint: Checkpoint
    networks: tuple[Network, ...]
    symmetry: Symmetry
    outputs: tuple[Any, ...]
    seed: int

    def item(self, tensors: Tensors, dtype: Any) -> Item:
        """The same network with other weights, stored as `dtype`."""
        return replace(self.checkpoint, tensors=stored(tensors, dtype)), self.networks

    def function_change(self, tensors: Tensors) -> float:
        """Largest relative change of the outputs, computed in float64; infinite where they cannot be computed."""
        try:
            after = [value for network in self.networks for value in outputs(network, tensors, self.seed)]
        except NfnError:
            return float("inf")
        return relative_change(self.outputs, after)

    @cached_property
    def extras(self) -> tuple[Extra, ...]:
        """Symmetries beyond the monomial group."""
        tensors, aliases = self.checkpoint.tensors, self.checkpoint.aliases
        surveys = [survey(network, self.networks, tensors, aliases, self.symmetry) for network in self.networks]
        return tuple(extra for one in surveys for extra in find_extras(one))


def subject(item: Item, seed: int = 0) -> Subject:
    """A network ready for an audit; its weights are rounded to float32 first, as those that it is compared with will be.

    Raises:
        Refused: it cannot be run, so that nobody can say which changes keep its function; a weight is not finite; shapes
            disagree.
    """
    checkpoint, networks = item
    checkpoint = replace(checkpoint, tensors=stored(checkpoint.tensors, np.float32))
    check_finite(checkpoint, [name for network in networks for name in network.graph.parameter_shapes])
    before = tuple(value for network in networks for value in outputs(network, checkpoint.tensors, seed))
    return Subject(checkpoint, networks, find_symmetry(networks, checkpoint.aliases), before, seed)


def stored(tensors: Tensors, dtype: Any) -> Tensors:
    """Floating tensors as a file with this element type would hold them; others as they are."""
    with np.errstate(over="ignore"):
        return MappingProxyType(
            {
                name: np.asarray(array).astype(dtype, copy=False) if is_floating(np.asarray(array).dtype) else array
                for name, array in tensors.items()
            }
        )


def untrained_copies(items: Sequence[Item], count: int, seed: int = 0) -> list[Item]:
    """`count` copies of every network: by turns with normal entries of each tensor's own spread, and with its own shuffled."""
    return [
        _redrawn(item, number, np.random.default_rng([seed, place, number]))
        for place, item in enumerate(items)
        for number in range(count)
    ]


def _redrawn(item: Item, number: int, random: np.random.Generator) -> Item:
    checkpoint, networks = item
    used = {name: role for net in networks for op in net.graph.ops for role, name in op.parameters.items()}
    tensors = {}
    for name, array in checkpoint.tensors.items():
        wide = np.asarray(array).astype(np.float64) if name in used and is_floating(array.dtype) else None
        if wide is None:
            tensors[name] = array
        elif number % 2 or used[name] in _STATISTICS:  # a variance stays positive
            tensors[name] = random.permutation(wide.reshape(-1)).reshape(wide.shape).astype(np.float32)
        else:
            spread = np.sqrt(np.mean(wide**2)) if wide.size else 0.0
            tensors[name] = (spread * random.standard_normal(wide.shape)).astype(np.float32)
    aliased = {name: tensors[target] for name, target in checkpoint.aliases.items()}
    what = "shuffled" if number % 2 else "re-initialised"
    path = f"{checkpoint.path} ({what}, {number // 2 + 1})"
    return replace(checkpoint, path=path, tensors=MappingProxyType(tensors | aliased)), networks
