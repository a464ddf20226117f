"""canonical/orbit_digest.py: one SHA-256 for all members of an orbit: the rounded canonical form. Knows networks; no file.

As in `checkpoint.digest`, every tensor gives one line, here of the tensors that the networks use:

    NAME SHAPE SIZE SUM

SIZE: its root mean square in the balanced form, in steps of 1.1 %, or "zero"; SUM: a hash of its entries, signs settled,
each rounded to a multiple of that mean times a power of two, together with the colours of the units they join
(`orbit_colours`), so that no order of units enters. Element types do not count.

The width of the cells grows with the number of entries: float32 noise then moves an entry across a border in about one
network of fifty, while a change of all weights by one part in ten thousand moves dozens of entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log2, prod, sqrt

from nfn_cli.canonical.canonicalize import CanonicalOptions, canonical_element
from nfn_cli.canonical.orbit_colours import CanonicalRows, OrbitColours
from nfn_cli.checkpoint.digest import Digest, digest_of, named, shape_text
from nfn_cli.checkpoint.finite import check_finite
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.graph.model import Network
from nfn_cli.symmetry.element import to_flat
from nfn_cli.symmetry.solve import find_symmetry

# Rounding to float32 moves an entry by 3e-8 of its size on average; of N entries, N · 3e-8 / (width of the cells) cross.
_NOISE = 3e-8
_EXPECTED_CROSSINGS = 0.02
# Beyond 8 root mean squares there would be no cells left; below 1/128 the noise of the scales themselves counts.
_WIDTHS = (-7, 3)
_SIZES = 64  # steps of SIZE to a factor of two
_HALF = ("float16", "bfloat16")


def orbit_digest(checkpoint: Checkpoint, networks: Sequence[Network], *, names: bool = True) -> Digest:
    """A digest that permutations, scales, signs and phases leave alone, up to float noise.

    No rounding is stable everywhere: of two members of one orbit whose entries fall to the two sides of a border, the
    digests differ. Equal digests say that the rounded forms agree; different ones say little, matching decides.

    Raises:
        Refused: weights are not finite, or shapes disagree.
    """
    used = sorted({checkpoint.aliases.get(n, n) for network in networks for n in network.graph.parameter_shapes})
    check_finite(checkpoint, used)
    symmetry = find_symmetry(networks, checkpoint.aliases)
    element = canonical_element(symmetry, checkpoint.tensors, CanonicalOptions(order=False))
    rows = CanonicalRows(checkpoint.tensors, symmetry, to_flat(symmetry, element))
    entries = sum(prod(rows.shape(name)) for name in used)
    sizes = {name: sqrt(rows.mean_square(name)) for name in used}
    width = cell_width(entries)
    colours = OrbitColours(symmetry, rows, {name: size * width if size else 1.0 for name, size in sizes.items()})
    lines = []
    for name in used:
        shape = shape_text(checkpoint.tensors[name].shape)
        text = f"{shape} {_size_text(sizes[name])} {colours.tensor_sum(name):016x}"
        lines.append(named(name, text) if names else text)
    ordered = tuple(sorted(lines))
    notes = [note for network in networks for note in network.notes]
    if any(checkpoint.tensors[name].dtype.name in _HALF for name in used):
        notes.append("half precision: one rounding of the weights is enough to move this digest")
    return Digest(
        checkpoint.path,
        checkpoint.container,
        digest_of(ordered),
        True,
        names,
        ordered,
        entries,
        checkpoint.left_aside,
        tuple(notes),
    )


def cell_width(entries: int) -> float:
    """Width of the cells in root mean squares, a power of two: as fine as the number of entries allows."""
    wanted = log2(max(1, entries) * _NOISE / _EXPECTED_CROSSINGS)
    return 2.0 ** min(max(ceil(wanted), _WIDTHS[0]), _WIDTHS[1])


def _size_text(size: float) -> str:
    # the offset keeps a mean size of exactly 1, 2, 4 … away from a border
    return str(floor(log2(size) * _SIZES + 0.382)) if size else "zero"
