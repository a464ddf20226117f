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
    from nfn_cli.predictors import shipped_predictors

    session = Session("predictors", json)
    cards = shipped_predictors()
    for card in cards if json else ():
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
    if not json:
        render.table(
            [("name", "left"), ("model", "left"), ("Kendall τ", "right"), ("R²", "right")],
            [
                [
                    card.name,
                    card.model,
                    f"{card.test['kendall_tau']:.3f}",
                    f"{card.test['r2']:.3f}",
                ]
                for card in cards
            ],
        )
        for card in cards:  # below the table: a name must stay in one piece, to be copied
            render.line(f"{card.name} takes {card.taken}")
    session.end()
