"""predictors/card.py: the page of facts that comes with a predictor. Knows JSON and chains; no torch.

card.json is read by the tool; README.md beside it is written from it, for people.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from nfn_cli.errors import Refused, SurroundingsFailed
from nfn_cli.predictors.chain_input import ChainWeights

SCHEMA = "nfn.predictor-card/1"


@dataclass(frozen=True)
class Card:
    """Facts about one predictor.

    Attributes:
        name: what `--predictor` takes.
        summary: one sentence.
        predicts: what the number is.
        activation: the only activation of its training networks.
        group: key of `networks.degrees.GROUPS` that the predictor is blind to, permutations included.
        widths: units per axis, input first.
        kernels: kernel shape per layer; () is a linear layer.
        network: the training networks in words.
        architecture: fields of `MonomialNfnConfig`; members: networks whose predictions are averaged.
        contrast: architecture of the network of the in-distribution test.
        parameters: trainable numbers of all members together, the in-distribution test not counted.
        data: rows, runs and origin of the training data; split: rule, seeds; training: fields of `TrainConfig`.
        test: scores on test runs, seen by nothing before; out_of_fold: scores on the other runs, each predicted by
            networks that did not see it.
        interval: fields of `Interval`; in_distribution: thresholds; measured: coverage and alarm rates on test runs.
        reproduce: the command that makes the folder again.
    """

    name: str
    summary: str
    predicts: str
    activation: str
    group: str
    widths: tuple[int, ...]
    kernels: tuple[tuple[int, ...], ...]
    network: str
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

    def mismatch(self, chain: ChainWeights) -> str | None:
        """Why this predictor cannot take a chain, in one sentence without a full stop; None if it can."""
        taken = self.shape_mismatch(tuple(w.shape for w in chain.weights))
        if taken is not None:
            return taken
        others = sorted(set(chain.activations) - {self.activation})
        if others:
            return f"the activation is {', '.join(others)}, {self.name} was trained on {self.activation} networks"
        if chain.pooling_between:
            kinds = ", ".join(chain.pooling_between)
            return f"it pools between layers ({kinds}), the networks of {self.name} do not"
        return None

    def shape_mismatch(self, shapes: tuple[tuple[int, ...], ...]) -> str | None:
        """The same for shapes (out, in, *kernel) alone."""
        if len(shapes) != len(self.kernels):
            return f"it has {len(shapes)} layers, {self.name} takes {len(self.kernels)} ({self.network})"
        for number, shape in enumerate(shapes, start=1):
            want = (self.widths[number], self.widths[number - 1], *self.kernels[number - 1])
            if tuple(shape) != want:
                return f"layer {number} has shape {tuple(shape)}, {self.name} takes {want} (out, in, kernel)"
        return None

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
    except ValueError:
        raise Refused("card.json is not JSON", where=str(path), code="bad-card") from None
    names = {field.name for field in fields(Card)}
    if not isinstance(record, dict) or record.pop("schema", None) != SCHEMA or set(record) != names:
        raise Refused(f"card.json does not follow {SCHEMA}", where=str(path), code="bad-card")
    record["widths"] = tuple(record["widths"])
    record["kernels"] = tuple(tuple(kernel) for kernel in record["kernels"])
    return Card(**record)


def readme(card: Card) -> str:
    """The card for people, in Markdown; made from card.json alone."""
    test, out, measured = card.test, card.out_of_fold, card.measured
    lines = [
        f"# {card.name}",
        "",
        card.summary,
        "",
        f"* **Predicts** {card.predicts}.",
        f"* **Takes** {card.network}; activation {card.activation}; everything else is refused.",
        f"* **Blind to** the group {card.group.replace('_', ' ')} with permutations of hidden units, exactly.",
        f"* **Model** {card.members} Monomial-NFNs averaged, {card.parameters:,} parameters together, kept in float16.",
        f"* **Data** {card.data['description']}",
        f"* **Split** {card.split['rule']}",
        "",
        "| runs | Kendall's τ | R² | mean absolute error | runs counted |",
        "| --- | --- | --- | --- | --- |",
        f"| test, never seen | {test['kendall_tau']:.3f} | {test['r2']:.3f} | {test['mae']:.4f} | {test['count']} |",
        f"| out of fold | {out['kendall_tau']:.3f} | {out['r2']:.3f} | {out['mae']:.4f} | {out['count']} |",
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
        "Reproduce (ZOO_DIR is the folder with weights.npy, metrics.csv.gz and layout.csv):",
        "",
        f"    {card.reproduce}",
        "",
        "This page is written from card.json, which has the settings, seeds and thresholds.",
    ]
    return "\n".join(lines) + "\n"
