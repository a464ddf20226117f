"""cli/main.py: the `nfn` command: its subcommands and its edge. Imports typer only: `nfn --help` must be fast."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from nfn_cli.cli.act import act
from nfn_cli.cli.align import align
from nfn_cli.cli.audit_invariance import audit_invariance
from nfn_cli.cli.barrier import barrier
from nfn_cli.cli.canonicalize import canonicalize
from nfn_cli.cli.classify_inr import classify_inr
from nfn_cli.cli.diff import diff
from nfn_cli.cli.digest import digest
from nfn_cli.cli.edit_inr import edit_inr
from nfn_cli.cli.equivalent import equivalent
from nfn_cli.cli.evaluate import evaluate
from nfn_cli.cli.fingerprint import fingerprint
from nfn_cli.cli.fit_inr import fit_inr
from nfn_cli.cli.merge import merge
from nfn_cli.cli.predict_generalization import predict_generalization
from nfn_cli.cli.predictors import predictors
from nfn_cli.cli.quantization_report import quantization_report
from nfn_cli.cli.reduce import reduce
from nfn_cli.cli.render_inr import render
from nfn_cli.cli.scan import scan
from nfn_cli.cli.session import Session, disturbed, process
from nfn_cli.cli.symmetry_report import symmetry_report
from nfn_cli.cli.train import train
from nfn_cli.cli.zoo import zoo


class _Commands(TyperGroup):
    """Ends quietly when disturbed; typer itself would end with 1, which means "no", where a reader closed the pipe."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with disturbed():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        with disturbed():
            return super().invoke(ctx)


app = typer.Typer(
    cls=_Commands,
    name="nfn",
    help="Symmetries, canonical forms and weight-space predictors for trained networks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from nfn_cli import __version__

        print(f"nfn {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    Session.debug = debug


app.command("symmetry-report")(symmetry_report)
app.command("canonicalize")(canonicalize)
app.command("act")(act)
app.command("reduce")(reduce)
app.command("quantization-report")(quantization_report)
app.command("equivalent")(equivalent)
app.command("diff")(diff)
app.command("align")(align)
app.command("merge")(merge)
app.command("barrier")(barrier)
app.command("digest")(digest)
app.command("fingerprint")(fingerprint)
app.command("scan")(scan)
app.command("fit-inr")(fit_inr)
app.command("render")(render)
app.command("edit-inr")(edit_inr)
app.command("classify-inr")(classify_inr)
app.command("predict-generalization")(predict_generalization)
app.command("predictors")(predictors)
app.command("evaluate")(evaluate)
app.command("audit-invariance")(audit_invariance)
app.add_typer(zoo)
app.add_typer(train)


def main() -> None:
    """Entry point of the installed command."""
    with process():
        app()


if __name__ == "__main__":
    main()
