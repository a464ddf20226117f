"""canonical: scale, phase, sign, order, canonicalize. Knows symmetry; no file format, no command line."""

from nfn_cli.canonical.canonicalize import (
    SCALES,
    Canonicalized,
    CanonicalOptions,
    Verification,
    canonicalize,
    verify,
)

__all__ = ["SCALES", "CanonicalOptions", "Canonicalized", "Verification", "canonicalize", "verify"]
