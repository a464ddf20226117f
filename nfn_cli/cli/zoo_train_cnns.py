"""cli/zoo_train_cnns.py: `nfn zoo train-cnns`: a population of small CNNs trained into a zoo. Parses, calls, renders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from nfn_cli.cli import options as o

if TYPE_CHECKING:
    from nfn_cli.zoo.training_run import MakingPlan

_POPULATION, _MACHINE = "The population", "The machine"


def train_cnns(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder of the zoo; one begun earlier is continued.", show_default=False),
    ],
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            help="Images: a folder with train.npz and test.npz, an npz, IDX files, or folders of image files.",
            show_default=False,
        ),
    ],
    runs: Annotated[
        int,
        typer.Option("--runs", min=1, help="Networks in all, rounded up to whole groups.", rich_help_panel=_POPULATION),
    ] = 256,
    architecture: Annotated[
        str, typer.Option("--architecture", help="small-cnn or heterogeneous.", rich_help_panel=_POPULATION)
    ] = "small-cnn",
    activation: Annotated[
        Optional[str],  # noqa: UP045 — typer reads these annotations on Python 3.10 too
        typer.Option(
            "--activation",
            metavar="NAME[,NAME…]",
            help="Only these; they take turns.  [default: all of the architecture]",
            rich_help_panel=_POPULATION,
        ),
    ] = None,
    gray: Annotated[
        bool, typer.Option("--gray/--color", help="One channel or three.", rich_help_panel=_POPULATION)
    ] = True,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Of every run.", rich_help_panel=_POPULATION)] = 3000,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Images a step.", rich_help_panel=_POPULATION)
    ] = 64,
    checkpoints: Annotated[
        str,
        typer.Option(
            "--checkpoints",
            metavar="F[,F…]",
            help="Store every run after these fractions of its training; its end is always stored.",
            rich_help_panel=_POPULATION,
        ),
    ] = "0.3,1",
    group_size: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            "--group-size",
            min=1,
            help="Networks trained at once: one architecture, one shard.  [default: by device]",
            rich_help_panel=_MACHINE,
        ),
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="cpu, cuda, or auto: cuda where there is one.", rich_help_panel=_MACHINE)
    ] = "auto",
    dtype: Annotated[
        str,
        typer.Option(
            "--dtype",
            help="Of the convolutions: float32, bfloat16, or auto: bfloat16 on cuda.",
            rich_help_panel=_MACHINE,
        ),
    ] = "auto",
    threads: Annotated[
        int,
        typer.Option(
            "--threads", min=0, help="Groups trained at a time on the CPU; 0: one a core.", rich_help_panel=_MACHINE
        ),
    ] = 0,
    seed: o.Seed = 0,
    json: o.Json = False,
) -> None:
    """Train a population of small CNNs, many at a time, into a zoo.

    Hyper-parameters are drawn as in Unterthiner et al. 2020: optimizer, learning rate, L2, dropout, initialization and
    the fraction of the training set. A run that was stopped goes on when the same command is given again, and a larger
    --runs adds to the zoo; what is written depends on the options and the seed, not on when or how often it was stopped.

    Examples:

      nfn zoo train-cnns --data cifar10 --runs 1024 -o zoo

      nfn zoo train-cnns --data mnist --architecture heterogeneous --activation relu,tanh --runs 5000 -o zoo
    """
    from nfn_cli.cli.jsonl import write_object
    from nfn_cli.cli.session import Session
    from nfn_cli.cli.work_progress import cores, work_progress
    from nfn_cli.zoo.images import read_images
    from nfn_cli.zoo.training_run import make_zoo

    session = Session("zoo-train-cnns", json)
    with session.guarded(str(output)):
        plan = _plan(
            architecture, activation, seed, group_size, _steps_of(checkpoints, steps), batch_size, dtype, device
        )
        groups = -(-runs // plan.group_size)
        images = read_images(data, gray)
        trained = make_zoo(output, plan, images, groups, threads or cores(), work_progress("training {} networks"))
        answer = {
            "schema": "nfn.zoo-train-cnns/1",
            "path": str(output),
            "runs": groups * plan.group_size,
            "trained_now": len(trained) * plan.group_size,
            "checkpoints_a_run": len(plan.checkpoints),
        }
        if json:
            write_object(answer)
        else:
            print(f"{output}: {answer['runs']} runs, {answer['trained_now']} of them trained now")
    session.end()


def _plan(
    architecture: str,
    activation: str | None,
    seed: int,
    group_size: int | None,
    checkpoints: tuple[int, ...],
    batch_size: int,
    dtype: str,
    device: str,
) -> MakingPlan:
    from nfn_cli.cli.work_progress import device_of
    from nfn_cli.zoo.population import ACTIVATIONS_OF
    from nfn_cli.zoo.training_run import GROUP_SIZES, MakingPlan

    device = device_of(device)
    _one_of("--architecture", architecture, tuple(ACTIVATIONS_OF))
    _one_of("--dtype", dtype, ("auto", "float32", "bfloat16"))
    names = ACTIVATIONS_OF[architecture] if activation is None else tuple(dict.fromkeys(activation.split(",")))
    for name in names:
        _one_of("--activation", name, ACTIVATIONS_OF["heterogeneous"])
    if dtype == "auto":
        dtype = "bfloat16" if device == "cuda" else "float32"
    return MakingPlan(
        architecture, names, seed, group_size or GROUP_SIZES[device], checkpoints, batch_size, dtype, device
    )


def _one_of(option: str, value: str, known: tuple[str, ...]) -> None:
    from nfn_cli.errors import WrongUsage

    if value not in known:
        raise WrongUsage(f"{value!r} is not known", where=option, fix=f"one of {', '.join(known)}")


def _steps_of(fractions: str, steps: int) -> tuple[int, ...]:
    from nfn_cli.errors import WrongUsage
    from nfn_cli.zoo.training_run import checkpoint_steps

    try:
        numbers = tuple(float(part) for part in fractions.split(","))
    except ValueError:
        raise WrongUsage(f"{fractions!r} are not numbers", where="--checkpoints", fix="for example 0.3,1") from None
    return checkpoint_steps(steps, numbers)
