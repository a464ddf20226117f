"""cli/inr_options.py: options of the commands about INRs of images. Imports typer only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer

from nfn_cli.cli.options import words

if TYPE_CHECKING:
    from nfn_cli.api import Model
    from nfn_cli.graph import NameOptions
    from nfn_cli.networks.inr import Coordinates

_GIVEN = "How to read the network"
NETWORK = "The network"

CoordinatesOption = Annotated[
    str,
    typer.Option(
        "--coordinates",
        metavar="LOW,HIGH[,ORDER][,centred]",
        help="Of the first and last pixel; ORDER: row-column or column-row; centred: LOW and HIGH are the image's edges.",
        rich_help_panel=_GIVEN,
    ),
]
StatedCoordinates = Annotated[
    Optional[str],  # noqa: UP045 — typer reads these annotations on Python 3.10 too
    typer.Option(
        "--coordinates",
        metavar="LOW,HIGH[,ORDER][,centred]",
        help="As of nfn fit-inr.  [default: as the file says, else -1,1,row-column]",
    ),
]
DEFAULT_COORDINATES = "-1,1,row-column"
Hidden = Annotated[
    str, typer.Option("--hidden", metavar="N[,N…]", help="Widths of the sine layers.", rich_help_panel=NETWORK)
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        help="cpu, cuda, or auto: cuda where there is one.",
        autocompletion=words("auto", "cpu", "cuda"),
    ),
]
Threads = Annotated[int, typer.Option("--threads", min=0, help="On the CPU; 0: one a core.")]
Range = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--range",
        metavar="LOW,HIGH",
        help="Values of black and white.  [default: 0,1 or -1,1 where the values fit, else they fill the range]",
    ),
]


def coordinates_of(text: str) -> Coordinates:
    """Raises WrongUsage where the text is not of the option's form."""
    from nfn_cli.errors import WrongUsage
    from nfn_cli.networks.inr import ORDERS, Coordinates

    words = [word.strip() for word in text.split(",")]
    try:
        low, high = (float(word) for word in words[:2])
    except ValueError:
        low = high = 0.0
    order = next((word for word in words[2:] if word in ORDERS), ORDERS[0])
    known = {order, "centred"} | set(ORDERS)
    if not abs(low) < 1e6 or not abs(high) < 1e6 or low == high or any(word not in known for word in words[2:]):
        raise WrongUsage(
            f"{text!r} are no coordinates", where="--coordinates", fix="for example 0,1,column-row,centred"
        )
    return Coordinates(low, high, order, "centred" in words[2:])


def pair_of(text: str, option: str) -> tuple[float, float]:
    """Two different finite numbers.

    Raises:
        WrongUsage: they are not.
    """
    from nfn_cli.errors import WrongUsage

    try:
        low, high = (float(word) for word in text.split(","))
    except ValueError:
        low = high = 0.0
    if not abs(low) < 1e6 or not abs(high) < 1e6 or low == high:
        raise WrongUsage(f"{text!r} is no range", where=option, fix="two numbers, for example 0,1")
    return low, high


def widths_of(text: str) -> tuple[int, ...]:
    """Raises WrongUsage where the text is not a list of widths."""
    from nfn_cli.errors import WrongUsage

    words = text.split(",")
    widths = tuple(int(word) for word in words if word.strip().isdecimal())
    if len(widths) != len(words) or not 1 <= len(widths) <= 12 or not 1 <= min(widths) <= max(widths) <= 4096:
        raise WrongUsage(f"{text!r} are no widths", where="--hidden", fix="one to twelve numbers up to 4096: 32,32")
    return widths


def omegas_of(text: str, layers: int) -> tuple[float, ...]:
    """One ω for each layer; one alone is that of all.

    Raises:
        WrongUsage: they are not numbers, or not as many.
    """
    from nfn_cli.errors import WrongUsage

    try:
        omegas = tuple(float(word) for word in text.split(","))
    except ValueError:
        omegas = ()
    if len(omegas) not in (1, layers) or not all(0 < omega < 1e6 for omega in omegas):
        raise WrongUsage(
            f"{text!r} is no ω of {layers} layers", where="--omega", fix="one positive number, or one a layer"
        )
    return omegas if len(omegas) == layers else omegas * layers


def size_of(text: str) -> tuple[int, int]:
    """(height, width).

    Raises:
        WrongUsage: it is no size, or one of more than 2²⁴ pixels.
    """
    from nfn_cli.errors import WrongUsage

    words = text.lower().replace("×", "x").split("x")
    sizes = [int(word) for word in words if word.isdecimal() and len(word) < 7]
    if len(sizes) != len(words) or len(sizes) not in (1, 2) or min(sizes) < 1 or sizes[0] * sizes[-1] > 1 << 24:
        raise WrongUsage(f"{text!r} is no size", where="--size", fix="for example 128 or 96x128, up to 4096x4096")
    return sizes[0], sizes[-1]


def opened_inr(path: str, names: NameOptions) -> Model:
    """The model; where a file does not tell its activation, the message gives the options that do."""
    from nfn_cli.api import open_model
    from nfn_cli.errors import Refused

    try:
        return open_model(path, names)
    except Refused as error:
        if error.code != "activation-unknown":
            raise
        raise Refused(
            error.what, where=error.where, fix="for a SIREN: --activation sin --omega 30", code=error.code
        ) from None
