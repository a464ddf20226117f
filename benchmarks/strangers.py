"""What the tool says about checkpoints that strangers published: python benchmarks/strangers.py [--data FOLDER]

strangers.csv beside this file says for every file what is right: the group of each network, or the code of the refusal,
and why in a few words; each line was compared by hand with what manifest.csv tells of the file. Where the file does not
hold the activation, that of the notes, of the reason or of its one activation module is given. Prints each disagreement
and the shares.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from figures import figure

import nfn_cli

TABLE = Path(__file__).with_suffix(".csv")
BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"
DEFAULT = Path(os.environ.get("NFN_SHARED_DATA") or BESIDE) / "checkpoints"


@dataclass(frozen=True)
class Row:
    """One file of the table, and what the tool says of it.

    Attributes:
        network: "MLP", "CNN" or "-", whatever the container.
        expected, answer: "analyse" and the groups, or "refuse" and the code.
        reason: in a few words.
        said, told: as expected and answer, by the tool.
    """

    file: str
    network: str
    expected: str
    answer: str
    reason: str
    said: str
    told: str

    @property
    def agrees(self) -> bool:
        return (self.said, self.told) == (self.expected, self.answer)


def stated_activation(notes: str) -> str | None:
    if "then sigmoid, mixed" in notes:
        return "relu,sigmoid"
    found = re.search(r"activation=(\w+)", notes)
    return found[1] if found and found[1] != "none" else None


def answer(path: Path, notes: str) -> tuple[str, str]:
    """("analyse", groups) or ("refuse", code); ("wrong", …) where the numerical check refutes the group."""
    try:
        checkpoint = nfn_cli.load(path)
        known = checkpoint.hints.activation
        stated = stated_activation(notes) or checkpoint.hints.suggested
        options = nfn_cli.NameOptions(activation=None if known else stated)
        report = nfn_cli.symmetry_report(checkpoint, options).as_json()
    except nfn_cli.NfnError as error:
        return "refuse", error.code
    checks = [network["check"] for network in report["networks"]]
    if any(check["passed"] is False for check in checks):
        return "wrong", f"check failed: {[check['relative_change'] for check in checks]}"
    return "analyse", "; ".join(f"{n['name'] or '-'}: {n['group']}" for n in report["networks"])


def rows(data: Path) -> Iterator[Row]:
    """Every file of the folder's manifest, beside its line of the table; a file without a line is expected "?"."""
    with TABLE.open(newline="", encoding="utf-8") as handle:
        table = {line["file"]: line for line in csv.DictReader(handle)}
    with (data / "manifest.csv").open(newline="") as handle:
        for line in csv.DictReader(handle):
            known = table.get(line["file"], dict.fromkeys(("network", "expected", "answer", "reason"), "?"))
            parts = (known[key] for key in ("network", "expected", "answer", "reason"))
            yield Row(line["file"], *parts, *answer(data / line["file"], f"{line['notes']} {known['reason']}"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT)
    parser.add_argument("--all", action="store_true", help="print every file, not only disagreements")
    options = parser.parse_args()
    if not (options.data / "manifest.csv").exists():
        print(f"skipped: no manifest.csv in {options.data}", file=sys.stderr)
        return
    found = list(rows(options.data))
    for row in found:
        if options.all or not row.agrees:
            print(
                f"{row.file}: {row.said} {row.told}" + ("" if row.agrees else f"; expected {row.expected} {row.answer}")
            )
    print(f"{sum(row.agrees for row in found)} of {len(found)} files as the table expects")
    networks = [row for row in found if row.network != "-"]
    readable = [row for row in networks if row.expected == "analyse"]
    for name, among in (("whose tensors can be read without running code", readable), ("in any container", networks)):
        print(f"{sum(row.said == 'analyse' for row in among)} of {len(among)} MLPs and CNNs {name} analysed")
    figure("agree", sum(row.agrees for row in found) / len(found))
    figure("analysed", sum(row.said == "analyse" for row in readable) / len(readable))
    figure("analysed-all", sum(row.said == "analyse" for row in networks) / len(networks))
    sys.exit(0 if all(row.agrees for row in found) else 1)


if __name__ == "__main__":
    main()
