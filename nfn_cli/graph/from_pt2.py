"""graph/from_pt2.py: a program of torch.export as its archive's JSON has it. ATen itself is known by graph/aten/; no file.

The JSON is that of torch._export.serde.schema. Nothing in it is evaluated: a symbolic size is the hint that stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.checkpoint.origin import origin_of
from nfn_cli.checkpoint.pt2_file import ExportProgram
from nfn_cli.errors import Refused
from nfn_cli.graph.aten import Program, Result, Tensor
from nfn_cli.graph.captured_network import captured_network
from nfn_cli.graph.model import Network
from nfn_cli.printable import printable

_FLOATING = {6, 7, 8, 13, 29, 30, 31, 32, 33}  # torch._export.serde.schema.ScalarType
_KEYWORD = 2  # torch._export.serde.schema.ArgumentKind
_MOST_NODES = 1_000_000
# plain members of torch._export.serde.schema.Argument (and, with an "s", lists of them) and what JSON has for them
_PLAIN: Mapping[str, tuple[type, ...]] = {
    "as_int": (int,), "as_float": (float, int), "as_string": (str,), "as_bool": (bool,), "as_scalar_type": (int,),
    "as_memory_format": (int,), "as_layout": (int,), "as_device": (dict,), "as_complex": (dict,), "as_int_list": (list,),
    "as_float_list": (list,),
}  # fmt: skip


def network_from_pt2(checkpoint: Checkpoint) -> Network:
    """The network of an archive of torch.export.save.

    Raises:
        Refused: the program is damaged ("bad-graph"), or no computation on tensors ("not-capturable").
    """
    source: ExportProgram = origin_of(checkpoint).content.program
    try:
        reader = _Reader(source, checkpoint)
        graph = reader.run.graph(reader.outputs())
    except Refused:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, OverflowError, RecursionError):
        raise Refused("the program in the archive is damaged", fix="export it again", code="bad-graph") from None
    return captured_network(graph, checkpoint, "the exported graph")


class _Reader:
    def __init__(self, source: ExportProgram, checkpoint: Checkpoint) -> None:
        module = source.values["graph_module"]
        self.constants, self.checkpoint = source.constants, checkpoint
        self.graph, self.signature = module["graph"], module["signature"]
        self.metas: Mapping[str, Any] = self.graph["tensor_values"]
        self.run = Program()
        self.env: dict[str, Any] = {}
        if len(self.graph["nodes"]) > _MOST_NODES:
            raise Refused("the program is too long", code="too-large")
        for spec in self.signature["input_specs"]:
            ((kind, value),) = spec.items()
            self._input(kind, value)
        for node in self.graph["nodes"]:
            self._node(node)

    def outputs(self) -> list[Any]:
        found = [
            self.argument(spec["user_output"]["arg"])
            for spec in self.signature["output_specs"]
            if "user_output" in spec
        ]
        return [part for entry in found for part in (entry if isinstance(entry, list) else [entry])]

    def _input(self, kind: str, value: Mapping[str, Any]) -> None:
        argument = value.get("arg") or {}
        name = (argument.get("as_tensor") or argument).get("name")
        if kind in ("custom_obj", "token") or not isinstance(name, str) or name not in self.metas:
            return  # a number or an object; whatever reads it as a tensor is refused
        result = self.result(name)
        tensor = value.get("parameter_name") if kind == "parameter" else value.get("buffer_name")
        if kind == "parameter" or (kind == "buffer" and value["persistent"]):
            self.env[name] = self._parameter(str(tensor), result, kind == "parameter")
        elif kind == "user_input":
            self.env[name] = self.run.input(name, result.shape, result.floating)
        else:
            constant = value.get("tensor_constant_name") or tensor
            self.env[name] = self.run.constant(result.shape, self.constants.get(str(constant)), result.floating)

    def _parameter(self, tensor: str, result: Result, trained: bool) -> Tensor:
        array = self.checkpoint.tensors.get(tensor)
        if array is None or array.shape != result.shape:
            found = "is missing" if array is None else f"has shape {array.shape}, the program reads {result.shape}"
            raise Refused(f"a tensor {found}", where=printable(tensor), fix="export it again", code="bad-graph")
        return self.run.parameter(tensor, result.shape, trained, result.floating)

    def _node(self, node: Mapping[str, Any]) -> None:
        outputs = node["outputs"]
        if not any(key in entry for entry in outputs for key in ("as_tensor", "as_tensors", "as_optional_tensors")):
            return  # numbers: their values stand beside their names
        target = node["target"]
        namespace, _, rest = target.removeprefix("torch.ops.").partition(".")
        name = rest.partition(".")[0] if namespace == "aten" and target.startswith("torch.ops.") else target
        given = [(i.get("name"), i.get("kind"), self.argument(i["arg"])) for i in node["inputs"]]
        named = _keyword_only(target, given) if any(kind is None for _, kind, _ in given) else None
        args = [value for key, kind, value in given if (kind != _KEYWORD if named is None else key not in named)]
        kwargs = {key: value for key, kind, value in given if (kind == _KEYWORD if named is None else key in named)}
        names = [_names(entry) for entry in outputs]
        flat = [name for part in names for name in (part if isinstance(part, list) else [part])]
        one = len(names) == 1 and not isinstance(names[0], list)
        results = [None if entry is None else self.result(entry) for entry in flat]
        made = self.run.call(name, args, kwargs, results[0] if one else results)
        for entry, tensor in zip(flat, [made] if one else made, strict=True):
            if entry is not None:
                if entry in self.env:
                    raise Refused("the program names a value twice", where=printable(entry), code="bad-graph")
                self.env[entry] = tensor

    def result(self, name: str) -> Result:
        meta = self.metas[name]
        return Result(tuple(self._size(size) for size in meta["sizes"]), meta["dtype"] in _FLOATING)

    def _size(self, size: Mapping[str, Any]) -> int:
        number = _hint(size)
        if type(number) is not int or number < 0:
            raise Refused("a size of the program is not known", fix="export with plain sizes", code="not-capturable")
        return number

    def argument(self, argument: Mapping[str, Any]) -> Any:
        """A value of torch._export.serde.schema.Argument."""
        ((kind, value),) = argument.items()
        if kind == "as_none":
            return None
        if kind == "as_tensor":
            return self._named(value["name"])
        if kind in ("as_tensors", "as_nested_tensors"):
            return [
                self._named(v["name"]) if isinstance(v, dict) else [self._named(w["name"]) for w in v] for v in value
            ]
        if kind == "as_optional_tensor":
            return self.argument(value)
        if kind in ("as_optional_tensors", "as_sym_ints", "as_sym_floats", "as_sym_bools"):
            return [self._symbol(entry) for entry in value]
        if kind in ("as_sym_int", "as_sym_float", "as_sym_bool"):
            return self._symbol(value)
        if kind in ("as_graph", "as_custom_obj", "as_operator"):
            raise Refused(f"the program holds a {kind.removeprefix('as_')}", code="not-capturable")
        if kind in ("as_float", "as_floats"):
            value = _floats(value)
        entries = value if kind.endswith("s") else [value]
        if not isinstance(entries, list) or not all(type(entry) in _PLAIN[kind.removesuffix("s")] for entry in entries):
            raise TypeError
        return value

    def _named(self, name: str) -> Any:
        if name not in self.env:
            raise Refused("a value is read that nothing made", where=printable(name), code="bad-graph")
        return self.env[name]

    def _symbol(self, entry: Mapping[str, Any]) -> Any:
        ((kind, value),) = entry.items()
        if kind != "as_name":
            return self.argument(entry)
        tables = (self.graph.get(key) or {} for key in ("sym_int_values", "sym_float_values", "sym_bool_values"))
        found = next((table[value] for table in tables if value in table), None)
        number = None if found is None else _hint(found)
        if number is None:
            raise Refused("a number of the program is not known", where=printable(value), code="not-capturable")
        return number


def _floats(value: Any) -> Any:
    """JSON has no infinity: the file writes it as text."""
    if isinstance(value, list):
        return [_floats(entry) for entry in value]
    return float(value) if value in ("Infinity", "-Infinity", "NaN") else value


def _hint(entry: Mapping[str, Any]) -> Any:
    """SymInt, SymFloat or SymBool as a number; None where the file does not say which."""
    ((kind, value),) = entry.items()
    if kind != "as_expr":
        return value
    hint = value.get("hint")
    return None if hint is None else next(iter(hint.values()))


def _names(argument: Mapping[str, Any]) -> Any:
    ((kind, value),) = argument.items()
    if kind == "as_tensor":
        return value["name"]
    if kind in ("as_tensors", "as_optional_tensors"):
        return [(entry.get("as_tensor") or entry).get("name") for entry in value]
    return None


def _keyword_only(target: str, given: list[tuple[Any, Any, Any]]) -> set[str]:
    """Which arguments are given by name, in files that do not say so: those that the op's schema in torch takes only so.

    Raises:
        Refused: positional ones with a default in between were left out, so that the order is lost.
    """
    import torch

    *_, name, overload = target.split(".")
    schema = torch._C._get_schema(f"aten::{name}", "" if overload == "default" else overload)
    only = {argument.name for argument in schema.arguments if argument.kwarg_only}
    order = [argument.name for argument in schema.arguments if not argument.kwarg_only]
    if [key for key, _, _ in given if key not in only] != order[: sum(key not in only for key, _, _ in given)]:
        raise Refused(
            f"the arguments of {printable(target, 60)} are not all there", fix="export it again", code="not-capturable"
        )
    return only
