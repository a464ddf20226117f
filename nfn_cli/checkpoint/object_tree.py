"""checkpoint/object_tree.py: objects of a pickle as nested dictionaries: modules of torch as their state dicts. Runs nothing."""

from __future__ import annotations

from typing import Any, TypeGuard

from nfn_cli.checkpoint.pickle_calls import ARRAY
from nfn_cli.checkpoint.pickle_values import Class, Object
from nfn_cli.checkpoint.storage import StoredTensor
from nfn_cli.errors import Refused

_MOST_TENSORS = 200_000
_DEEPEST = 60
# modules among torch's activations that act on no unit on its own
_NO_UNITS_ALONE = ("Softmax", "Softmax2d", "LogSoftmax", "Softmin", "MultiheadAttention", "GLU")
_SKLEARN = "sklearn.neural_network."
# attributes in which hand-written layers keep what training needs from one step to the next
_PASSING = frozenset(
    (
        *("cache", "grad", "grads", "gradient", "gradients", "momentum", "velocity", "delta", "deltas"),
        *("input", "inputs", "output", "outputs", "dw", "db", "dweights", "dbiases", "d_weights", "d_biases"),
        *("grad_weights", "grad_biases"),
    )
)


def is_module(value: Any) -> TypeGuard[Object]:
    """Whether an object is a torch.nn.Module, told by what those keep as their state (torch/nn/modules/module.py)."""
    return (
        isinstance(value, Object)
        and isinstance(value.state, dict)
        and all(isinstance(value.state.get(part), dict) for part in ("_parameters", "_modules"))
    )


def as_plain(tree: Any) -> Any:
    """The tree in dictionaries, lists, `StoredTensor` and plain values; what is none of those is left out.

    Raises:
        Refused: it nests too deep, or repeats its parts without end (code "too-large").
    """
    return _Plain().of(tree, 0)


def activation_words(tree: Any) -> str | None:
    """The activations that layers name beside their weights, of all but the last layer, joined by commas.

    Args:
        tree: as `as_plain` gives it.
    """
    found: list[str] = []
    stack = [tree]
    for _ in range(_MOST_TENSORS):
        if not stack:
            break
        node = stack.pop()
        if isinstance(node, dict):
            word = node.get("activation")
            weights = [part for part in node.values() if isinstance(part, StoredTensor) and len(part.shape) > 1]
            if weights and isinstance(word, str):
                found.append(word)
        inner = list(node.values()) if isinstance(node, dict) else node if isinstance(node, list) else []
        stack.extend(reversed([part for part in inner if isinstance(part, (dict, list))]))
    return ",".join(found[:-1]) or None


def activation_modules(tree: Any) -> tuple[str, ...]:
    """Names of the activations of single units among the modules of a tree, each once."""
    found: dict[str, None] = {}
    seen: set[int] = set()
    stack = [tree]
    while stack:
        node = stack.pop()
        if not isinstance(node, (Object, dict, list, tuple)) or id(node) in seen:
            continue
        seen.add(id(node))
        if is_module(node):
            module, _, name = node.kind.rpartition(".")
            if module == "torch.nn.modules.activation" and name not in _NO_UNITS_ALONE:
                found[name] = None
            stack.extend(node.state["_modules"].values())
        else:
            inner = node.state if isinstance(node, Object) else node
            stack.extend(
                inner.values() if isinstance(inner, dict) else inner if isinstance(inner, (list, tuple)) else ()
            )
    return tuple(found)


class _Plain:
    def __init__(self) -> None:
        self.made: dict[int, Any] = {}
        self.entries = 0

    def of(self, value: Any, depth: int) -> Any:
        if not isinstance(value, (Object, dict, list, tuple)):
            return value if isinstance(value, (StoredTensor, str, int, float, bool)) else None
        if id(value) not in self.made:
            if depth > _DEEPEST:
                raise _endless()
            self.made[id(value)] = None  # an object that holds itself is left out where it comes up again
            self.made[id(value)] = self._made(value, depth + 1)
        return self.made[id(value)]

    def _made(self, value: Any, depth: int) -> Any:
        if isinstance(value, dict):
            return self._map(value, depth)
        if isinstance(value, (list, tuple)):
            return [self.of(part, depth) for part in value]
        if value.kind == ARRAY:
            return value.state
        if is_module(value):
            return self._state_dict(value, depth)
        if value.listed:
            return [self.of(part, depth) for part in value.listed]
        state = value.state if isinstance(value.state, dict) else {}
        kept = {key: part for key, part in state.items() if str(key).strip("_").lower() not in _PASSING}
        if value.kind.startswith(_SKLEARN) and isinstance(state.get("coefs_"), list):
            return self._sklearn(kept, depth)
        return self._map({**kept, **value.entries}, depth)

    def _sklearn(self, state: dict[Any, Any], depth: int) -> dict[str, Any]:
        """A multilayer perceptron of scikit-learn (sklearn/neural_network/_multilayer_perceptron.py): weights in × out."""
        pairs = zip(state["coefs_"], state.get("intercepts_") or [], strict=False)
        every = {"activation": state.get("activation")}
        return {"layers": [self._map({"kernel": weight, "bias": bias, **every}, depth) for weight, bias in pairs]}

    def _map(self, entries: dict[Any, Any], depth: int) -> dict[str, Any]:
        return {_text(key): self.of(part, depth) for key, part in entries.items()}

    def _state_dict(self, module: Object, depth: int) -> dict[str, Any]:
        """Parameters, lasting buffers, then those of the modules within, as `Module.state_dict` names them."""
        state = module.state
        passing = state.get("_non_persistent_buffers_set")
        without = {name for name in passing.listed if isinstance(name, str)} if isinstance(passing, Object) else set()
        buffers = state.get("_buffers")
        lasting = {k: v for k, v in buffers.items() if k not in without} if isinstance(buffers, dict) else {}
        own = {**state["_parameters"], **lasting}
        found = {_text(name): tensor for name, tensor in own.items() if isinstance(tensor, StoredTensor)}
        for name, inner in state["_modules"].items():
            if is_module(inner):
                within = self.of(inner, depth) or {}
                found |= {f"{_text(name)}.{further}": tensor for further, tensor in within.items()}
                self.entries += len(within)
                if self.entries > _MOST_TENSORS:
                    raise _endless()
        return found


def _text(key: Any) -> str:
    if isinstance(key, Class):
        return key.name
    return "object" if isinstance(key, Object) else str(key)


def _endless() -> Refused:
    return Refused("the pickle nests too deep", fix="save the weights alone: a state dict", code="too-large")
