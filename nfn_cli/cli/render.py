"""cli/render.py: answers for people: tables that fit 80 columns; without boxes and colour where no terminal is."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from math import log10
from typing import TYPE_CHECKING, Any

from nfn_cli.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

_WIDTH = 80


def _console() -> Console:
    from rich.console import Console

    terminal = sys.stdout.isatty()
    return Console(
        file=sys.stdout,
        width=None if terminal else _WIDTH,
        color_system="auto" if terminal else None,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=not terminal,
    )


def table(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; a column is (heading, "left" or "right")."""
    from rich import box
    from rich.table import Table

    shown = Table(box=box.SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False)
    for heading, justify in columns:
        shown.add_column(heading, justify="right" if justify == "right" else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(printable(cell) for cell in row))
    console = _console()
    if sys.stdout.isatty():
        console.print(shown)
    else:
        with console.capture() as capture:
            console.print(shown, soft_wrap=False)
        for line in capture.get().splitlines():
            print(line.rstrip())


def line(text: str) -> None:
    """One statement, wrapped to the width; a path stays in one piece."""
    import textwrap

    print(textwrap.fill(printable(text, limit=2000), _WIDTH, subsequent_indent="  ", break_long_words=False) or "")


def as_they_are(texts: Sequence[str]) -> None:
    """Lines for other programs: no wrapping."""
    for text in texts:
        print(printable(text, limit=sys.maxsize))


def symmetry(report: Mapping[str, Any]) -> None:
    """The symmetry report of one checkpoint."""
    line(f"{report['path']} ({report['container']})")
    for network in report["networks"]:
        name = f"{network['name']}: " if network["name"] else ""
        activation = ", ".join(network["activation"]) or "no activation"
        source = f" (from {network['activation_source']})" if network["activation_source"] else ""
        line(f"{name}{network['family'].upper()}, {activation}{source}")
        if network["unit_sets"]:
            table(
                [("units", "left"), ("size", "right"), ("group", "left"), ("acts on", "left"), ("remarks", "left")],
                [_unit_row(unit_set, f"{network['name']}.") for unit_set in network["unit_sets"]],
            )
        order = _power_of_ten(network["log10_group_order"])
        order += " and infinitely many phases" if network["infinite_shifts"] else ""
        line(
            f"parameters {network['parameters']:,}, effective {network['effective_parameters']:,}, "
            f"continuous dimension {network['continuous_dimension']:,}, discrete order {order}"
        )
        line(check_sentence(network["check"]))
        _extras(network["extras"], f"{network['name']}.")
        if "norms" in network:
            _norms(network["norms"], f"{network['name']}.")
        for opaque in network["opaque"]:
            line(f"frozen: {opaque}")
        for note in network["notes"]:
            line(f"note: {note}")
    for entry in report["left_aside"][:5]:
        line(f"left aside: {entry}")
    if len(report["left_aside"]) > 5:
        line(f"left aside: {len(report['left_aside']) - 5} more")


def check_sentence(check: Mapping[str, Any]) -> str:
    """What the numerical check found."""
    if check["passed"] is None:
        return "check: none, outputs of this network cannot be compared"
    said = "outputs unchanged" if check["passed"] else "FAILED, please report this: outputs changed"
    change = f"largest relative change {_number(check['relative_change'])}"
    return f"check: {said} under {check['elements']} random group elements ({change})"


def _extras(extras: Mapping[str, Any], prefix: str) -> None:
    """Symmetries beyond the monomial group, one row a kind."""
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for extra in extras["found"]:
        kinds.setdefault(extra["kind"], []).append(extra)
    if kinds:
        columns = [("beyond the group", "left"), ("size", "right"), ("where", "left")]
        table(columns, [_extra_row(kind, found, prefix) for kind, found in kinds.items()])
        statistics = f" (of parameters and {extras['statistics']:,} statistics)" if extras["statistics"] else ""
        order = f", discrete order {_power_of_ten(extras['log10_order'])}" if extras["log10_order"] else ""
        line(
            f"with these: effective {extras['effective_parameters']:,}{statistics}, "
            f"further dimension {extras['dimension']:,}{order}"
        )
    for extra in extras["refuted"]:
        where = " ".join(name.removeprefix(prefix) for name in extra["tensors"][:3])
        line(f"refuted, not counted, please report this: {extra['kind']} at {where}")


def _norms(norms: Mapping[str, Any], prefix: str) -> None:
    """Norms of layers, and what they make together."""
    columns = [("layer", "left"), ("‖W‖F raw", "right"), ("invariant", "right")]
    columns += [("‖W‖2 raw", "right"), ("invariant", "right"), ("remarks", "left")]
    table(columns, [_norm_row(layer, prefix) for layer in norms["layers"]])
    rows = [
        [label, _measure(norms["raw"].get(key)), _measure(norms["invariant"][key])]
        for key, label in (
            ("squared_frobenius_sum", "Σ‖W‖F²"),
            ("log10_frobenius_product", "log10 Π‖W‖F"),
            ("log10_spectral_product", "log10 Π‖W‖2"),
            ("stable_rank_sum", "Σ‖W‖F²/‖W‖2²"),
            ("log10_spectral_complexity", "log10 Π‖W‖2²·Σ‖W‖F²/‖W‖2²"),
            ("path_norm_l1", "path norm l1"),
            ("path_norm_l2", "path norm l2"),
        )
    ]
    table([("of all layers", "left"), ("raw", "right"), ("invariant", "right")], rows)
    shapes = ", ".join("×".join(map(str, shape[1:])) for shape in norms["path_input"])
    line(f"path norms: at an input of ones of shape {shapes}")
    if norms["path_note"]:
        line(f"path norms: {norms['path_note']}")
    line(norms["explanation"])


def _norm_row(layer: Mapping[str, Any], prefix: str) -> list[str]:
    sizes = [_measure(layer[form][norm]) for norm in ("frobenius", "spectral") for form in ("raw", "invariant")]
    remarks = ["norm folded"] if layer["folded"] else []
    remarks += [f"‖conv‖2 ≤ {layer['kernel'] ** 0.5:.3g}·‖W‖2"] if layer["kernel"] > 1 else []
    return [layer["name"].removeprefix(prefix).removesuffix(".weight"), *sizes, ", ".join(remarks)]


def _measure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _power_of_ten(exponent: float) -> str:
    return f"10^{exponent:.1f}"


def _extra_row(kind: str, found: Sequence[Mapping[str, Any]], prefix: str) -> list[str]:
    dimension, order = (sum(extra[key] for extra in found) for key in ("dimension", "log10_order"))
    where = " ".join(name.removeprefix(prefix) for name in found[0]["tensors"][:2])
    more = f" +{len(found) - 1}" if len(found) > 1 else ""
    return [kind, f"{dimension:,}" if dimension else f"2^{order / log10(2):.0f}", where + more]


def _unit_row(unit_set: Mapping[str, Any], prefix: str) -> list[str]:
    """Names inside a network are shown without the network's own name."""
    acts = " ".join(f"{entry['tensor'].removeprefix(prefix)}[{entry['axis']}]" for entry in unit_set["tensors"][:4])
    more = len(unit_set["tensors"]) - 4
    remarks = [f"{len(unit_set[kind])} {kind}" for kind in ("dead", "constant", "duplicate") if unit_set[kind]]
    if unit_set["norm_imbalance"] is not None and unit_set["norm_imbalance"] >= 1:
        remarks.append(f"in/out 10^{unit_set['norm_imbalance']:.1f}")
    if unit_set["windings"]:
        remarks.append(f"phases up to {unit_set['windings']}π/ω")
    return [
        unit_set["name"].removeprefix(prefix),
        str(unit_set["size"]),
        unit_set["group"],
        acts + (f" +{more}" if more > 0 else ""),
        ", ".join(remarks) or "-",
    ]


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.1e}"


def predictions(rows: Sequence[Mapping[str, Any]]) -> None:
    table(
        [("checkpoint", "left"), ("accuracy", "right"), ("90% interval", "left"), ("trained for such", "left")],
        [
            [
                row["path"],
                f"{row['predicted_test_accuracy']:.3f}",
                f"{row['interval'][0]:.3f} – {row['interval'][1]:.3f}",
                "yes" if row["in_distribution"] else "no",
            ]
            for row in rows
        ],
    )
    line(f"predictor: {', '.join(dict.fromkeys(row['predictor'] for row in rows))}")
