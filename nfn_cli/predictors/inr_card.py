"""predictors/inr_card.py: the page of facts that comes with a classifier of INRs. Knows JSON; no torch.

card.json is read by the tool; README.md beside it is written from it, for people.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from nfn_cli.errors import Refused

INR_SCHEMA = "nfn.inr-classifier-card/1"
# Names of models, in words; `--model` takes the names.
INR_MODELS: Mapping[str, str] = {
    "probe": "a small convolutional network on the INR's values at probes",
    "phasor": "phasors of units, from weights alone, exactly blind to D∞ ≀ S_n",
    "monomial-nfn": "Monomial-NFN for signs with path products bent by sines, from weights alone",
    "hnp": "HNP of Zhou et al. 2023, from raw weights, blind to permutations alone (a baseline)",
}


@dataclass(frozen=True)
class InrCard:
    """Facts about one classifier.

    Attributes:
        name: what `--predictor` takes.
        summary: one sentence.
        model: a key of INR_MODELS.
        data_set: what the training INRs show; classifiers of one data set stand in for one another (`--model`).
        labels: names of the classes.
        channels: of the image.
        takes: which networks, in words.
        blind_to: the symmetries that cannot show in an answer, in words.
        orders: 2 where the network also knows images with rows and columns exchanged, else 1.
        encoder, architecture: settings; parameters: trainable numbers, probes included.
        temperature: by which outputs are divided, fitted on the validation INRs.
        least_log_odds: of being an INR of the data set; below, an answer is not in distribution.
        data, split, training: origin and use of the data.
        test: scores on INRs of test images; in_distribution: alarm rates.
        reproduce: the commands that make the folder again.
    """

    name: str
    summary: str
    model: str
    data_set: str
    labels: tuple[str, ...]
    channels: int
    takes: str
    blind_to: str
    orders: int
    encoder: Mapping[str, Any]
    architecture: Mapping[str, Any]
    parameters: int
    temperature: float
    least_log_odds: float
    data: Mapping[str, Any]
    split: str
    training: Mapping[str, Any]
    test: Mapping[str, Any]
    in_distribution: Mapping[str, float]
    reproduce: tuple[str, ...]

    def to_json(self) -> str:
        """Text of card.json."""
        return json.dumps({"schema": INR_SCHEMA, **asdict(self)}, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def inr_card(record: Mapping[str, Any], where: Path) -> InrCard:
    """The card that the content of card.json stands for.

    Raises:
        Refused: it does not follow the schema.
    """
    values: dict[str, Any] = {
        name: tuple(value) if name in ("labels", "reproduce") else value for name, value in record.items()
    }
    schema = values.pop("schema", None)
    if schema != INR_SCHEMA or set(values) != {field.name for field in fields(InrCard)}:
        raise Refused(f"card.json does not follow {INR_SCHEMA}", where=str(where), code="bad-card")
    card = InrCard(**values)
    try:
        known = card.model in INR_MODELS and card.orders in (1, 2) and len(card.labels) > 1 and card.temperature > 0
    except TypeError:
        known = False
    if not known:
        raise Refused("card.json names no known model", where=str(where), code="bad-card")
    return card


def inr_readme(card: InrCard) -> str:
    """The card for people, in Markdown; made from card.json alone."""
    test = card.test
    lines = [
        f"# {card.name}",
        "",
        card.summary,
        "",
        f"* **Says** which of {len(card.labels)} classes an INR shows ({', '.join(card.labels)}), with a calibrated "
        "probability.",
        f"* **Takes** {card.takes}; everything else is refused.",
        f"* **Blind to** {card.blind_to}.",
        f"* **Model** {card.model}: {INR_MODELS[card.model]}; {card.parameters:,} numbers, kept in float16.",
        f"* **Data** {card.data['description']}",
        f"* **Split** {card.split}",
        f"* **Training** {card.training['description']}",
        "",
        "| INRs of test images | accuracy | count |",
        "| --- | --- | --- |",
        *(f"| {name} | {part['accuracy']:.2%} | {part['count']} |" for name, part in test["parts"].items()),
        "",
        f"Expected calibration error {test['ece']:.4f}, mean −log probability of the right class {test['nll']:.4f}.",
        "",
        "| `in_distribution` is false for | share |",
        "| --- | --- |",
        *(f"| {name} | {share:.1%} |" for name, share in card.in_distribution.items()),
        "",
        "Reproduce (IMAGES has one folder for each image set):",
        "",
        *(f"    {command}" for command in card.reproduce),
        "",
        "This page is written from card.json, which has the settings, seeds and thresholds.",
    ]
    return "\n".join(lines) + "\n"
