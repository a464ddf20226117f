"""How well fingerprints tell networks apart: python benchmarks/fingerprint.py ZOO [--seed N]

ZOO is a folder that `nfn zoo info` reads. For each family: networks per second of processor time on one core; pairs of
different rows within the radius (collisions) and the nearest pair; orbit copies (all kinds of group elements, scales up to
1,000) and copies in half precision beyond the radius (misses); how the number of differing bits grows with relative noise.
Half-precision copies in which some tensor underflows (root mean square below the smallest normal number) are counted apart:
what is left of them is another network.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from nfn_cli.graph.model import Network
from nfn_cli.match.fingerprint import Fingerprinter
from nfn_cli.match.fingerprint_code import BITS, RADIUS
from nfn_cli.symmetry.solve import find_symmetry
from nfn_cli.train.orbit import OrbitMove, moved
from nfn_cli.zoo.family import Family
from nfn_cli.zoo.open_zoo import open_zoo

Array = np.ndarray[Any, np.dtype[Any]]
_NOISE = (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
_ROWS_AT_A_TIME = 512


def apart(a: Array, b: Array) -> Array:
    """(n, 32), (n, 32) -> (n,) bits that differ."""
    return np.unpackbits(a ^ b, axis=-1).sum(axis=-1).astype(np.int64)


def nearest(codes: Array) -> tuple[int, int]:
    """Pairs within the radius, and the least distance of a pair."""
    bits = np.unpackbits(codes, axis=1).astype(np.float32)
    ones, within, least = bits.sum(axis=1), 0, BITS
    for start in range(0, len(bits), _ROWS_AT_A_TIME):
        part = slice(start, start + _ROWS_AT_A_TIME)
        distance = ones[part, None] + ones[None, :] - 2 * bits[part] @ bits.T
        later = np.arange(len(bits))[None, :] > np.arange(len(bits))[part, None]
        within += int((later & (distance <= RADIUS)).sum())
        least = min(least, int(distance[later].min(initial=BITS)))
    return within, least


def underflows(tensors: Mapping[str, Array], smallest: float) -> Array:
    """(n,) whether some tensor's root mean square is below the type's smallest normal number."""
    flat = [array.reshape(len(array), -1).astype(np.float64) for array in tensors.values()]
    return np.any([np.sqrt(np.square(each).mean(axis=1)) < smallest for each in flat], axis=0)


def measure(family: Family, seed: int) -> None:
    maker = Fingerprinter.of_graph(family.graph)
    symmetry = find_symmetry([Network("", "", family.graph)])
    tensors = {name: np.array(array) for name, array in family.tensors().items()}
    start = time.process_time()
    codes, usable = maker.codes_and_usable(tensors)
    seconds = time.process_time() - start
    within, least = nearest(codes[usable])
    count = int(usable.sum())
    print(f"{family.name}: {count:,} networks, {count / seconds:,.0f} a second on one core")
    print(f"  collisions: {within} of {count * (count - 1) // 2:,} pairs; nearest pair {least} of {BITS} bits apart")
    for reach in (4.0, 1000.0):
        for turn in range(2):
            copy = moved(family.graph, symmetry, tensors, OrbitMove("all", reach), seed + turn)
            report(f"orbit, scales to {reach:g}", apart(codes, maker.codes_and_usable(copy)[0])[usable])
    copy = moved(family.graph, symmetry, tensors, OrbitMove("all", 4.0), seed)
    for dtype, smallest in ((ml_dtypes.bfloat16, 1.2e-38), (np.float16, 6.1e-5)):
        for title, source in (("", tensors), ("orbit copy in ", copy)):
            half = {name: array.astype(dtype) for name, array in source.items()}
            lost = underflows(source, smallest)[usable]
            distances = apart(codes, maker.codes_and_usable(half)[0])[usable]
            report(f"{title}{np.dtype(dtype).name}", distances[~lost])
            if lost.any():
                report(f"{title}{np.dtype(dtype).name}, underflowing", distances[lost])
    random = np.random.default_rng(seed)
    for size in _NOISE:
        noisy = {n: a * (1 + size * random.standard_normal(a.shape)).astype(np.float32) for n, a in tensors.items()}
        report(f"noise of {size:.2%}", apart(codes, maker.codes_and_usable(noisy)[0])[usable])


def report(title: str, distances: Array) -> None:
    beyond = int((distances > RADIUS).sum())
    mean, most = (distances.mean(), distances.max()) if len(distances) else (0.0, 0)
    print(
        f"  {title}: {len(distances):,}, beyond the radius {beyond}, bits {mean:.2f} on average, {most} at most",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("zoo")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for family in open_zoo(arguments.zoo, final_only=False).families:
        measure(family, arguments.seed)


if __name__ == "__main__":
    main()
