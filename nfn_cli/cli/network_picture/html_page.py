"""cli/network_picture/html_page.py: reports of checkpoints as one page that needs nothing else. Writes nothing; names are text."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from html import escape

from nfn_cli.cli.chart import Page
from nfn_cli.cli.chart_file import svg, themed
from nfn_cli.cli.network_picture.colours import set_colour
from nfn_cli.cli.network_picture.drawing import Drawn, picture, strip, verdict
from nfn_cli.printable import printable
from nfn_cli.symmetry.report import NetworkReport, Report, UnitSetReport

_MOST_UNITS = 400  # listed by number; the JSON report has all

_STYLE = """
:root { color-scheme: light dark; --ink: #222222; --faint: #d9d9d9; --paper: #ffffff; --soft: #5a5a5a; --panel: #f5f5f3;
  --good: #1b6e2f; --bad: #a3200d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e9e9e6; --faint: #4a4a4a; --paper: #17181a; --soft: #b5b5b0;
  --panel: #222427; --good: #7fd18f; --bad: #ff9a86; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 78rem; padding: 1.5rem clamp(0.8rem, 3vw, 2.5rem) 3rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0 0 1rem; } h2 { font-size: 1.2rem; margin: 2.5rem 0 0.4rem; border-top: 1px solid var(--faint); padding-top: 1.4rem; }
h3 { font-size: 1.02rem; margin: 1.6rem 0 0.4rem; } p { margin: 0.4rem 0; }
a { color: inherit; } .soft { color: var(--soft); } .good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: 0.7rem; margin: 0.9rem 0; }
dl div { background: var(--panel); border-radius: 6px; padding: 0.5rem 0.8rem; }
dt { color: var(--soft); font-size: 0.85rem; } dd { margin: 0; font-size: 1.15rem; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; max-width: 100%; } figure { margin: 0.8rem 0; border: 1px solid var(--faint); border-radius: 6px; max-height: 46rem; overflow: auto; }
:focus-visible { outline: 3px solid #0072b2; outline-offset: 2px; }
table { border-collapse: collapse; width: 100%; font-size: 0.92rem; } caption { text-align: left; color: var(--soft); padding: 0.3rem 0; }
th, td { text-align: left; vertical-align: top; padding: 0.35rem 0.9rem 0.35rem 0; border-bottom: 1px solid var(--faint); overflow-wrap: normal; }
thead th { position: sticky; top: 0; background: var(--paper); } td.n { text-align: right; font-variant-numeric: tabular-nums; }
td svg { display: block; } code { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: 0.88em; }
td.name { min-width: 9rem; overflow-wrap: anywhere; } td.acts { min-width: 13rem; } td.group { white-space: nowrap; }
summary { cursor: pointer; } ul { margin: 0.4rem 0; padding-left: 1.3rem; }
@media print { :root { --ink: #000000; --paper: #ffffff; --soft: #333333; --panel: #ffffff; --faint: #bbbbbb; } body { max-width: none; padding: 0; }
  figure { max-height: none; overflow: visible; border: 0; } figure svg { width: 100%; height: auto; } thead th { position: static; } h2, h3 { break-after: avoid; } tr { break-inside: avoid; } }
"""  # noqa: E501


@dataclass(frozen=True)
class Answered:
    """A checkpoint with its report, ready to draw."""

    report: Report
    networks: Sequence[Drawn]


@dataclass(frozen=True)
class Failed:
    """A checkpoint without one, and why."""

    path: str
    message: str


def html_page(entries: Sequence[Answered | Failed]) -> str:
    """One document: no script, nothing from elsewhere, and a policy that says so to the browser."""
    digest = b64encode(sha256(_STYLE.encode()).digest()).decode()
    paths = [entry.report.path if isinstance(entry, Answered) else entry.path for entry in entries]
    title = (
        f"Symmetry report: {_text(paths[0], 80)}" if len(paths) == 1 else f"Symmetry report of {len(paths)} checkpoints"
    )
    contents = "" if len(paths) == 1 else _contents(paths)
    sections = "\n".join(_section(entry, number) for number, entry in enumerate(entries))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{contents}{sections}
</main>
</body>
</html>
"""  # noqa: E501


def _contents(paths: Sequence[str]) -> str:
    items = "".join(f'<li><a href="#c{number}">{_text(path)}</a></li>' for number, path in enumerate(paths))
    return f'<nav aria-label="checkpoints"><ul>{items}</ul></nav>\n'


def _section(entry: Answered | Failed, number: int) -> str:
    if isinstance(entry, Failed):
        head = f'<section id="c{number}"><h2>{_text(entry.path)}</h2>'
        return f'{head}<p><span class="bad">no report</span></p><p>{_text(entry.message, 1000)}</p></section>'
    answer = entry.report.as_json()
    facts = (
        ("parameters", f"{answer['parameters']:,}"),
        ("effective parameters", f"{answer['effective_parameters']:,}"),
        ("continuous dimension", f"{answer['continuous_dimension']:,}"),
        ("order of the discrete part", f"10^{answer['log10_group_order']:.1f}"),
        ("with symmetries beyond the group", f"{answer['extras']['effective_parameters']:,} effective"),
    )
    listed = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    mark = "good" if answer["check"]["passed"] else "bad" if not entry.report.passed else "soft"
    page = picture(entry.report, entry.networks, columns=False, heading=False)
    about = f"Layers of {printable(entry.report.path)} from input to output, with the unit sets along their axes."
    drawing = themed(svg(page, title="Picture of the network", description=about))
    parts = [
        f'<section id="c{number}"><h2>{_text(entry.report.path)}</h2>',
        f'<p class="soft">{_text(entry.report.container)}</p>',
        f'<p class="{mark}">{_text(verdict(entry.report.passed, answer["check"]), 400)}</p>',
        f"<dl>{listed}</dl>",
        f'<figure tabindex="0" aria-label="picture of the network, scrolls">{drawing}</figure>',
        *(_network(network) for network in entry.networks),
        _list("Left aside", entry.report.left_aside),
        "</section>",
    ]
    return "\n".join(part for part in parts if part)


def _network(network: Drawn) -> str:
    said = network.report
    name = f"{said.name}: " if said.name else ""
    source = f" (from {said.activation_source})" if said.activation_source else ""
    title = f"{name}{said.family.upper()}, {', '.join(said.activation) or 'no activation'}{source}"
    return "\n".join(
        part
        for part in (
            f"<h3>{_text(title)}</h3>",
            _table(network) if network.sets else "<p>No set of units may move.</p>",
            _details(said),
            _list("Frozen, because not understood", said.opaque),
            _list("Beyond the group", _extras(said)),
            _list("Notes", said.notes),
        )
        if part
    )


def _table(network: Drawn) -> str:
    heads = ("", "units", "size", "group", "acts on", "dead", "constant", "duplicate", "in/out norm of each unit")
    head = "".join(f'<th scope="col">{h}</th>' if h else '<th scope="col" aria-label="colour"></th>' for h in heads)
    rows = "".join(_set_row(number, unit_set, network.report.name) for number, unit_set in network.sets.items())
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="unit sets"><table><caption>Sets of hidden units that may '
        f"change places</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _set_row(number: int, unit_set: UnitSetReport, prefix: str) -> str:
    swatch = f'<svg width="14" height="14" aria-hidden="true"><rect width="14" height="14" fill="{set_colour(number)}"/></svg>'
    acts = [f"<code>{_text(tensor.removeprefix(f'{prefix}.'))}[{axis}]</code>" for tensor, axis in unit_set.tensors]
    more = f"<details><summary>{len(acts) - 3} more</summary>{', '.join(acts[3:])}</details>" if len(acts) > 4 else ""
    shown = ", ".join(acts if not more else acts[:3]) + more
    found = unit_set.degenerate
    marks = strip(unit_set, (0, 0), (150, 12))
    worst = "-" if found.norm_imbalance is None else f"farthest from 1: 10^±{found.norm_imbalance:.1f}"
    bar = themed(svg(Page(150, 12, tuple(marks)), title=worst))
    counts = (len(found.dead), len(found.constant), sum(map(len, found.duplicate)))
    cells = "".join(f'<td class="n">{count}</td>' for count in counts)
    return (
        f'<tr><td>{swatch}</td><td class="name"><code>{_text(unit_set.name.removeprefix(f"{prefix}."))}</code></td>'
        f'<td class="n">{unit_set.size:,}</td><td class="group">{_text(unit_set.group)}</td><td class="acts">{shown}</td>'
        f'{cells}<td>{bar}<span class="soft">{worst}</span></td></tr>'
    )


def _details(said: NetworkReport) -> str:
    """Degenerate units by their numbers."""
    items = []
    for unit_set in said.unit_sets:
        found = unit_set.degenerate
        kinds = [("dead (nothing reads them)", [str(u) for u in found.dead])]
        kinds += [("constant (nothing feeds them)", [str(u) for u in found.constant])]
        kinds += [("duplicate", ["=".join(map(str, units)) for units in found.duplicate])]
        for kind, units in kinds:
            if units:
                more = f" and {len(units) - _MOST_UNITS} more" if len(units) > _MOST_UNITS else ""
                listed = ", ".join(units[:_MOST_UNITS])
                items.append(f"<li><code>{_text(unit_set.name)}</code>, {kind}: {listed}{more}</li>")
    return f"<details open><summary>Units by number</summary><ul>{''.join(items)}</ul></details>" if items else ""


def _extras(said: NetworkReport) -> list[str]:
    answer = said.extras.as_json()
    kinds: dict[str, list[int]] = {}
    for extra in answer["found"]:
        counts = kinds.setdefault(extra["kind"], [0, 0])
        counts[0], counts[1] = counts[0] + 1, counts[1] + extra["dimension"]
    found = [f"{kind}: {count} times, dimension {dimension:,}" for kind, (count, dimension) in kinds.items()]
    return found + [f"refuted, not counted, please report this: {extra['kind']}" for extra in answer["refuted"]]


def _list(title: str, entries: Sequence[str]) -> str:
    if not entries:
        return ""
    items = "".join(f"<li>{_text(entry, 400)}</li>" for entry in entries[:200])
    more = f"<li>{len(entries) - 200} more</li>" if len(entries) > 200 else ""
    return f"<h3>{title}</h3><ul>{items}{more}</ul>"


def _text(text: str, limit: int = 160) -> str:
    return escape(printable(text, limit))
