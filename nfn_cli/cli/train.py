"""cli/train.py: `nfn train`, the commands that make predictors."""

from __future__ import annotations

import typer

from nfn_cli.cli.listed_commands import SETTINGS, Listed, ListedGroup


class TrainCommands(ListedGroup):
    """What `nfn train` lists."""

    listed = (
        Listed("generalization", "train_generalization:generalization", "A predictor of test accuracy."),
        Listed("inr-classifier", "train_inr:inr_classifier", "A classifier of INRs."),
        Listed("inr-editor", "train_inr_editor:inr_editor", "An editor of sine INRs."),
    )


_HELP = """Train a predictor on a zoo: into a folder with its weights and a card that says on what, how, and how well.

Example:

\b
  nfn zoo train-cnns --data mnist --runs 1024 -o zoo
  nfn train generalization --zoo zoo --activation relu -o my-predictor
"""

train = typer.Typer(cls=TrainCommands, name="train", help=_HELP, add_completion=False, **SETTINGS)


@train.callback()
def _root() -> None:
    """Keeps typer from making a command of a group without any."""
