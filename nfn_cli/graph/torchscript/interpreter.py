"""graph/torchscript/interpreter.py: TorchScript code followed statement by statement on stand-ins for tensors.

Calls of modules are gone into; a branch needs a condition that is known without numbers of a tensor. Every step is counted.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nfn_cli.checkpoint.tree_pickle import Object
from nfn_cli.errors import Refused
from nfn_cli.graph.aten.program import Program, Tensor
from nfn_cli.graph.torchscript.builtins import builtin
from nfn_cli.graph.torchscript.code import Class, Code, Function
from nfn_cli.graph.torchscript.meta import run_op
from nfn_cli.printable import printable

_MOST_STEPS = 500_000
_DEEPEST_CALLS = 50
_SPECIAL = frozenset(
    {"annotate", "unchecked_cast", "uninitialized", "getattr", "int", "float", "bool", "str", "range", "isinstance"}
)
_ROOTS = frozenset({"torch", "ops", "__torch__", "CONSTANTS"})
_FLOATS = {"inf": float("inf"), "nan": float("nan")}


@dataclass(frozen=True)
class Path:
    """A dotted name that is not a value: torch.relu, ops.prim.data, __torch__.torch.nn.functional.relu."""

    name: str


@dataclass(frozen=True)
class Method:
    """A method of an object of the program."""

    owner: Object
    function: Function


@dataclass(frozen=True)
class Record:
    """A NamedTuple."""

    fields: tuple[str, ...]
    values: tuple[Any, ...]


class _Returned(Exception):
    def __init__(self, value: Any) -> None:
        self.value = value


class Interpreter:
    """Follows functions of one program.

    Args:
        leaf: turns what the module tree and the constants hold (stored tensors) into values.
    """

    def __init__(self, code: Code, program: Program, constants: Sequence[Any], leaf: Callable[[Any], Any]) -> None:
        self.code, self.program, self.constants, self.leaf = code, program, constants, leaf
        self.steps = self.depth = 0

    def call(self, function: Function, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """The value that a function returns for these arguments (`self` first where it has one).

        Raises:
            Refused: something in it cannot be followed; the message names it.
        """
        env: dict[str, Any] = {}
        names = [parameter.arg for parameter in function.parameters]
        env.update(zip(names, args, strict=False))
        env.update({name: value for name, value in kwargs.items() if name in names})
        for name in names:
            if name not in env:
                if name not in function.defaults:
                    raise self.refused(f"{function.name} misses an argument", function.definition)
                env[name] = self.value(function.defaults[name], {})
        self.depth += 1
        if self.depth > _DEEPEST_CALLS:
            raise Refused("the program calls itself or nests too deeply", code="not-capturable")
        try:
            self.block(function.definition.body, env)
        except _Returned as returned:
            return returned.value
        finally:
            self.depth -= 1
        return None

    def refused(self, what: str, node: ast.AST) -> Refused:
        return Refused(
            f"the program cannot be followed: {printable(what, 100)} (line {getattr(node, 'lineno', 0)})",
            code="not-capturable",
        )

    def count(self) -> None:
        self.steps += 1
        if self.steps > _MOST_STEPS:
            raise Refused("the program takes too many steps", code="too-large")

    def block(self, body: Sequence[ast.stmt], env: dict[str, Any]) -> None:
        for statement in body:
            self.count()
            self.statement(statement, env)

    def statement(self, node: ast.stmt, env: dict[str, Any]) -> None:
        if isinstance(node, ast.Return):
            raise _Returned(None if node.value is None else self.value(node.value, env))
        if isinstance(node, ast.Assign):
            value = self.value(node.value, env)
            for target in node.targets:
                self.assign(target, value, env)
        elif isinstance(node, ast.AnnAssign):
            if node.value is not None:
                self.assign(node.target, self.value(node.value, env), env)
        elif isinstance(node, ast.Expr):
            self.value(node.value, env)
        elif isinstance(node, ast.If):
            self.block(node.body if self.condition(node.test, env) else node.orelse, env)
        elif isinstance(node, ast.While):
            while self.condition(node.test, env):
                self.count()
                self.block(node.body, env)
        elif isinstance(node, ast.For):
            values = self.value(node.iter, env)
            if not isinstance(values, (list, tuple, range)):
                raise self.refused(f"a loop over a {type(values).__name__}", node)
            for value in values:
                self.count()
                self.assign(node.target, value, env)
                self.block(node.body, env)
        elif not isinstance(node, ast.Pass):
            raise self.refused(f"a statement of kind {type(node).__name__}", node)

    def condition(self, node: ast.expr, env: Mapping[str, Any]) -> bool:
        value = self.value(node, env)
        if not isinstance(value, (bool, int, float)):
            raise self.refused("a branch that depends on the numbers of a tensor", node)
        return bool(value)

    def assign(self, target: ast.expr, value: Any, env: dict[str, Any]) -> None:
        if isinstance(target, ast.Name):
            env[target.id] = value
        elif isinstance(target, (ast.Tuple, ast.List)):
            values = list(value.values) if isinstance(value, Record) else value
            if not isinstance(values, (list, tuple)) or len(values) != len(target.elts):
                raise self.refused("an assignment to several names", target)
            for part, entry in zip(target.elts, values, strict=True):
                self.assign(part, entry, env)
        else:
            raise self.refused("a write into an attribute or an entry", target)

    def value(self, node: ast.expr, env: Mapping[str, Any]) -> Any:
        self.count()
        if isinstance(node, ast.Constant):
            if isinstance(node.value, (int, float, str, bool, type(None))):
                return node.value
        elif isinstance(node, ast.Name):
            return self.name(node, env)
        elif isinstance(node, ast.Attribute):
            return self.attribute(self.value(node.value, env), node.attr, node)
        elif isinstance(node, ast.Call):
            return self.called(node, env)
        elif isinstance(node, ast.List):
            return [self.value(part, env) for part in node.elts]
        elif isinstance(node, ast.Tuple):
            return tuple(self.value(part, env) for part in node.elts)
        elif isinstance(node, ast.Dict):
            keys = [self.value(key, env) for key in node.keys if key is not None]
            if all(isinstance(key, (str, int)) for key in keys):
                return dict(zip(keys, (self.value(part, env) for part in node.values), strict=True))
        elif isinstance(node, ast.Subscript):
            return self.entry(node, env)
        elif isinstance(node, ast.IfExp):
            return self.value(node.body if self.condition(node.test, env) else node.orelse, env)
        elif isinstance(node, ast.UnaryOp):
            operand = self.value(node.operand, env)
            if isinstance(operand, (int, float)) and isinstance(node.op, (ast.USub, ast.Not)):
                return -operand if isinstance(node.op, ast.USub) else not operand
        raise self.refused(f"an expression of kind {type(node).__name__}", node)

    def name(self, node: ast.Name, env: Mapping[str, Any]) -> Any:
        if node.id in env:
            return env[node.id]
        if node.id in _ROOTS or node.id in _SPECIAL:
            return Path(node.id)
        if node.id in _FLOATS:
            return _FLOATS[node.id]
        raise self.refused(f"the unknown name {node.id}", node)

    def attribute(self, owner: Any, name: str, node: ast.AST) -> Any:
        if isinstance(owner, Path):
            if owner.name == "CONSTANTS":
                number = int(name[1:]) if name[1:].isdecimal() and len(name) < 9 else len(self.constants)
                if number >= len(self.constants):
                    raise self.refused(f"the unknown constant {name}", node)
                return self.leaf(self.constants[number])
            return Path(f"{owner.name}.{name}")
        if isinstance(owner, Record) and name in owner.fields:
            return owner.values[owner.fields.index(name)]
        if not isinstance(owner, Object):
            raise self.refused(f"the attribute {name} of a {type(owner).__name__}", node)
        if name == "training":
            return False
        if isinstance(owner.state, dict) and name in owner.state:
            return self.leaf(owner.state[name])
        made = self.code.find(owner.kind)
        if isinstance(made, Class) and name in made.methods:
            return Method(owner, made.methods[name])
        if isinstance(made, Class) and name in made.constants:
            return self.value(made.constants[name], {})
        raise self.refused(f"the unknown attribute {name}", node)

    def entry(self, node: ast.Subscript, env: Mapping[str, Any]) -> Any:
        owner = self.value(node.value, env)
        owner = owner.values if isinstance(owner, Record) else owner
        try:
            if isinstance(node.slice, ast.Slice) and isinstance(owner, (list, tuple, str)):
                bounds = (node.slice.lower, node.slice.upper, node.slice.step)
                return owner[slice(*(None if bound is None else self.value(bound, env) for bound in bounds))]
            index = self.value(node.slice, env)
            if isinstance(owner, (list, tuple)) and isinstance(index, int):
                return owner[index]
            if isinstance(owner, dict) and isinstance(index, (int, str)):
                return owner[index]
        except (IndexError, KeyError, TypeError, ValueError):
            pass
        raise self.refused(f"an entry of a {type(owner).__name__}", node)

    def called(self, node: ast.Call, env: Mapping[str, Any]) -> Any:
        function = self.value(node.func, env)
        if isinstance(function, Path) and function.name in _SPECIAL:
            return self.special(function.name, node, env)
        if any(isinstance(part, ast.Starred) for part in node.args) or any(key.arg is None for key in node.keywords):
            raise self.refused("a call with unpacked arguments", node)
        args = [self.value(part, env) for part in node.args]
        kwargs = {str(key.arg): self.value(key.value, env) for key in node.keywords}
        if isinstance(function, Method):
            return self.call(function.function, [function.owner, *args], kwargs)
        if not isinstance(function, Path):
            raise self.refused(f"a call of a {type(function).__name__}", node)
        if function.name.startswith("__torch__."):
            made = self.code.find(function.name)
            if isinstance(made, Function):
                return self.call(made, args, kwargs)
            if made.fields is not None and len(args) == len(made.fields):
                return Record(made.fields, tuple(args))
            raise self.refused(f"a new object of class {function.name}", node)
        return self.operation(function.name, args, kwargs, node)

    def operation(self, name: str, args: list[Any], kwargs: dict[str, Any], node: ast.AST) -> Any:
        if name == "torch.device":
            import torch

            return torch.device("meta")
        for root in ("torch.", "ops.aten.", "ops.prim."):
            short = name.removeprefix(root)
            if short != name and "." not in short:
                break
        else:
            code = "quantized" if "quantized" in name else "not-capturable"
            raise Refused(f"the program uses {printable(name, 80)}, which is not known", code=code)
        is_builtin, value = builtin(short, args, kwargs)
        if is_builtin:
            return value
        if name.startswith("ops.prim."):
            raise self.refused(name, node)
        if short == "tensor":
            return self.numbers(args, kwargs, node)
        return run_op(self.program, short, args, kwargs)

    def numbers(self, args: list[Any], kwargs: dict[str, Any], node: ast.AST) -> Any:
        """torch.tensor of numbers that stand in the code."""
        import torch

        if len(args) != 1 or not _is_plain(args[0]):
            raise self.refused("torch.tensor of something else than numbers", node)
        if isinstance(args[0], (int, float)):
            return args[0]
        made = torch.tensor(args[0])
        return self.program.constant(tuple(made.shape), args[0], made.dtype.is_floating_point, made.to("meta"))

    def special(self, name: str, node: ast.Call, env: Mapping[str, Any]) -> Any:
        if name in ("annotate", "unchecked_cast") and len(node.args) == 2:
            return self.value(node.args[1], env)
        if name == "uninitialized":
            return None
        args = [self.value(part, env) for part in node.args]
        if name == "getattr" and len(args) == 2 and isinstance(args[1], str):
            return self.attribute(args[0], args[1], node)
        if name in ("int", "float", "bool") and len(args) == 1 and isinstance(args[0], (int, float)):
            try:
                return {"int": int, "float": float, "bool": bool}[name](args[0])
            except (ValueError, OverflowError):
                pass
        if name == "range" and 1 <= len(args) <= 3 and all(type(n) is int for n in args) and (len(args) < 3 or args[2]):
            return range(*args)
        raise self.refused(f"{name} of something that is not known", node)


def _is_plain(entry: Any) -> bool:
    if isinstance(entry, (list, tuple)):
        return all(_is_plain(part) for part in entry)
    return isinstance(entry, (int, float)) and not isinstance(entry, Tensor)
