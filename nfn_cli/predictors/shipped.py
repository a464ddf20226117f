"""predictors/shipped.py: where the predictors that come with the package lie. Knows folders; no torch."""

from __future__ import annotations

import json
from pathlib import Path

import nfn_cli
from nfn_cli.errors import WrongUsage
from nfn_cli.predictors.card import SCHEMA, Card, read_card
from nfn_cli.predictors.inr_card import INR_SCHEMA, InrCard, inr_card


def shipped_folder() -> Path:
    """`nfn_cli/shipped_models` of an installed wheel, or `models/` beside the package in a working copy."""
    package = Path(nfn_cli.__file__).resolve().parent
    inside = package / "shipped_models"
    return inside if inside.is_dir() else package.parent / "models"


def shipped_predictors() -> tuple[Card, ...]:
    """Cards of all shipped predictors of test accuracy, by name."""
    return tuple(read_card(path.parent) for path in shipped_cards(SCHEMA))


def shipped_inr_classifiers() -> tuple[InrCard, ...]:
    """Cards of all shipped classifiers of INRs, by name."""
    return tuple(inr_card(json.loads(path.read_text()), path) for path in shipped_cards(INR_SCHEMA))


def shipped_cards(schema: str) -> tuple[Path, ...]:
    """The card.json of each shipped folder whose card says that it follows this schema, by name of the folder."""
    paths = sorted(shipped_folder().glob("*/card.json"))
    return tuple(path for path in paths if json.loads(path.read_text()).get("schema") == schema)


def predictor_folder(name_or_folder: str) -> Path:
    """Folder of a predictor: a shipped name, or a folder with a card.json.

    Raises:
        WrongUsage: neither; the message lists the shipped names.
    """
    shipped = shipped_folder() / name_or_folder
    if "/" not in name_or_folder and (shipped / "card.json").is_file():
        return shipped
    folder = Path(name_or_folder)
    if (folder / "card.json").is_file():
        return folder
    names = ", ".join(sorted(path.parent.name for path in shipped_folder().glob("*/card.json"))) or "none"
    raise WrongUsage(
        f"no predictor {name_or_folder!r}",
        fix=f"shipped: {names}; or name a folder with card.json",
        code="unknown-predictor",
    )
