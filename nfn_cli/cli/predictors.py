"""cli/predictors.py: `nfn predictors`."""

from __future__ import annotations

from nfn_cli.cli import options as o


def predictors(json: o.Json = False) -> None:
    """List the predictors that come with the tool, with what they take and how well they do on networks set aside.

    Predictors of test accuracy (for nfn predict-generalization), classifiers of INRs (nfn classify-inr) and editors of INRs
    (nfn edit-inr). Their cards, with data, split and the command that makes them again, lie beside their weights.

    Examples:

      nfn predictors

      nfn predictors --json
    """
    from nfn_cli.cli import render
    from nfn_cli.cli.jsonl import write_object
    from nfn_cli.cli.session import Session
    from nfn_cli.predictors import shipped_inr_classifiers, shipped_predictors
    from nfn_cli.predictors.inr_edit_card import editor_folder, read_editor_card, shipped_editors

    session = Session("predictors", json)
    cards, inrs = shipped_predictors(), shipped_inr_classifiers()
    editors = [read_editor_card(editor_folder(name)) for name in shipped_editors()]
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
        for editor in editors:
            write_object(
                {
                    "schema": "nfn.predictors/1",
                    "name": editor.name,
                    "summary": editor.operator,
                    "model": "inr-editor",
                    "takes": editor.takes,
                    "parameters": editor.parameters,
                    "squared_error": editor.squared_errors()[1],
                    "squared_error_unedited": editor.squared_errors()[0],
                }
            )
        session.end()
    rows = [
        [card.name, card.model, f"Kendall τ {card.test['kendall_tau']:.3f}, R² {card.test['r2']:.3f}"] for card in cards
    ]
    rows += [[inr.name, inr.model, f"accuracy {inr.test['accuracy']:.2%}"] for inr in inrs]
    for editor in editors:
        before, after = editor.squared_errors()
        rows.append([editor.name, "inr-editor", f"error {after:.4f}, unedited {before:.3f}"])
    render.table([("name", "left"), ("model", "left"), ("on test networks", "left")], rows)
    taken = [(card.name, str(card.taken)) for card in cards]
    taken += [(inr.name, inr.takes) for inr in inrs] + [(editor.name, editor.takes) for editor in editors]
    for name, takes in taken:
        render.line(f"{name} takes {takes}")  # below the table: a name must stay in one piece, to be copied
    session.end()
