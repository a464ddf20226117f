"""cli/main.py: the command `nfn` and what it lists. Commands are imported when they are run: help must be fast."""

from __future__ import annotations

import os
from typing import Annotated, Any

from nfn_cli.cli.session import Session, disturbed, process

with disturbed():  # what takes longest to start
    import typer

    from nfn_cli.cli.listed_commands import SETTINGS, Listed, ListedGroup

LOOK = "Symmetry and canonical forms"
COMPARE = "Same network or not"
INRS = "Implicit neural representations"
PREDICT = "Predictors"
ZOOS = "Data sets of networks"


class Commands(ListedGroup):
    """Ends quietly when disturbed; typer itself would end with 1, which means "no", where a reader closed the pipe."""

    listed = (
        Listed("symmetry-report", "symmetry_report:symmetry_report", "Find the symmetry group and prove it.", LOOK),
        Listed("canonicalize", "canonicalize:canonicalize", "Write the canonical member of the orbit.", LOOK),
        Listed("act", "act:act", "Apply a group element: the same function.", LOOK),
        Listed("reduce", "reduce:reduce", "Remove units that the function does not need.", LOOK),
        Listed("quantization-report", "quantization_report:quantization_report", "What integer weights cost.", LOOK),
        Listed("digest", "digest:digest", "SHA-256 of the tensors, whatever the container.", LOOK),
        Listed("equivalent", "equivalent:equivalent", "Whether two files are the same network.", COMPARE),
        Listed("diff", "diff:diff", "How two networks differ, unit by unit.", COMPARE),
        Listed("align", "align:align", "Write a network in another's frame.", COMPARE),
        Listed("merge", "merge:merge", "Write the mean of aligned networks.", COMPARE),
        Listed("barrier", "barrier:barrier", "The loss on the line between two networks.", COMPARE),
        Listed("fingerprint", "fingerprint:fingerprint", "A short code that symmetries leave alone.", COMPARE),
        Listed("scan", "scan:scan", "Networks that occur more than once.", COMPARE),
        Listed("fit-inr", "fit_inr:fit_inr", "Make INRs from pictures.", INRS),
        Listed("render", "render_inr:render", "Draw what an INR shows.", INRS),
        Listed("classify-inr", "classify_inr:classify_inr", "Say what an INR shows, and how surely.", INRS),
        Listed("edit-inr", "edit_inr:edit_inr", "Edit the picture by editing the weights.", INRS),
        Listed(
            "predict-generalization",
            "predict_generalization:predict_generalization",
            "Predict test accuracy without test data.",
            PREDICT,
        ),
        Listed("predictors", "predictors:predictors", "List the predictors that come with the tool.", PREDICT),
        Listed("evaluate", "evaluate:evaluate", "Measure a predictor on a zoo.", PREDICT),
        Listed(
            "audit-invariance", "audit_invariance:audit_invariance", "How far symmetries move a predictor.", PREDICT
        ),
        Listed("train", "train:train", "Train a predictor on a zoo.", PREDICT),
        Listed("zoo", "zoo:zoo", "Look at zoos, shard, split and make them.", ZOOS),
    )

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with disturbed():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        with disturbed():
            return super().invoke(ctx)


_HELP = """Symmetries, canonical forms and weight-space predictors for trained networks.

Inputs are files, DIR#row of a zoo, hf://owner/repo[@revision]/file, or - for a list on standard input. Nothing in a file is
run unless --trust-code says so. nfn COMMAND --help says more, with examples.

Examples:

\b
  nfn symmetry-report model.safetensors
  nfn canonicalize model.pth -o canonical.pth --activation relu
  nfn equivalent model.pth canonical.pth --activation relu && echo the same
"""
_EPILOG = """Exit codes: 0 done and yes; 1 the answer is no; 2 wrong usage; 3 an input was refused, with the reason; 4 the
surroundings failed (disk, permission, network, a missing extra); 130 interrupted, 143 terminated.

Environment: NO_COLOR; HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE for hf:// inputs; OMP_NUM_THREADS
and OPENBLAS_NUM_THREADS (1 unless either is set).
"""

app = typer.Typer(
    cls=Commands,
    name="nfn",
    help=_HELP,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
    **SETTINGS,
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


def main() -> None:
    """Entry point of the installed command."""
    # Matrix products here wait for memory: threads gain little, and where cores are busy they wait for one another, tens of
    # times as long as one thread takes. OpenBLAS reads this when NumPy is first imported.
    if "OMP_NUM_THREADS" not in os.environ:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with process():
        app()


if __name__ == "__main__":
    main()
