"""cli/audit_invariance.py: `nfn audit-invariance`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer

from nfn_cli.cli import options as o

if TYPE_CHECKING:
    from nfn_cli.cli.session import Session
    from nfn_cli.graph import NameOptions
    from nfn_cli.train.audited import Audited, Item

_NETWORKS = "Networks to audit on: as CKPT of the other commands. Default: the examples that come with the tool."
_AUDIT = "How to audit"


def audit_invariance(
    predictor: Annotated[
        str,
        typer.Argument(
            metavar="PREDICTOR",
            help="A shipped predictor, a folder with card.json, or module:function of your own, which is imported and run.",
            autocompletion=o.predictor_names,
        ),
    ],
    inputs: Annotated[Optional[list[str]], typer.Argument(metavar="CKPT", help=_NETWORKS)] = None,  # noqa: UP045
    on: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--on", metavar="CKPT", help="The same; may be repeated.", show_default=False),
    ] = None,
    framework: Annotated[
        str, typer.Option(metavar="numpy|torch", help="What module:function is given.", rich_help_panel=_AUDIT)
    ] = "numpy",
    largest: Annotated[
        float,
        typer.Option(help="Scales are drawn between 1/m and m, for m = 2, 4, … up to this.", rich_help_panel=_AUDIT),
    ] = 64.0,
    windings: Annotated[
        int, typer.Option(help="Most half periods of a phase shift.", min=1, max=1000, rich_help_panel=_AUDIT)
    ] = 8,
    samples: Annotated[
        int,
        typer.Option(help="Elements for each network, kind and magnitude.", min=1, max=1000, rich_help_panel=_AUDIT),
    ] = 3,
    untrained: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            help="Re-initialised and shuffled copies of each network to audit on as well; default 4, with CKPT 0.",
            min=0,
            max=1000,
            show_default=False,
            rich_help_panel=_AUDIT,
        ),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(help="Relative change that is allowed, weights in float32.", min=0, rich_help_panel=_AUDIT)
    ] = 1e-6,
    extras: Annotated[
        bool, typer.Option("--extras", help="Also symmetries beyond the monomial group.", rich_help_panel=_AUDIT)
    ] = False,
    seed: o.Seed = 0,
    activation: o.Activation = None,
    layers: o.Layers = None,
    pooling: o.Pooling = None,
    omega: o.Omega = None,
    concat: o.Concat = None,
    residual: o.Residual = None,
    arch: o.Arch = None,
    trust_code: o.TrustCode = False,
    json: o.Json = False,
) -> None:
    """Measure how far a predictor's outputs move when a network is replaced by another that computes the same function.

    Each kind of group element (permutation, scale, sign, phase, exchange of groups) is tried at growing magnitudes. That
    an element keeps the function of a network is checked first; where it does not, the predictor is not judged. Exit code 1
    if a generator fails, 3 if nothing could be said about one.

    A function of your own takes a mapping from tensor names to arrays (a state dict) and returns a number or an array.

    Examples:

      nfn audit-invariance generalization-cifar10gs-relu

      nfn audit-invariance generalization-cifar10gs-relu --largest 1e4 --json

      nfn audit-invariance mymodule:predict --on runs/a.pt --on runs/b.pt --activation tanh --framework torch
    """
    from nfn_cli.cli.jsonl import write_object
    from nfn_cli.cli.session import Session, expanded
    from nfn_cli.cli.work_progress import stages
    from nfn_cli.errors import ExitCode, WrongUsage
    from nfn_cli.printable import printable
    from nfn_cli.train.audit import AuditConfig, audit

    session = Session("audit-invariance", json)
    names = o.name_options(activation, layers, pooling, omega, concat, residual, arch, trust_code)
    with session.guarded(predictor):
        if not 2.0 <= largest <= 1e9:
            raise WrongUsage("must be between 2 and 1e9", where="--largest", code="wrong-usage")
        audited = _audited(predictor, framework)
        given = list(expanded([*(on or []), *(inputs or [])]))
        items = _opened(session, given, names) if given else _examples(audited)
        items += _copies(items, (0 if given else 4) if untrained is None else untrained, seed)
        config = AuditConfig(largest, windings, samples, tolerance, seed, extras)
        with stages("audit-invariance") as told:
            result = audit(audited, items, config, progress=told)
        for path, reason in result.refused:
            session.note(f"not judged on {printable(path)}: {reason}")
        if not given and not result.networks:
            session.note("it takes none of the examples; name networks that it takes: --on CKPT")
        if json:
            write_object(result.as_json())
        else:
            from nfn_cli.cli.render_audit import audit_result

            audit_result(result.as_json())
        verdict = {"pass": ExitCode.DONE, "fail": ExitCode.ANSWER_IS_NO, "none": ExitCode.REFUSED}[result.verdict]
        session.code = max(session.code, int(verdict))
    session.end()


def _audited(predictor: str, framework: str) -> Audited:
    """Code is imported only for what is written as module:function."""
    from nfn_cli.train.audited import trained_predictor
    from nfn_cli.train.callable_predictor import callable_predictor, is_reference

    return callable_predictor(predictor, framework) if is_reference(predictor) else trained_predictor(predictor)


def _opened(session: Session, paths: list[str], names: NameOptions) -> list[Item]:
    from nfn_cli.api import open_model

    items: list[Item] = []
    for path in paths:
        with session.guarded(path):
            model = open_model(path, names)
            items.append((model.checkpoint, model.networks))
    return items


def _examples(audited: Audited) -> list[Item]:
    """Those that come with the tool and that the predictor answers for; all of them where it answers for none."""
    from nfn_cli.api import open_model
    from nfn_cli.errors import NfnError
    from nfn_cli.predictors.shipped import shipped_folder

    models = [open_model(path) for path in sorted((shipped_folder() / "examples").glob("*.safetensors"))]
    items: list[Item] = [(model.checkpoint, model.networks) for model in models]
    answers = audited.ask(items)
    return [item for item, answer in zip(items, answers, strict=True) if not isinstance(answer, NfnError)] or items


def _copies(items: list[Item], count: int, seed: int) -> list[Item]:
    from nfn_cli.train.audit_subjects import untrained_copies

    return untrained_copies(items, count, seed)
