"""checkpoint/tensor_tree.py: which tensors of nested dictionaries and lists are weights, and their names. Knows no pickle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nfn_cli.checkpoint.wrapper_prefix import AVERAGING_COUNTER, without_wrapper_prefix
from nfn_cli.errors import Refused
from nfn_cli.printable import printable

Keys = tuple[Any, ...]

_TRAINING_WORDS = ("optim", "opt_state", "scheduler", "scaler", "rng", "replay", "history", "epoch", "args", "config")
_DEEPEST, _MOST_NODES = 60, 1_000_000  # of containers within each other


@dataclass(frozen=True)
class Found:
    """What a tree holds.

    Attributes:
        tensors: name -> (the keys that lead to it, the tensor).
        left_aside: a line for each thing that is no weight.
        optimizers: the keys that lead to optimizer state.
        words: plain values near the root, by name.
    """

    tensors: Mapping[str, tuple[Keys, Any]]
    left_aside: tuple[str, ...]
    optimizers: tuple[Keys, ...]
    words: Mapping[str, Any]

    @property
    def leaves(self) -> dict[str, Any]:
        return {name: leaf for name, (_, leaf) in self.tensors.items()}

    @property
    def places(self) -> dict[str, Keys]:
        return {name: place for name, (place, _) in self.tensors.items()}


def named_tensors(tree: Any, leaf: type[Any]) -> Found:
    """The weights of a tree by name; what surrounds them is left aside.

    Args:
        leaf: the class of its tensors.

    Raises:
        Refused: it nests too deep, or holds itself (code "too-large").
    """
    _refuse_endless(tree)
    left_aside: list[str] = []
    optimizers: list[Keys] = []
    words: dict[str, Any] = {}
    found = list(_leaves(tree, leaf, (), left_aside, optimizers, words))
    by_keys = dict(found)
    tensors = {name: (place, by_keys[place]) for name, place in _named(found).items()}
    return Found(tensors, tuple(left_aside), tuple(optimizers), words)


def _refuse_endless(tree: Any) -> None:
    """A pickle of a few bytes can hold itself, or double at every level: what is walked is counted first."""
    stack, visited = [(tree, 0)], 0
    while stack:
        node, depth = stack.pop()
        visited += 1
        if depth > _DEEPEST or visited > _MOST_NODES:
            raise Refused(
                "the pickle nests too deep or holds itself",
                fix="save the weights alone: a state dict",
                code="too-large",
            )
        if isinstance(node, (Mapping, list, tuple)):
            inner = node.values() if isinstance(node, Mapping) else node
            stack.extend((part, depth + 1) for part in inner if isinstance(part, (Mapping, list, tuple)))


def _leaves(
    node: Any, leaf: type[Any], place: Keys, left_aside: list[str], optimizers: list[Keys], words: dict[str, Any]
) -> Iterator[tuple[Keys, Any]]:
    if isinstance(node, leaf):
        yield place, node
        return
    items = list(node.items()) if isinstance(node, Mapping) else list(enumerate(node)) if _is_list(node) else None
    shown = printable(".".join(map(str, place)) or "content", 80)
    if items is None:
        if place:
            left_aside.append(f"{shown}: {type(node).__name__}")
            if len(place) <= 2 and isinstance(place[-1], str):
                words[place[-1]] = node
        return
    if isinstance(node, Mapping) and {"state", "param_groups"} <= set(node):
        optimizers.append(place)
        left_aside.append(f"{shown}: optimizer state")
        return
    last = str(place[-1]).lower() if place else ""
    if any(word in last for word in _TRAINING_WORDS) and not any(w in last for w in ("model", "net", "policy")):
        if "optim" in last:
            optimizers.append(place)
        left_aside.append(f"{shown}: not weights")
        if isinstance(node, Mapping):
            words.update({str(key): value for key, value in items})
        return
    plain = [
        key
        for key, value in items
        if not isinstance(value, leaf) and not _is_list(value) and not isinstance(value, Mapping)
    ]
    for key, value in items:
        if isinstance(value, leaf) and any(word in str(key).lower() for word in ("rng_state", "optimizer")):
            left_aside.append(f"{printable(key, 80)}: not weights")
        elif len(plain) > 20 and key in plain:
            continue
        else:
            yield from _leaves(value, leaf, (*place, key), left_aside, optimizers, words)
    if len(plain) > 20:
        left_aside.append(f"{shown}: {len(plain)} plain values")


def _is_list(node: Any) -> bool:
    return isinstance(node, (list, tuple)) and len(node) < 1_000_000


def _named(found: list[tuple[Keys, Any]]) -> dict[str, Keys]:
    """Names by nesting, without levels that hold everything, without the prefixes of wrappers in any group."""
    places = [place for place, _ in found]
    depth = 0
    while places and all(len(p) > depth + 1 for p in places) and len({str(p[depth]) for p in places}) == 1:
        depth += 1
    groups: dict[Keys, list[Keys]] = {}
    for place in places:
        groups.setdefault(place[depth:-1], []).append(place)
    names: dict[str, Keys] = {}
    for group, members in groups.items():
        bare = without_wrapper_prefix([str(place[-1]) for place in members if place])
        for short, place in zip(bare, members, strict=False):
            if short == AVERAGING_COUNTER:
                continue
            name = ".".join([*map(str, group), short])
            while name in names:
                name += "'"
            names[name] = place
        if not bare:
            names["tensor"] = ()
    return names
