"""graph/torchscript/meta.py: shapes of results: allowed ATen ops run on torch's meta tensors, which hold no numbers.

Only ops on the list are run: others may read files, keep state or never end. What is on the list but has no translation
becomes opaque with the right shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nfn_cli.errors import Refused
from nfn_cli.graph.aten.program import Tensor
from nfn_cli.graph.aten.registry import TRANSLATIONS, Result, Results
from nfn_cli.printable import printable

_MOST_RESULTS = 4096

# Ops that only compute; the ones with a translation are on the list as well.
_PURE = frozenset({
    "abs", "acos", "adaptive_max_pool1d", "addbmm", "addcdiv", "addr", "all", "any", "arange", "argmax", "argmin", "argsort",
    "asin", "baddbmm", "bilinear", "bitwise_and", "bitwise_not", "bitwise_or", "broadcast_to", "bucketize", "ceil", "col2im",
    "copysign", "cosh", "cosine_similarity", "cross", "cummax", "cumprod", "cumsum", "diag", "diagonal", "digamma", "dist",
    "dot", "einsum", "embedding", "empty", "empty_like", "eq", "erfc", "erfinv", "exp2", "expm1", "eye", "fill", "flip",
    "floor", "floor_divide", "fmod", "frac", "full", "full_like", "gather", "ge", "gt", "hardshrink", "heaviside", "hypot",
    "im2col", "index", "index_add", "index_copy", "index_fill", "index_put", "index_select", "isfinite", "isinf", "isnan",
    "kthvalue", "le", "lerp", "lgamma", "linspace", "local_response_norm", "log10", "log1p", "log2", "logaddexp",
    "logical_and", "logical_not", "logical_or", "logit", "logsumexp", "lt", "masked_fill", "max", "max_unpool2d", "maximum",
    "median", "meshgrid", "min", "minimum", "mode", "movedim", "multinomial", "mv", "nan_to_num", "ne", "new_empty",
    "new_full", "new_ones", "new_zeros", "one_hot", "ones", "ones_like", "pad", "pdist", "prod", "rand", "rand_like", "randn",
    "randn_like", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "remainder", "repeat", "repeat_interleave",
    "replication_pad1d", "replication_pad2d", "replication_pad3d", "roll", "round", "scatter", "scatter_add", "sgn", "sign",
    "sinc", "sinh", "softshrink", "sort", "std_mean", "take", "tan", "tensordot", "tile", "topk", "trapz", "tril", "triu",
    "trunc", "unfold", "upsample_bicubic2d", "var_mean", "where", "xlogy", "zero", "zeros", "zeros_like", "scalar_tensor",
    "int", "long", "half", "bool", "copy", "grid_sampler", "affine_grid_generator", "softsign", "square", "_shape_as_tensor",
    "mT", "numpy_T", "adjoint", "outer", "ger", "inner", "hstack", "vstack", "dstack", "tensor_split", "hsplit", "vsplit",
    "fractional_max_pool2d", "lp_pool1d", "lp_pool2d", "channel_shuffle", "pixel_shuffle", "_unsafe_index",
})  # fmt: skip
_MAKERS = frozenset(
    {"arange", "empty", "eye", "full", "linspace", "ones", "rand", "randn", "scalar_tensor", "zeros", "tensor"}
)


class DoesNotFit(Refused):
    """The program cannot take an input of this shape."""


def run_op(program: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """One ATen op on stand-ins: its shape from torch, its meaning from graph/aten/.

    Raises:
        Refused: the op is not on the list (code "not-capturable").
        DoesNotFit: torch does not take these arguments.
    """
    import torch

    plain = name.strip("_") if name.startswith("__") else name.removesuffix("_")
    if plain not in TRANSLATIONS and name not in TRANSLATIONS and plain not in _PURE:
        raise Refused(f"the program uses torch.{printable(name, 60)}", code="not-capturable")
    if plain in _MAKERS:
        kwargs = {**kwargs, "device": torch.device("meta")}
    if plain in ("split", "unsafe_split", "unbind", "chunk", "unsafe_chunk", "tensor_split"):
        _check_parts(plain, args)
    operation: Callable[..., Any] | None = getattr(torch.ops.aten, name, None)
    if operation is None:
        raise Refused(f"torch has no operation {printable(name, 60)}", code="not-capturable")
    try:
        with torch.no_grad():
            made = operation(*_metas(args), **{key: _metas(value) for key, value in kwargs.items()})
    except Exception as error:  # torch's shape functions are Python and raise what comes
        reason = printable(str(error).split("\n")[0], 120)
        raise DoesNotFit(f"torch.{printable(name, 60)} cannot be followed: {reason}", code="not-capturable") from None
    if not isinstance(made, (torch.Tensor, list, tuple)):
        return made
    held = program.call(name, args, kwargs, _results(made))
    if isinstance(held, list):
        for tensor, meta in zip(held, made, strict=True):
            if tensor is not None:
                tensor.content = meta
    elif held is not None:
        held.content = made
    return held


def meta_tensor(shape: Sequence[int], dtype: str) -> Any:
    """A tensor of this shape without numbers; `dtype` is a name of NumPy or ml_dtypes."""
    import torch

    return torch.empty(tuple(shape), dtype=getattr(torch, dtype), device="meta")


def _results(made: Any) -> Results:
    if isinstance(made, (list, tuple)):
        return [_result(part) for part in made]
    return _result(made)


def _result(meta: Any) -> Result | None:
    return Result(tuple(meta.shape), bool(meta.dtype.is_floating_point)) if hasattr(meta, "shape") else None


def _metas(entry: Any) -> Any:
    if isinstance(entry, (list, tuple)):
        return [_metas(part) for part in entry]
    return entry.content if isinstance(entry, Tensor) else entry


def _check_parts(name: str, args: Sequence[Any]) -> None:
    """Refuse a cut in very many parts before torch makes them."""
    rest = args[1:] if name == "unbind" else args[2:]
    axis = next((a for a in rest if type(a) is int), 0)
    shape = args[0].shape if args and isinstance(args[0], Tensor) else ()
    length = shape[axis] if -len(shape) <= axis < len(shape) else 0
    by = 1 if name == "unbind" else args[1] if len(args) > 1 else 1
    count = length if type(by) is not int else by if "chunk" in name or name == "tensor_split" else length // max(1, by)
    if count > _MOST_RESULTS:
        raise Refused(f"the program cuts a tensor in {count} parts", code="too-large")
