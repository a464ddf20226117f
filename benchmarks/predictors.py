"""benchmarks/predictors.py: the README's table of shipped predictors, written from their cards.

python benchmarks/predictors.py
"""

from __future__ import annotations

from nfn_cli.predictors import Card, shipped_predictors

_HEAD = ("predictor", "reads", "τ, test runs", "τ, out of fold", "interval covers", "wrong alarms", "untrained noticed")


def table() -> str:
    """Markdown, the best predictor first: what is measured on test runs, and out of fold beside it."""
    cards = sorted(shipped_predictors(), key=lambda card: -float(card.out_of_fold["kendall_tau"]))
    lines = ["| " + " | ".join(_HEAD) + " |", "| " + " | ".join(["---"] * len(_HEAD)) + " |"]
    return "\n".join([*lines, *(_row(card) for card in cards)])


def _row(card: Card) -> str:
    measured = card.measured
    noticed = min(measured["alarm_on_reinitialised"], measured["alarm_on_shuffled"])
    cells = (
        f"`{card.name}`",
        card.model,
        f"{card.test['kendall_tau']:.3f} ({card.test['count']})",
        f"{card.out_of_fold['kendall_tau']:.3f} ({card.out_of_fold['count']})",
        f"{measured['coverage']:.1%}",
        f"{measured['alarm_on_test']:.1%}",
        f"{noticed:.1%}",
    )
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    print(table())
