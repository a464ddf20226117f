"""nfn: symmetries, canonical forms and weight-space predictors for trained networks.

>>> import nfn_cli
>>> report = nfn_cli.symmetry_report("model.safetensors")  # doctest: +SKIP

Everything is imported when it is first asked for, so that `import nfn_cli` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nfn_cli.api import (
        Model,
        act,
        align,
        barrier,
        canonicalize,
        classify_inrs,
        diff,
        digest,
        edit_inr,
        equivalent,
        fingerprint,
        load,
        merge,
        open_model,
        predict_generalization,
        predict_many,
        quantization_report,
        random_element,
        reduce,
        render_inr,
        save,
        symmetry_report,
        weight_norms,
    )
    from nfn_cli.canonical import CanonicalOptions
    from nfn_cli.canonical.reduction import ReduceOptions
    from nfn_cli.errors import NfnError
    from nfn_cli.graph import NameOptions
    from nfn_cli.symmetry import GroupElement, read_element, write_element

__version__ = "0.1.0"

_PLACES = {
    "CanonicalOptions": "nfn_cli.canonical",
    "GroupElement": "nfn_cli.symmetry",
    "NameOptions": "nfn_cli.graph",
    "NfnError": "nfn_cli.errors",
    "ReduceOptions": "nfn_cli.canonical.reduction",
    "read_element": "nfn_cli.symmetry",
    "write_element": "nfn_cli.symmetry",
}

__all__ = [
    "CanonicalOptions",
    "GroupElement",
    "Model",
    "NameOptions",
    "NfnError",
    "ReduceOptions",
    "act",
    "align",
    "barrier",
    "canonicalize",
    "classify_inrs",
    "diff",
    "digest",
    "edit_inr",
    "equivalent",
    "fingerprint",
    "load",
    "merge",
    "open_model",
    "predict_generalization",
    "predict_many",
    "quantization_report",
    "random_element",
    "read_element",
    "reduce",
    "render_inr",
    "save",
    "symmetry_report",
    "weight_norms",
    "write_element",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'nfn_cli' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PLACES.get(name, "nfn_cli.api")), name)
