"""zoo/networks_on_data.py: merged networks, and the lines between two, on inputs from files. Joins reading with running."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nfn_cli.errors import Refused, WrongUsage
from nfn_cli.graph.model import Network
from nfn_cli.match.barrier import Curves, NotRun
from nfn_cli.match.merge_result import Merged
from nfn_cli.zoo.network_inputs import read_inputs

if TYPE_CHECKING:
    from nfn_cli.networks.line_of_networks import Data

Tensors = Mapping[str, np.ndarray[Any, np.dtype[Any]]]
BATCH_NORM = ("recompute", "average")


@dataclass(frozen=True)
class DataSet:
    """Where inputs come from; see `network_inputs.read_inputs`.

    Attributes:
        inputs: file or folder of what is run.
        statistics: the same for what batch norm statistics are measured on; None: on the inputs.
        batch_norm: "recompute": they are measured; "average": they are averaged like weights.
        pixels: what 0 and 255 of images become.
        rows: of either, at most.
    """

    inputs: str | Path
    statistics: str | Path | None = None
    batch_norm: str = BATCH_NORM[0]
    pixels: tuple[float, float] = (-1.0, 1.0)
    rows: int = 1000

    def __post_init__(self) -> None:
        if self.batch_norm not in BATCH_NORM:
            raise WrongUsage(f"unknown {self.batch_norm!r} for batch norms", fix=f"one of {', '.join(BATCH_NORM)}")

    def read(self, network: Network) -> Data:
        """Inputs as the network takes them: images have its number of channels."""
        from nfn_cli.networks.line_of_networks import Data

        shape = network.graph.inputs[0].shape if network.graph.inputs else ()
        channels = shape[1] if len(shape) == 4 else None
        found = read_inputs(self.inputs, channels=channels, pixels=self.pixels, rows=self.rows)
        if self.batch_norm == "average":
            return Data(found.values, found.labels, None)
        if self.statistics is None:
            return Data(found.values, found.labels, found.values)
        others = read_inputs(self.statistics, channels=channels, pixels=self.pixels, rows=self.rows)
        return Data(found.values, found.labels, others.values)


def merged_on(merged: Merged, networks: Sequence[Network], data: DataSet) -> Merged:
    """The merged networks with batch norm statistics measured on the data, and what they do there.

    Raises:
        Refused: none of the networks can be run on the data (code "cannot-evaluate"); bad data.
    """
    from nfn_cli.networks.line_of_networks import merged_on_data

    found = [merged_on_data(merged, network, data.read(network)) for network in networks]
    _check_some_were_run([each.not_run for each, _ in found])
    statistics = {name: array for _, measured in found for name, array in measured.items()}
    return merged.with_statistics(statistics, tuple(each for each, _ in found))


def curves_on(
    networks: Sequence[Network],
    first: Tensors,
    second: Tensors,
    aligned: Tensors,
    shares: Sequence[float],
    data: DataSet,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Curves | NotRun, ...]:
    """For each network its curves; arguments and errors as for `network_curves` and `merged_on`.

    Args:
        progress: is told how many of how many points were run.
    """
    from nfn_cli.networks.line_of_networks import network_curves

    count = itertools.count(1)
    total = 2 * len(shares) * len(networks)

    def told() -> None:
        progress(next(count), total)

    found = tuple(
        network_curves(network, first, second, aligned, shares, data.read(network), told) for network in networks
    )
    _check_some_were_run([each.reason if isinstance(each, NotRun) else None for each in found])
    return found


def _check_some_were_run(reasons: Sequence[str | None]) -> None:
    if all(reasons):
        raise Refused(
            f"no network can be run on these data: {next(iter(reasons), 'there is none')}",
            fix="--arch may tell what the file does not",
            code="cannot-evaluate",
        )
