"""checkpoint/onnx_external.py: tensors that an ONNX model keeps in files beside it. Knows where, and how much is honest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nfn_cli.errors import Refused
from nfn_cli.printable import printable


def load_external_data(model: Any, folder: Path) -> None:
    """Bring the data into the model.

    Raises:
        Refused: a file is missing or lies elsewhere ("missing-external-data"), or the model claims more bytes than
            its files have ("bad-header").
    """
    from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_model

    claimed, sizes = 0, {}
    for tensor in _external_tensors(model.graph):
        try:
            info = ExternalDataInfo(tensor)
            file = folder / info.location
            sizes[info.location] = file.stat().st_size
            claimed += int(info.length or 0) or max(0, sizes[info.location] - int(info.offset or 0))
        except (OSError, ValueError) as error:
            raise _missing(error) from None
    if not sizes:
        return
    # tensors may share bytes; a thousand that all name one large file would fill the memory
    if claimed > 2 * sum(sizes.values()) + 2**20:
        raise Refused("the ONNX model claims more external data than its files hold", code="bad-header")
    try:
        load_external_data_for_model(model, str(folder))
    except Exception as error:  # the checks of onnx on paths and lengths raise many kinds
        raise _missing(error) from None


def _missing(error: Exception) -> Refused:
    reason = printable(str(error).split("\n")[0], 100)
    return Refused(
        f"external data of the ONNX model is missing ({reason})",
        fix="put it beside the model",
        code="missing-external-data",
    )


def _external_tensors(graph: Any) -> Iterator[Any]:
    from onnx.external_data_helper import uses_external_data

    tensors = [*graph.initializer]
    for node in graph.node:
        for attribute in node.attribute:
            tensors.extend((attribute.t, *attribute.tensors))
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.initializer:
                    yield from _external_tensors(inner)
    yield from (tensor for tensor in tensors if uses_external_data(tensor))
