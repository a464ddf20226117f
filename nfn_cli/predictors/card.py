"""predictors/card.py: the page of facts that comes with a predictor. Knows JSON and what predictors take; no torch.

card.json is read by the tool; README.md beside it is written from it, for people.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from nfn_cli.errors import Refused, SurroundingsFailed
from nfn_cli.predictors.takes import Takes, takes_from_json

SCHEMA = "nfn.predictor-card/2"
# Names of models, in words; `--model` takes the names.
MODELS: Mapping[str, str] = {
    "probe": "an MLP on the network's answers to inputs of its own",
    "unit-graph": "message passing on the graph of units, from weights alone",
    "monomial-nfn": "Monomial-NFN, from weights alone",
    "stat-net": "StatNet, an MLP on raw weight statistics (a baseline)",
    "np": "NP of Zhou et al. 2023, from raw weights (a baseline)",
    "hnp": "HNP of Zhou et al. 2023, from raw weights (a baseline)",
}


@dataclass(frozen=True)
class Card:
    """Facts about one predictor.

    Attributes:
        name: what `--predictor` takes.
        summary: one sentence.
        predicts: what the number is.
        model: a key of MODELS.
        takes: fields of `Takes`; everything else is refused.
        blind_to: the symmetries that cannot show in an answer, in words.
        encoder: settings of the part that is not learned from scores.
        architecture: of the members; members: networks whose predictions are averaged.
        contrast: architecture of the network of the in-distribution test.
        parameters: trainable numbers of all members together, probes included, the in-distribution test not counted.
        data: rows, runs and origin of the training data; split: rule, seeds; training: fields of `TrainConfig`.
        test: scores on test runs, seen by nothing before; out_of_fold: scores on the other runs, each predicted by
            members that did not see it.
        interval: fields of `Interval`; in_distribution: thresholds; measured: coverage and alarm rates on test runs.
        reproduce: the command that makes the folder again.
    """

    name: str
    summary: str
    predicts: str
    model: str
    takes: Mapping[str, Any]
    blind_to: str
    encoder: Mapping[str, Any]
    architecture: Mapping[str, Any]
    members: int
    contrast: Mapping[str, Any]
    parameters: int
    data: Mapping[str, Any]
    split: Mapping[str, Any]
    training: Mapping[str, Any]
    test: Mapping[str, Any]
    out_of_fold: Mapping[str, Any]
    interval: Mapping[str, Any]
    in_distribution: Mapping[str, Any]
    measured: Mapping[str, Any]
    reproduce: str

    @cached_property
    def taken(self) -> Takes:
        """What it takes, as objects."""
        return takes_from_json(self.takes)

    def to_json(self) -> str:
        """Text of card.json."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=2, allow_nan=False) + "\n"


def read_card(folder: Path) -> Card:
    """Reads card.json of a predictor's folder.

    Raises:
        SurroundingsFailed: it is not there or cannot be read.
        Refused: it is not a card of this version.
    """
    path = folder / "card.json"
    try:
        record = json.loads(path.read_text())
    except OSError as error:
        raise SurroundingsFailed(
            f"no predictor here ({error.strerror})", where=str(path), fix="name a shipped predictor or its folder"
        ) from None
    except (ValueError, RecursionError):
        raise Refused("card.json is not JSON", where=str(path), code="bad-card") from None
    names = {field.name for field in fields(Card)}
    if not isinstance(record, dict) or record.pop("schema", None) != SCHEMA or set(record) != names:
        raise Refused(f"card.json does not follow {SCHEMA}", where=str(path), code="bad-card")
    card = Card(**record)
    try:
        known = card.model in MODELS and bool(str(card.taken))
    except (KeyError, IndexError, TypeError, ValueError):
        known = False
    if not known:
        raise Refused("card.json names no known model, or nothing it takes", where=str(path), code="bad-card")
    return card


def readme(card: Card) -> str:
    """The card for people, in Markdown; made from card.json alone."""
    out, test, measured = card.out_of_fold, card.test, card.measured
    lines = [
        f"# {card.name}",
        "",
        card.summary,
        "",
        f"* **Predicts** {card.predicts}.",
        f"* **Takes** {card.taken}; everything else is refused.",
        f"* **Blind to** {card.blind_to}.",
        f"* **Model** {card.model}: {MODELS[card.model]}; {card.members} members averaged, {card.parameters:,} "
        f"numbers together, kept in float16.",
        f"* **Data** {card.data['description']}",
        f"* **Split** {card.split['rule']}",
        "",
        "| runs | Kendall's τ | R² | mean absolute error | runs counted |",
        "| --- | --- | --- | --- | --- |",
        f"| test, never seen | {test['kendall_tau']:.3f} | {test['r2']:.3f} | {test['mae']:.4f} | {test['count']} |",
        f"| out of fold | {out['kendall_tau']:.3f} | {out['r2']:.3f} | {out['mae']:.4f} | {out['count']} |",
    ]
    lines += [
        f"| {name} | {part['kendall_tau']:.3f} | {part['r2']:.3f} | {part['mae']:.4f} | {part['count']} |"
        for name, part in measured.get("parts", {}).items()
    ]
    lines += [
        "",
        f"The {card.interval['level']:.0%} interval is calibrated on the {card.interval['count']} checkpoints of the "
        f"{out['count']} out-of-fold runs. On the test runs it covers {measured['coverage']:.1%} of the final and "
        f"{measured['coverage_of_all_checkpoints']:.1%} of all checkpoints; its mean width is "
        f"{measured['interval_width']:.3f}.",
        "",
        "`in_distribution` is false for "
        f"{measured['alarm_on_test']:.1%} of the final and {measured['alarm_on_all_test_checkpoints']:.1%} of all "
        f"checkpoints of the test runs, {measured['alarm_on_reinitialised']:.1%} of re-initialised and "
        f"{measured['alarm_on_shuffled']:.1%} of weight-shuffled copies of them.",
        "",
        "Reproduce (ZOO_DIR is the zoo's folder):",
        "",
        f"    {card.reproduce}",
        "",
        "This page is written from card.json, which has the settings, seeds and thresholds.",
    ]
    return "\n".join(lines) + "\n"
