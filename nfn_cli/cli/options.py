"""cli/options.py: arguments and options that several commands share. Imports typer only: `nfn --help` must be fast."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from nfn_cli.graph import NameOptions


def _activations(incomplete: str) -> list[str]:
    from nfn_cli.graph.activations import ACTIVATIONS

    return [name for name in ACTIVATIONS if name.startswith(incomplete)]


def _architectures(incomplete: str) -> list[str]:
    from nfn_cli.graph.architectures import known_architectures

    return [name for name in known_architectures() if name.startswith(incomplete)]


def predictor_names(incomplete: str) -> list[str]:
    """Completion of shipped predictors."""
    from nfn_cli.predictors import shipped_predictors

    return [card.name for card in shipped_predictors() if card.name.startswith(incomplete)]


def _models(incomplete: str) -> list[str]:
    from nfn_cli.predictors.card import MODELS

    return [name for name in MODELS if name.startswith(incomplete)]


def words(*known: str) -> Callable[[str], list[str]]:
    """Completion of an option that takes one of a few words."""
    return lambda incomplete: [word for word in known if word.startswith(incomplete)]


_READING = "How to read the network"

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="CKPT",
        help="Checkpoints: a file, DIR#row of a zoo, hf://owner/repo[@rev]/file, or - for a list on stdin.",
    ),
]
Input = Annotated[str, typer.Argument(metavar="CKPT", help="A file, DIR#row of a zoo, or hf://owner/repo[@rev]/file.")]
Zoos = Annotated[
    list[str],
    typer.Option("--zoo", metavar="DIR", help="A zoo in any form that nfn zoo info reads; may be given again."),
]
Model = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--model",
        metavar="NAME",
        help="Kind of predictor: probe, unit-graph, monomial-nfn, or a baseline (stat-net, np, hnp).",
        autocompletion=_models,
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="File to write; never the input.", show_default=False)]
Force = Annotated[bool, typer.Option("--force", help="Replace the output if it exists.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
Seed = Annotated[int, typer.Option("--seed", help="For everything random.", min=0)]
Activation = Annotated[
    Optional[str],  # noqa: UP045 — typer reads these annotations on Python 3.10 too
    typer.Option(
        "--activation",
        metavar="NAME[,NAME…]",
        help="Activation of the hidden layers: one, or one for each. Never guessed.",
        autocompletion=_activations,
        rich_help_panel=_READING,
    ),
]
Layers = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--layers", metavar="NAME,NAME,…", help="Weights of one network, in order.", rich_help_panel=_READING),
]
Pooling = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--pooling",
        metavar="none|average|max",
        help="Pooling between convolutions.",
        autocompletion=words("none", "average", "max"),
        rich_help_panel=_READING,
    ),
]
Omega = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--omega",
        metavar="W[,W…]",
        help="Frequency: σ(ωz). One, one for each layer, or 30,1,...",
        rich_help_panel=_READING,
    ),
]
Concat = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--concat",
        metavar="hidden-first|input-first",
        help="Order where an input joins hidden units.",
        autocompletion=words("hidden-first", "input-first"),
        rich_help_panel=_READING,
    ),
]
Residual = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--residual",
        metavar="yes|no",
        help="Whether blocks add their input.",
        autocompletion=words("yes", "no"),
        rich_help_panel=_READING,
    ),
]
Arch = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--arch",
        metavar="LIB:NAME|FILE.py:FACTORY",
        help="Architecture: torchvision:resnet50, timm:NAME, or a function that makes the module.",
        autocompletion=_architectures,
        rich_help_panel=_READING,
    ),
]
TrustCode = Annotated[bool, typer.Option("--trust-code", help="Allow --arch to run FILE.py.", rich_help_panel=_READING)]
Predictor = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--predictor",
        metavar="NAME|DIR",
        help="A shipped predictor or a folder with card.json; default: the best that takes the network.",
        autocompletion=predictor_names,
    ),
]


def name_options(
    activation: str | None,
    layers: str | None,
    pooling: str | None,
    omega: str | None,
    concat: str | None,
    residual: str | None,
    arch: str | None = None,
    trust_code: bool = False,
) -> NameOptions:
    from nfn_cli.graph import NameOptions

    return NameOptions(activation, layers, pooling, omega, concat, residual, arch, trust_code)
