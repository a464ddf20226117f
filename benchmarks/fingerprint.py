"""How well fingerprints tell networks apart: python benchmarks/fingerprint.py ZOO [--copied N] [--seed N]

ZOO is a folder that `nfn zoo info` reads (benchmarks/fingerprint_population.py makes a large one). For each family: networks
per second of processor time on one core; all pairs of different rows: those within the radius (of one run, of weights that are
equal bit for bit, others: collisions) and the nearest pair of different runs. Of N rows: orbit copies (all kinds of group
elements, scales up to 1,000) and copies in half precision beyond the radius (misses), those of them in which some tensor
underflows (root mean square below the smallest normal number) counted apart; how the number of differing bits grows with noise.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import ml_dtypes
import numpy as np
from figures import figure

from nfn_cli.graph.model import Network
from nfn_cli.match.fingerprint import Fingerprinter
from nfn_cli.match.fingerprint_code import BITS, RADIUS
from nfn_cli.symmetry.solve import find_symmetry
from nfn_cli.train.orbit import OrbitMove, moved
from nfn_cli.zoo.family import Family
from nfn_cli.zoo.open_zoo import open_zoo

Array = np.ndarray[Any, np.dtype[Any]]
_NOISE = (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
_ROWS_AT_A_TIME = 1024


def apart(a: Array, b: Array) -> Array:
    """(n, 32), (n, 32) -> (n,) bits that differ."""
    return np.unpackbits(a ^ b, axis=-1).sum(axis=-1).astype(np.int64)


def all_pairs(codes: Array, runs: Array) -> tuple[Array, int, int]:
    """Of all pairs: (m, 2) those within the radius, and the least distance of two of one run and of two runs."""
    bits = np.unpackbits(codes, axis=1).astype(np.float32)
    ones, near, least = bits.sum(axis=1), [np.zeros((0, 2), np.int64)], [BITS, BITS]
    for start in range(0, len(bits), _ROWS_AT_A_TIME):
        part = slice(start, min(start + _ROWS_AT_A_TIME, len(bits)))
        distance = ones[part, None] + ones[None, start:] - 2 * (bits[part] @ bits[start:].T)
        distance[np.tril_indices(part.stop - start)] = 2 * BITS  # pairs of before, and with itself
        left, right = np.nonzero(distance <= RADIUS)
        near.append(np.stack([left, right], axis=1) + start)
        first, second = np.nonzero(runs[part, None] == runs[None, start:])
        one_run = distance[first, second]
        least[0] = min(least[0], int(one_run.min(initial=2 * BITS)))
        distance[first, second] = 2 * BITS
        least[1] = min(least[1], int(distance.min(initial=2 * BITS)))
    return np.concatenate(near), least[0], least[1]


def equal_weights(family: Family, pairs: Array) -> Array:
    """(m, 2) -> (m,) whether both hold the same numbers."""
    same = np.zeros(len(pairs), bool)
    for number, pair in enumerate(pairs):
        same[number] = all(np.array_equal(array[0], array[1]) for array in family.tensors(rows=pair).values())
    return same


def underflows(tensors: Mapping[str, Array], smallest: float) -> Array:
    """(n,) whether some tensor's root mean square is below the type's smallest normal number."""
    flat = [array.reshape(len(array), -1).astype(np.float64) for array in tensors.values()]
    return np.any([np.sqrt(np.square(each).mean(axis=1)) < smallest for each in flat], axis=0)


def measure_pairs(family: Family, maker: Fingerprinter, runs: Array) -> int:
    """Fingerprints of all rows, and what their pairs are; the number of collisions."""
    found, seconds = [], 0.0
    for start in range(0, len(family), _ROWS_AT_A_TIME):
        stop = min(start + _ROWS_AT_A_TIME, len(family))
        tensors = {name: np.array(a) for name, a in family.tensors(rows=slice(start, stop)).items()}
        begin = time.process_time()
        found.append(maker.codes_and_usable(tensors))
        seconds += time.process_time() - begin
    codes, usable = (np.concatenate(part) for part in zip(*found, strict=True))
    rows = np.flatnonzero(usable)
    count = len(rows)
    functions = {str(op.attributes["function"]) for op in family.graph.ops if op.kind == "pointwise"}
    figure("-".join(sorted(functions)), count / seconds)
    print(f"{family.name}: {count:,} networks of {len(np.unique(runs[rows])):,} runs, {count / seconds:,.0f} a second")
    pairs, one_run, two_runs = all_pairs(codes[rows], runs[rows])
    pairs = rows[pairs]
    same_run = runs[pairs[:, 0]] == runs[pairs[:, 1]]
    same = equal_weights(family, pairs)
    sizes = [int((~same & of).sum()) for of in (same_run, ~same_run)]
    print(
        f"  {count * (count - 1) // 2:,} pairs, nearest of two runs {two_runs} of {BITS} bits apart, of one {one_run}"
    )
    print(
        f"  within {RADIUS}: {same.sum():,} equal, {sizes[0]:,} of one run, {sizes[1]:,} of two: collisions", flush=True
    )
    return sizes[1]


def measure_copies(family: Family, maker: Fingerprinter, rows: Array, seed: int) -> int:
    """Misses among copies of some rows, and what noise does; the number of misses where no tensor underflows."""
    symmetry = find_symmetry([Network("", "", family.graph)])
    tensors = {name: np.array(array) for name, array in family.tensors(rows=rows).items()}
    codes, usable = maker.codes_and_usable(tensors)
    missed = 0
    for reach in (4.0, 1000.0):
        for turn in range(2):
            copy = moved(family.graph, symmetry, tensors, OrbitMove("all", reach), seed + turn)
            missed += report(f"orbit, scales to {reach:g}", apart(codes, maker.codes_and_usable(copy)[0])[usable])
    copy = moved(family.graph, symmetry, tensors, OrbitMove("all", 4.0), seed)
    for dtype, smallest in ((ml_dtypes.bfloat16, 1.2e-38), (np.float16, 6.1e-5)):
        for title, source in (("", tensors), ("orbit copy in ", copy)):
            half = {name: array.astype(dtype) for name, array in source.items()}
            lost = underflows(source, smallest)[usable]
            distances = apart(codes, maker.codes_and_usable(half)[0])[usable]
            missed += report(f"{title}{np.dtype(dtype).name}", distances[~lost])
            if lost.any():
                report(f"{title}{np.dtype(dtype).name}, underflowing", distances[lost])
    random = np.random.default_rng(seed)
    for size in _NOISE:
        noisy = {n: a * (1 + size * random.standard_normal(a.shape)).astype(np.float32) for n, a in tensors.items()}
        report(f"noise of {size:.2%}", apart(codes, maker.codes_and_usable(noisy)[0])[usable])
    return missed


def rate_of_half(zoo: str, number: int, half: int) -> float:
    """Networks a second of processor time on half of a family's rows; for a process of its own."""
    family = open_zoo(zoo, final_only=False).families[number]
    maker, count = Fingerprinter.of_graph(family.graph), min(len(family), 2 * _ROWS_AT_A_TIME) // 2
    rows = slice(half * count, (half + 1) * count)
    tensors = {name: np.array(array) for name, array in family.tensors(rows=rows).items()}
    begin = time.process_time()
    maker.codes_and_usable(tensors)
    return count / (time.process_time() - begin)


def measure_two_processes(path: str, families: int) -> None:
    """What two processes at the same time do together."""
    with ProcessPoolExecutor(2) as pool:
        for number in range(families):
            rates = list(pool.map(rate_of_half, (path, path), (number, number), (0, 1)))
            print(f"family {number}: two processes at once {sum(rates):,.0f} networks a second", flush=True)


def report(title: str, distances: Array) -> int:
    """Print one line; how many are beyond the radius."""
    beyond = int((distances > RADIUS).sum())
    mean, most = (distances.mean(), distances.max()) if len(distances) else (0.0, 0)
    print(
        f"  {title}: {len(distances):,}, beyond the radius {beyond}, bits {mean:.2f} on average, {most} at most",
        flush=True,
    )
    return beyond


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("zoo")
    parser.add_argument("--copied", type=int, default=1024, help="rows of each family of which copies are made")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--two-processes", action="store_true", help="only the speed of two processes at the same time")
    arguments = parser.parse_args()
    zoo = open_zoo(arguments.zoo, final_only=False)
    if arguments.two_processes:
        measure_two_processes(arguments.zoo, len(zoo.families))
        return
    _, runs = np.unique(zoo.runs, return_inverse=True)
    collisions = missed = 0
    for family in zoo.families:
        maker = Fingerprinter.of_graph(family.graph)
        collisions += measure_pairs(family, maker, runs[family.rows])
        chosen = np.arange(min(arguments.copied, len(family))) * len(family) // min(arguments.copied, len(family))
        missed += measure_copies(family, maker, chosen, arguments.seed)
    figure("collisions", collisions)
    figure("missed", missed)


if __name__ == "__main__":
    main()
