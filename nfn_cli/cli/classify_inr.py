"""cli/classify_inr.py: `nfn classify-inr`. Parses, calls, renders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from nfn_cli.cli import inr_options as i
from nfn_cli.cli import options as o

if TYPE_CHECKING:
    from nfn_cli.api import Model
    from nfn_cli.errors import NfnError
    from nfn_cli.predictors.inr_predictor import InrAnswer

_PIECE = 512  # inputs asked at once
_DIGITS = 6


def _classifiers(incomplete: str) -> list[str]:
    from nfn_cli.predictors import shipped_inr_classifiers

    return [card.name for card in shipped_inr_classifiers() if card.name.startswith(incomplete)]


def classify_inr(
    inputs: o.Inputs,
    predictor: Annotated[
        Optional[str],  # noqa: UP045 — typer reads these annotations on Python 3.10 too
        typer.Option(
            "--predictor",
            metavar="NAME|DIR",
            help="A shipped classifier or a folder with card.json.  [default: the one that knows such images]",
            autocompletion=_classifiers,
        ),
    ] = None,
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--model", metavar="NAME", help="Kind of classifier: probe, phasor, monomial-nfn.  [default: the best]"
        ),
    ] = None,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Of all classes, too.")] = False,
    coordinates: i.StatedCoordinates = None,
    activation: o.Activation = None,
    omega: o.Omega = None,
    layers: o.Layers = None,
    json: o.Json = False,
) -> None:
    """Say what an INR shows, with a calibrated probability.

    The answer is the same for every member of the network's orbit: signs, phases and permutations of units do not show. Files
    of nfn fit-inr say how they are run; for those of other people name the activation and ω.

    Examples:

      nfn classify-inr siren.safetensors

      nfn classify-inr siren.pth --predictor inr-mnist --activation sin --omega 30

      ls inrs/*.safetensors | nfn classify-inr - --model phasor --json
    """
    from nfn_cli.api import classify_inrs
    from nfn_cli.cli import render
    from nfn_cli.cli.jsonl import write_object
    from nfn_cli.cli.session import Session, expanded
    from nfn_cli.cli.work_progress import counted
    from nfn_cli.errors import NfnError
    from nfn_cli.predictors.inr_classify import chosen_classifiers

    session = Session("classify-inr", json)
    names = o.name_options(activation, layers, None, omega, None, None)
    where = None if coordinates is None else i.coordinates_of(coordinates)
    chosen_classifiers(predictor, model)
    rows = []
    paths = list(expanded(inputs))
    waiting = counted(paths, session.command)
    while piece := [path for path, _ in zip(waiting, range(_PIECE), strict=False)]:
        opened: dict[str, Model] = {}
        failed: dict[str, NfnError] = {}
        for path in piece:
            with session.collected(path, failed):
                opened[path] = i.opened_inr(path, names)
        found = classify_inrs(list(opened.values()), predictor=predictor, model=model, coordinates=where)
        answers = dict(zip(opened, found, strict=True))
        for path in piece:
            answer = failed[path] if path in failed else answers[path]
            if isinstance(answer, NfnError):
                session.fail(path, answer)
            elif json:
                write_object(_object(path, answer, probabilities))
            else:
                rows.append([path, answer.label, f"{answer.probability:.4f}", _trusted(answer), answer.predictor])
    if rows:
        columns = [("INR", "left"), ("shows", "left"), ("probability", "right")]
        render.table([*columns, ("trained for such", "left"), ("predictor", "left")], rows)
    session.end()


def _object(path: str, answer: InrAnswer, probabilities: bool) -> dict[str, Any]:
    told: dict[str, Any] = {
        "schema": "nfn.classify-inr/1",
        "path": path,
        "class": answer.number,
        "label": answer.label,
        "probability": round(answer.probability, _DIGITS),
        "predictor": answer.predictor,
        "in_distribution": answer.in_distribution,
    }
    if probabilities:
        told["probabilities"] = [round(each, _DIGITS) for each in answer.probabilities]
    return told


def _trusted(answer: InrAnswer) -> str:
    return "yes" if answer.in_distribution else "no"
