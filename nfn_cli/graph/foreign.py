"""graph/foreign.py: what is not a chain of layers, told from names and shapes, so that it is never half-analysed as one."""

from __future__ import annotations

import re
from collections.abc import Mapping

from nfn_cli.errors import Refused
from nfn_cli.printable import printable

Shape = tuple[int, ...]

# (pattern over lower-case names, code, what it is)
_PATTERNS: tuple[tuple[str, str, str], ...] = (
    (
        r"weight_[ih]h(_l\d+)?$|recurrent_kernel|(^|[./_])(lstm|gru|rnn|rnncell|lstmcell)\d*[./_]",
        "recurrent",
        "a recurrent network",
    ),
    (r"(^|[./])(i_h|h_h|i2h|h2h|hidden_to_hidden|hh|w_hh|whh)([./]|$)", "recurrent", "a recurrent network"),
    (
        r"in_proj|self_attn|attention|(^|[./_])(attn|qkv|q_proj|k_proj|query)([./_]|$)|cls_token|pos_embed",
        "transformer",
        "a transformer",
    ),
    (
        r"(^|[./_])(gcn|gat|gin|sage|graphconv|gconv)\w*[./]|att_src|att_dst|lin_(src|dst|rel|root)",
        "graph-network",
        "a graph network",
    ),
    (
        r"(weight|kernel)_[guv]$|(^|[./])parametrizations[./]",
        "reparametrized",
        "a weight that is made from other tensors",
    ),
    (
        r"(^|[./_])masks?$|weight_mask|_orig$",
        "masked",
        "a network with masked, pruned or spectrally normalized weights",
    ),
    (
        r"embed(ding)?s?[./_]?\d*[./](weight|embedding)|word_embed|token_embed",
        "embedding",
        "a network with embedding tables",
    ),
    (r"_packed_params|zero_point|qweight|qzeros|scales$", "quantized", "a quantized network"),
    (r"lora_[ab]|adapter", "adapter", "adapter weights, not a network"),
    (
        r"(^|[./])(downsample|shortcut|skip|denseblock|inverted|se_block|fire)\d*[./]",
        "needs-graph",
        "a network with branches that names alone do not settle",
    ),
)

_FIXES = {"reparametrized": "remove weight_norm, spectral_norm or the parametrization before saving"}


def refuse_foreign(shapes: Mapping[str, Shape]) -> None:
    """Raise for what the names give away.

    Raises:
        Refused: with a code of its own for each kind.
    """
    for name, shape in shapes.items():
        lower = name.lower()
        for pattern, code, what in _PATTERNS:
            if re.search(pattern, lower):
                raise Refused(
                    f"{what}, which is not analysed", where=printable(name), fix=_FIXES.get(code, ""), code=code
                )
        if len(shape) == 2 and re.search(r"(^|[./])(g?conv\w*?)\d*[./]weight$", lower):
            raise Refused(
                "a convolution whose weight is a matrix: a graph network, which is not analysed",
                where=printable(name),
                code="graph-network",
            )
    words = [set(re.split(r"[./_]", name.lower())) for name in shapes]
    if sum(bool({"mean", "std", "var"} & each) for each in words) > len(words) / 2 and any("std" in w for w in words):
        raise Refused("statistics (means and deviations), not a network", code="statistics")
