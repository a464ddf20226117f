"""cli/zoo.py: `nfn zoo`, the commands about data sets whose rows are networks."""

from __future__ import annotations

import typer

from nfn_cli.cli.listed_commands import SETTINGS, Listed, ListedGroup


class ZooCommands(ListedGroup):
    """What `nfn zoo` lists."""

    listed = (
        Listed("import", "zoo_import:import_", "Bring a zoo of any form into shards."),
        Listed("info", "zoo_info:info", "Tell what a zoo holds."),
        Listed("split", "zoo_split:split", "Split a zoo by run, to train and to test."),
        Listed("train-cnns", "zoo_train_cnns:train_cnns", "Train a population of small CNNs."),
        Listed("fit-inrs", "zoo_fit_inrs:fit_inrs", "Fit one INR to every image of a set."),
    )


_HELP = """Data sets whose rows are networks: look at them, bring them into shards, split them, make them.

Example:

\b
  nfn zoo import runs/scores.csv -o zoo
  nfn zoo info zoo
  nfn symmetry-report zoo#0
"""

zoo = typer.Typer(cls=ZooCommands, name="zoo", help=_HELP, add_completion=False, **SETTINGS)


@zoo.callback()
def _root() -> None:
    """Keeps typer from making a command of a group without any."""
