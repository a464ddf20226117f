"""graph/from_keras: the network of a Keras model, from the configuration in its file. Runs no code of it.

`calls` takes the configuration apart into calls of layers, nested models and layers used twice included; `layers` says each in
nodes of ONNX, channels first, so that one translation serves both. A layer that is not known becomes an opaque op.
"""

from __future__ import annotations

from nfn_cli.checkpoint.keras_file import KerasModel
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.checkpoint.origin import origin_of
from nfn_cli.errors import Refused
from nfn_cli.graph.from_keras.calls import NoGraph, Plan, calls_of
from nfn_cli.graph.from_keras.layers import onnx_graph
from nfn_cli.graph.from_onnx import network_of
from nfn_cli.graph.model import Network

_LARGE_SIDE, _SIDE = 256, 128

__all__ = ["check_chain", "network_from_keras"]


def network_from_keras(checkpoint: Checkpoint) -> Network | None:
    """The network as its configuration says; None where the file has none, or one that says too little.

    Raises:
        Refused: what the model computes is too large, or no weights of it are understood.
    """
    model = origin_of(checkpoint).content
    if not isinstance(model, KerasModel) or model.config is None:
        return None
    try:
        plan = calls_of(model.config)
        large = any(shape and max(n or 0 for n in shape[1:-1] or (0,)) > _LARGE_SIDE for shape in plan.inputs)
        # with weights for every position of the stated size the smaller one does not fit
        return (_at_size(plan, checkpoint, _SIDE) if large else None) or _at_size(plan, checkpoint, None)
    except NoGraph:
        return None
    except Refused as refusal:
        if refusal.code == "not-a-network":
            check_chain(checkpoint)  # it says which layer is in the way
        raise


def _at_size(plan: Plan, checkpoint: Checkpoint, longest: int | None) -> Network | None:
    """None where shapes disagree: open sizes that none of the tried ones fits, or pictures made too small."""
    try:
        return network_of(onnx_graph(plan, checkpoint, longest), checkpoint, origin_of(checkpoint).content.told)
    except Refused as refusal:
        if refusal.code == "shape-mismatch":
            return None
        raise


def check_chain(checkpoint: Checkpoint) -> None:
    """Before a network is made of the order of the tensors: raises the Refused that says why it tells nothing, if it does not."""
    model = origin_of(checkpoint).content
    if isinstance(model, KerasModel) and model.no_chain is not None:
        raise model.no_chain
