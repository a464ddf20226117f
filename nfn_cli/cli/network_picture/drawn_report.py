"""cli/network_picture/drawn_report.py: a report and the graphs it speaks of, ready to draw."""

from __future__ import annotations

from nfn_cli.api import Model
from nfn_cli.cli.network_picture.drawing import Drawn
from nfn_cli.cli.network_picture.layer_rows import layer_rows
from nfn_cli.symmetry.report import Report
from nfn_cli.symmetry.solve import find_symmetry


def drawn(model: Model, report: Report) -> list[Drawn]:
    """Each network with its rows; unit sets under their numbers in the whole checkpoint."""
    aliases = model.checkpoint.aliases
    symmetry = find_symmetry(model.networks, aliases)
    found = []
    for number, (network, said) in enumerate(zip(model.networks, report.networks, strict=True)):
        own = [n for n, unit_set in enumerate(symmetry.unit_sets) if unit_set.network == number]
        sets = dict(zip(own, said.unit_sets, strict=True))
        found.append(Drawn(said, layer_rows(network, number, symmetry, aliases), sets))
    return found
