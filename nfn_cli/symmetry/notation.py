"""symmetry/notation.py: groups in standard notation, and their sizes. Strings and numbers only."""

from __future__ import annotations

from collections.abc import Sequence
from math import lgamma, log, log10

from nfn_cli.symmetry.unit_set import UnitSet


def group_name(unit_set: UnitSet) -> str:
    """`S_n`, `R>0^n ⋊ S_n`, `{±1}^n ⋊ S_n`, `(R>0 × {±1})^n ⋊ S_n`, `D∞ ≀ S_n`, … for one unit set."""
    n = unit_set.size
    scales, signs, shifts = (unit_set.families[kind] for kind in ("scale", "sign", "shift"))
    factors = []
    if shifts:
        factors.append(_power("D∞", shifts))
        signs -= min(signs, shifts)
    if scales:
        factors.insert(0, _power("R>0", scales))
    if signs:
        factors.append(_power("{±1}", signs))
    k = unit_set.block_size
    moved = f"(S_{k} ≀ S_{n // k})" if k else f"S_{n}"
    if not factors:
        return moved.strip("()") if unit_set.permutable else "1"
    inner = factors[0] if len(factors) == 1 and "^" not in factors[0] else f"({' × '.join(factors)})"
    if not unit_set.permutable:
        return f"{inner}^{n}"
    if inner == "D∞" and not k:
        return f"D∞ ≀ S_{n}"
    return f"{inner}^{n} ⋊ {moved}"


def _power(name: str, count: int) -> str:
    return name if count == 1 else f"{name}^{count}"


def log10_permutations(unit_sets: Sequence[UnitSet]) -> float:
    """log10 of the number of permutations; blocks that several sets exchange together count once."""
    total, families = 0.0, set()
    for unit_set in unit_sets:
        if not unit_set.permutable:
            continue
        if not unit_set.block_size:
            total += log10_factorial(unit_set.size)
            continue
        count = unit_set.size // unit_set.block_size
        total += count * log10_factorial(unit_set.block_size)
        if unit_set.block_family not in families:
            families.add(unit_set.block_family)
            total += log10_factorial(count)
    return total


def log10_factorial(n: int) -> float:
    return lgamma(n + 1) / log(10)


def log10_two(count: int) -> float:
    return count * log10(2)
