"""cli/predict_generalization.py: `nfn predict-generalization`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nfn_cli.cli import options as o

if TYPE_CHECKING:
    from nfn_cli.api import Model

_PIECE = 256  # inputs asked at once
_DIGITS = 6  # what a prediction can mean at most, and what rounding errors of another batch do not reach


def predict_generalization(
    inputs: o.Inputs,
    predictor: o.Predictor = None,
    model: o.Model = None,
    activation: o.Activation = None,
    layers: o.Layers = None,
    pooling: o.Pooling = None,
    omega: o.Omega = None,
    concat: o.Concat = None,
    residual: o.Residual = None,
    json: o.Json = False,
) -> None:
    """Predict the test accuracy of a network; no test data is needed.

    Prints the predicted accuracy, a 90% interval calibrated on held-out training runs, and whether the network is inside
    what the predictor was trained for. Among the shipped predictors that take the network the best one is asked; the
    weight-only ones (--model monomial-nfn, unit-graph) never run it. A network that none takes is refused with exit
    code 3.

    Examples:

      nfn predict-generalization model.safetensors

      nfn predict-generalization runs/*.safetensors --json

      nfn predict-generalization zoo#17 --model monomial-nfn
    """
    from nfn_cli.api import open_model, predict_many
    from nfn_cli.cli import render
    from nfn_cli.cli.jsonl import write_object
    from nfn_cli.cli.session import Session, expanded
    from nfn_cli.cli.work_progress import counted
    from nfn_cli.errors import NfnError
    from nfn_cli.predictors.shipped import predictor_folder

    session = Session("predict-generalization", json)
    names = o.name_options(activation, layers, pooling, omega, concat, residual)
    if predictor is not None:
        predictor_folder(predictor)
    rows = []
    paths = list(expanded(inputs))
    answers = counted(paths, session.command)
    while piece := [path for path, _ in zip(answers, range(_PIECE), strict=False)]:
        models: list[Model | NfnError] = []
        for path in piece:
            try:
                models.append(open_model(path, names))
            except NfnError as error:
                if Session.debug:
                    raise
                models.append(error)
        predicted = iter(
            predict_many([m for m in models if not isinstance(m, NfnError)], predictor=predictor, model=model)
        )
        for path, opened in zip(piece, models, strict=True):
            answer = opened if isinstance(opened, NfnError) else next(predicted)
            if isinstance(answer, NfnError):
                session.fail(path, answer)
                continue
            row = {
                "schema": "nfn.predict-generalization/1",
                "path": path,
                "predicted_test_accuracy": round(answer.predicted_test_accuracy, _DIGITS),
                "interval": [round(end, _DIGITS) for end in answer.interval],
                "predictor": answer.predictor,
                "in_distribution": answer.in_distribution,
            }
            if json:
                write_object(row)
            else:
                rows.append(row)
    if rows:
        render.predictions(rows)
    session.end()
