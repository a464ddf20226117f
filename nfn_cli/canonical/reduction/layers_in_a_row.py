"""canonical/reduction/layers_in_a_row.py: two linear layers with nothing between them, at the least width that holds their product.

W₂W₁ of rank r needs r units between: W₁ and W₂ become the two halves of its singular value decomposition. One layer instead of two
would need another program to load it, and more parameters where the layers between form a bottleneck.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nfn_cli.canonical.reduction.dead import Reader
from nfn_cli.canonical.reduction.layout import Layout
from nfn_cli.canonical.reduction.precision import Precision
from nfn_cli.canonical.reduction.reading import Array, Tensors
from nfn_cli.graph.model import Graph, Network, Op
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.element import FloatArray


@dataclass(frozen=True, eq=False)
class Narrowed:
    """A width that shrinks.

    Attributes:
        units: those between the layers; the first `width` of them stay, as mixtures of all.
        tensors: the layers' weights and biases, of the old width, with zeros where units go.
        residual: largest change of an entry of the product, relative to the magnitudes that it is summed from.
    """

    units: IntArray
    width: int
    tensors: Mapping[str, Array]
    residual: float


def narrowings(
    layout: Layout, networks: Sequence[Network], readers: Sequence[Reader], tensors: Tensors, precision: Precision
) -> list[Narrowed]:
    """One for each pair of layers that can do with fewer units between; pairs do not overlap."""
    found: list[Narrowed] = []
    taken: set[str] = set()
    for reader in readers:
        maker = _maker(reader, networks[reader.network].graph)
        if maker is None:
            continue
        names = {*maker.parameters.values(), *reader.op.parameters.values()}
        if names & taken or not _theirs_alone(layout, maker, reader, networks):
            continue
        narrowed = _narrowed(maker, reader, tensors, precision)
        if narrowed is not None:
            taken |= names
            found.append(narrowed)
    return found


def _maker(reader: Reader, graph: Graph) -> Op | None:
    """The ungrouped layer whose output, through identities alone, only this layer reads."""
    made_by = {op.output: op for op in graph.ops}
    name = reader.op.inputs[0]
    while True:
        op = made_by.get(name)
        if op is None or name in graph.outputs or sum(other.inputs.count(name) for other in graph.ops) != 1:
            return None
        if op.kind in ("linear", "conv"):
            plain = len(op.inputs) == 1 and int(op.attributes.get("groups", 1)) == 1
            return op if plain and reader.reading.groups == 1 and reader.rewritable else None
        if op.kind != "pointwise" or op.attributes["function"] != "identity":
            return None
        name = op.inputs[0]


def _theirs_alone(layout: Layout, maker: Op, reader: Reader, networks: Sequence[Network]) -> bool:
    """Whether the units have no slot outside the two layers, and the tensors no other reader."""
    own = {*maker.parameters.values(), reader.op.parameters["weight"]}
    if layout.fixed[reader.into].any() or len(np.unique(reader.into)) != len(reader.into):
        return False
    if any(np.isin(place.units, reader.into).any() for place in layout.places if place.tensor not in own):
        return False
    readers = [op for network in networks for op in network.graph.ops if own & set(op.parameters.values())]
    return len(readers) == 2


def _narrowed(maker: Op, reader: Reader, tensors: Tensors, precision: Precision) -> Narrowed | None:
    first = tensors[maker.parameters["weight"]]
    dims = (maker.attributes["out_axis"], maker.attributes["in_axis"])
    below = np.moveaxis(first, dims, (0, 1)).astype(np.float64)
    n = below.shape[0]
    rows = below.reshape(n, -1)
    view = reader.reading.view[0].astype(np.float64)  # (outputs, units, kernel)
    columns = np.moveaxis(view, 1, 2).reshape(-1, n)
    offset = np.zeros(n)
    if "bias" in maker.parameters:
        offset = np.asarray(tensors[maker.parameters["bias"]]).astype(np.float64).reshape(-1)
    absorbed = reader.absorber is not None
    if not absorbed and "bias" in maker.parameters:
        rows = np.concatenate([rows, offset[:, None]], axis=1)
    left, right, residual = _factors(columns, rows, precision.rounding)
    width = left.shape[1]
    if width >= n:
        return None
    out: dict[str, Array] = {}
    wide = np.zeros((n, rows.shape[1]))
    wide[:width] = right
    made = wide[:, : below.reshape(n, -1).shape[1]].reshape(below.shape)
    out[maker.parameters["weight"]] = np.moveaxis(made, (0, 1), dims).astype(first.dtype)
    taken = np.zeros((columns.shape[0], n))
    taken[:, :width] = left
    back = np.moveaxis(taken.reshape(view.shape[0], view.shape[2], n), 2, 1)
    name = reader.op.parameters["weight"]
    reads = (reader.op.attributes["out_axis"], reader.op.attributes["in_axis"])
    shape = np.moveaxis(tensors[name], reads, (0, 1)).shape
    out[name] = np.moveaxis(back.reshape(shape), (0, 1), reads).astype(tensors[name].dtype)
    if "bias" in maker.parameters:
        bias = tensors[maker.parameters["bias"]]
        out[maker.parameters["bias"]] = (
            (np.zeros(n) if absorbed else wide[:, -1]).reshape(bias.shape).astype(bias.dtype)
        )
    if absorbed and reader.absorber is not None and offset.any():
        vector = tensors[reader.absorber.tensor]
        added = reader.absorber.sign * (view.sum(axis=2) @ offset)
        out[reader.absorber.tensor] = (vector.astype(np.float64) + added.reshape(vector.shape)).astype(vector.dtype)
    return Narrowed(reader.into, width, out, residual)


def _factors(left: FloatArray, right: FloatArray, rounding: float) -> tuple[FloatArray, FloatArray, float]:
    """(a, n), (n, b) -> (a, r), (r, b) with the same product, r as small as rounding allows; at least 1."""
    outer, left_core = np.linalg.qr(left)
    inner, right_core = np.linalg.qr(right.T)
    u, s, v = np.linalg.svd(left_core @ right_core.T, full_matrices=False)
    size = np.abs(left) @ np.abs(right)
    for threshold in (rounding, 0.0):  # the smaller rank only where every entry of the product stays
        rank = max(1, int((s > threshold * s[0]).sum()))
        root = np.sqrt(s[:rank])
        new_left, new_right = (outer @ u[:, :rank]) * root, (root[:, None] * v[:rank]) @ inner.T
        off = np.abs(new_left @ new_right - left @ right)
        residual = float(np.max(off / np.where(size > 0, size, 1.0), initial=0.0))
        if residual <= rounding:
            break
    return new_left, new_right, residual
