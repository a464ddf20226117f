"""The slow, obvious oracle: how many directions of weight space leave the outputs alone, by the rank of a numerical Jacobian."""

from __future__ import annotations

import numpy as np

from nfn_cli.graph.model import Network
from nfn_cli.graph.reference import evaluate, random_inputs

from .networks import Tensors

STEP = 1e-4
# Singular values relative to the largest. What a symmetry leaves is the noise of the differences, what is none is larger;
# a value between the two bounds is no answer, and is raised.
_ZERO, _NONZERO = 3e-12, 1e-10


def null_dimension(network: Network, tensors: Tensors, seed: int = 0, spatial: int = 4, spread: float = 2.0) -> int:
    """Entries of all tensors minus the rank of the Jacobian of the outputs, in float64.

    Differences of fourth order; an input for which a unit's kink lies within a step is left out.
    """
    total = sum(array.size for array in tensors.values())
    outputs = _outputs(network, tensors, seed, 2, spatial, spread).shape[1]
    batch = 30 + 2 * -(-total // outputs)
    columns, smooth = [], np.ones(batch, bool)
    for name, array in tensors.items():
        for index in np.ndindex(*array.shape):
            sides = []
            for step in (STEP, -STEP, 2 * STEP, -2 * STEP):
                moved = array.copy()
                moved[index] += step
                sides.append(_outputs(network, {**tensors, name: moved}, seed, batch, spatial, spread))
            near, far = (sides[0] - sides[1]) / (2 * STEP), (sides[2] - sides[3]) / (4 * STEP)
            smooth &= (np.abs(near - far) < 1e-5).all(1)
            columns.append((4 * near - far) / 3)
    jacobian = np.stack([column[smooth].reshape(-1) for column in columns], 1)
    assert len(jacobian) > 1.2 * total
    values = np.linalg.svd(jacobian, compute_uv=False)
    values = values / values[0]
    between = values[(values > _ZERO) & (values < _NONZERO)]
    assert not len(between), f"the rank cannot be told: {between}"
    return total - int(np.sum(values > _NONZERO))


def _outputs(network: Network, tensors: Tensors, seed: int, batch: int, spatial: int, spread: float):
    """(batch, entries of all outputs)."""
    inputs = {name: spread * x for name, x in random_inputs(network.graph, seed, batch, spatial).items()}
    return np.concatenate([y.reshape(batch, -1) for y in evaluate(network.graph, tensors, inputs)], 1)
