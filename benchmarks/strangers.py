"""What the tool says about checkpoints that strangers published: python benchmarks/strangers.py [--data FOLDER]

Reads manifest.csv of the folder (file, expected, notes), gives the activation that its notes state where the file itself
does not, and runs the whole symmetry report. Prints each disagreement and a closing count.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import sys
from collections import Counter
from pathlib import Path

import nfn_cli

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"
DEFAULT = Path(os.environ.get("NFN_SHARED_DATA") or BESIDE) / "checkpoints"


def stated_activation(notes: str) -> str | None:
    if "then sigmoid, mixed" in notes:
        return "relu,sigmoid"
    found = re.search(r"activation=(\w+)", notes)
    return found[1] if found and found[1] != "none" else None


def answer(path: Path, notes: str) -> tuple[str, str]:
    """("analyse" or "refuse", details)."""
    try:
        checkpoint = nfn_cli.load(path)
        known = checkpoint.hints.activation
        options = nfn_cli.NameOptions(activation=None if known else stated_activation(notes))
        report = nfn_cli.symmetry_report(checkpoint, options).as_json()
    except nfn_cli.NfnError as error:
        return "refuse", error.code
    if report["check"]["passed"] is False:
        return "wrong", f"check failed: {report['check']['relative_change']}"
    shapes = "; ".join(f"{n['name'] or '-'}: {n['group']}" for n in report["networks"])
    return "analyse", shapes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DEFAULT)
    parser.add_argument("--all", action="store_true", help="print every file, not only disagreements")
    options = parser.parse_args()
    manifest = options.data / "manifest.csv"
    if not manifest.exists():
        print(f"skipped: {manifest} is not on this machine", file=sys.stderr)
        return
    counts: Counter[str] = Counter()
    with manifest.open(newline="") as handle:
        for row in csv.DictReader(handle):
            said, details = answer(options.data / row["file"], row["notes"])
            agree = said == row["expected"]
            counts["agree" if agree else f"expected {row['expected']}, got {said} ({details[:40]})"] += 1
            if options.all or not agree:
                print(f"{row['file'][:44]:44s} expected {row['expected']:8s} got {said:8s} {details[:100]}")
    print(f"{counts['agree']} of {sum(counts.values())} agree")
    for what, count in counts.most_common():
        if what != "agree":
            print(f"  {count:3d} {what}")


if __name__ == "__main__":
    main()
