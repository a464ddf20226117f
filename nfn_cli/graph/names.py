"""graph/names.py: what the name of a tensor says: its module, its role, its place in natural order. Knows strings only."""

from __future__ import annotations

import re
from dataclasses import dataclass

NaturalKey = tuple[tuple[int, int, str], ...]

_ROLE_WORDS = {
    "weight": "weight",
    "weights": "weight",
    "kernel": "weight",
    "kernels": "weight",
    "w": "weight",
    "bias": "bias",
    "biases": "bias",
    "b": "bias",
    "depthwise_kernel": "depthwise",
    "gamma": "norm_weight",
    "scale": "norm_weight",
    "beta": "norm_bias",
    "offset": "norm_bias",
    "running_mean": "running_mean",
    "moving_mean": "running_mean",
    "mean": "running_mean",
    "running_var": "running_var",
    "moving_variance": "running_var",
    "moving_var": "running_var",
    "var": "running_var",
    "num_batches_tracked": "counter",
    "mask": "mask",
}
# Words that say "in × out, kernel positions first" (TensorFlow, Keras, Flax, Haiku).
_CHANNELS_LAST_WORDS = frozenset({"kernel", "kernels", "depthwise_kernel"})
_COMPOUND = re.compile(
    r"^(?P<stem>.*?)(?P<separator>[_-]?)(?P<role>weights?|kernels?|bias(?:es)?|w|b)(?P<link>[_-]?)(?P<number>\d*)$",
    re.IGNORECASE,
)
# "w_conv", "bias_fc_1": the role first, before what is plainly the name of a layer
_ROLE_FIRST = re.compile(
    r"^(?P<role>weights?|kernels?|bias(?:es)?|w|b)_(?P<stem>(?:conv|fc|full|dense|linear|lin|hidden|layer|out|in)\w*)$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class TensorName:
    """A tensor's name taken apart.

    Attributes:
        full: the name in the file.
        module: tokens of the module that owns the tensor.
        role: "weight", "bias", "depthwise", "norm_weight", "norm_bias", "running_mean", "running_var", "counter",
            "mask", "positional" (only a number tells), or "" where the name says nothing.
        channels_last: the name is of the in × out convention.
    """

    full: str
    module: tuple[str, ...]
    role: str
    channels_last: bool = False


def natural_key(tokens: tuple[str, ...]) -> NaturalKey:
    """Sort key in which "fc10" comes after "fc9", "linear" before "linear2", and numbers before words."""
    key: list[tuple[int, int, str]] = []
    for token in tokens:
        parts = re.findall(r"\d+|\D+", token)
        key.extend((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts)
        key.append((-1, 0, ""))
    return tuple(key)


def tokens_of(name: str) -> tuple[str, ...]:
    """ "mlp/~/linear_0/w:0" -> ("mlp", "linear_0", "w")."""
    bare = re.sub(r":\d+$", "", name)
    return tuple(token for token in re.split(r"[./]", bare) if token not in ("", "~"))


def parse_name(name: str) -> TensorName:
    """Module and role of one tensor name; never fails."""
    tokens = tokens_of(name)
    if not tokens:
        return TensorName(name, (), "")
    last, before = tokens[-1], tokens[:-1]
    tensorflow = re.search(r":\d+$", name) is not None or "~" in name.split("/")
    role = _ROLE_WORDS.get(last.lower())
    if role is not None:
        return TensorName(name, before, role, tensorflow or last.lower() in _CHANNELS_LAST_WORDS)
    if last.isdigit() and before and _ROLE_WORDS.get(before[-1].lower()) in ("weight", "bias"):
        return TensorName(name, (*before[:-1], last), _ROLE_WORDS[before[-1].lower()])
    if last.isdigit() or re.fullmatch(r"(arr|param|parameter|tensor|array)_?\d+", last):
        return TensorName(name, before, "positional")
    compound = _COMPOUND.match(last)
    if compound is not None:
        stem, word = compound["stem"], compound["role"].lower()
        spelled_out = len(word) > 1
        if not stem or compound["separator"] or (spelled_out and stem[-1].isdigit()):
            module = (*before, (stem + compound["number"]) or last) if stem or compound["number"] else before
            return TensorName(name, module, _ROLE_WORDS[word], word in _CHANNELS_LAST_WORDS)
    first = _ROLE_FIRST.match(last)
    if first is not None:
        word = first["role"].lower()
        return TensorName(name, (*before, first["stem"]), _ROLE_WORDS[word], word in _CHANNELS_LAST_WORDS)
    return TensorName(name, tokens, "")


def stem_and_number(token: str) -> tuple[str, int | None]:
    """ "fc12" -> ("fc", 12), "conv2d_1" -> ("conv2d", 1), "conv2d" -> ("conv2d", None), "3" -> ("", 3)."""
    if re.fullmatch(r"conv[123]d", token, re.IGNORECASE):
        return token, None
    found = re.match(r"^(.*?)[_-]?(\d+)$", token)
    if found is None:
        return token, None
    if re.fullmatch(r"(?i)conv[123]d\d*", token) and not token[-2:].isdigit():
        return token, None
    return found[1], int(found[2])


def words_of(tokens: tuple[str, ...]) -> frozenset[str]:
    """Lower-case words of a path: ("mlp_extractor", "valueNet1") -> {"mlp", "extractor", "value", "net"}."""
    words: set[str] = set()
    for token in tokens:
        spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", token)
        words.update(part.lower() for part in re.findall(r"[A-Za-z]+", spaced))
    return frozenset(words)
