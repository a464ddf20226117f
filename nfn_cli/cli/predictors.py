"""cli/predictors.py: `nfn predictors`."""

from __future__ import annotations

from nfn_cli.cli import options as o


def predictors(json: o.Json = False) -> None:
    """List the predictors that come with the tool, with what they were trained for and how well they do.

    Example:

      nfn predictors
    """
    from nfn_cli.cli import render
    from nfn_cli.cli.jsonl import write_object
    from nfn_cli.cli.session import Session
    from nfn_cli.predictors import shipped_inr_classifiers, shipped_predictors

    session = Session("predictors", json)
    cards, inrs = shipped_predictors(), shipped_inr_classifiers()
    if json:
        for card in cards:
            write_object(
                {
                    "schema": "nfn.predictors/1",
                    "name": card.name,
                    "summary": card.summary,
                    "model": card.model,
                    "takes": str(card.taken),
                    "parameters": card.parameters,
                    "kendall_tau": card.test.get("kendall_tau"),
                    "r2": card.test.get("r2"),
                }
            )
        for inr in inrs:
            write_object(
                {
                    "schema": "nfn.predictors/1",
                    "name": inr.name,
                    "summary": inr.summary,
                    "model": inr.model,
                    "takes": inr.takes,
                    "parameters": inr.parameters,
                    "accuracy": inr.test.get("accuracy"),
                }
            )
        session.end()
    rows = [
        [card.name, card.model, f"Kendall τ {card.test['kendall_tau']:.3f}, R² {card.test['r2']:.3f}"] for card in cards
    ]
    rows += [[inr.name, inr.model, f"accuracy {inr.test['accuracy']:.2%}"] for inr in inrs]
    render.table([("name", "left"), ("model", "left"), ("on test networks", "left")], rows)
    for name, takes in (*((c.name, str(c.taken)) for c in cards), *((inr.name, inr.takes) for inr in inrs)):
        render.line(f"{name} takes {takes}")  # below the table: a name must stay in one piece, to be copied
    session.end()
