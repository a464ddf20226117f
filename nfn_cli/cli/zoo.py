"""cli/zoo.py: `nfn zoo`, the commands about data sets whose rows are networks. Imports typer only: help must be fast."""

from __future__ import annotations

import typer

from nfn_cli.cli.zoo_fit_inrs import fit_inrs
from nfn_cli.cli.zoo_import import import_
from nfn_cli.cli.zoo_info import info
from nfn_cli.cli.zoo_split import split
from nfn_cli.cli.zoo_train_cnns import train_cnns

zoo = typer.Typer(
    name="zoo",
    help="Data sets whose rows are networks: look at them, bring them into shards, split them, make them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
zoo.command("import")(import_)
zoo.command("info")(info)
zoo.command("split")(split)
zoo.command("train-cnns")(train_cnns)
zoo.command("fit-inrs")(fit_inrs)
