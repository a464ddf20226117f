"""symmetry/notation.py: groups in standard notation, and their sizes. Strings and numbers only."""

from __future__ import annotations

from math import lgamma, log, log10

from nfn_cli.symmetry.solve import UnitSet


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
    if not factors:
        return f"S_{n}" if unit_set.permutable else "1"
    inner = factors[0] if len(factors) == 1 and "^" not in factors[0] else f"({' × '.join(factors)})"
    if not unit_set.permutable:
        return f"{inner}^{n}"
    if inner == "D∞":
        return f"D∞ ≀ S_{n}"
    return f"{inner}^{n} ⋊ S_{n}"


def _power(name: str, count: int) -> str:
    return name if count == 1 else f"{name}^{count}"


def log10_factorial(n: int) -> float:
    return lgamma(n + 1) / log(10)


def log10_two(count: int) -> float:
    return count * log10(2)
