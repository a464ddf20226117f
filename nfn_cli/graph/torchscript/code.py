"""graph/torchscript/code.py: the code of a TorchScript archive, parsed: classes, functions, constants. Nothing is run.

TorchScript code is Python syntax; it is parsed by `ast` and looked at.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from nfn_cli.errors import Refused
from nfn_cli.printable import printable

_MOST_PARSED = 1 << 20  # characters; a syntax tree takes a few hundred bytes for each
_DEEPEST = 100  # brackets within brackets
_LONGEST_LINE = 1 << 16


@dataclass(frozen=True)
class Function:
    """One `def`."""

    name: str
    definition: ast.FunctionDef

    @property
    def parameters(self) -> list[ast.arg]:
        return self.definition.args.args

    @property
    def defaults(self) -> Mapping[str, ast.expr]:
        given = self.definition.args.defaults
        return dict(zip((p.arg for p in self.parameters[len(self.parameters) - len(given) :]), given, strict=True))


@dataclass(frozen=True)
class Class:
    """One `class`: methods, constants (`Final`), names of its parameters, and fields in order where it is a NamedTuple."""

    methods: Mapping[str, Function]
    constants: Mapping[str, ast.expr]
    parameters: frozenset[str]
    fields: tuple[str, ...] | None


@dataclass
class Code:
    """Code files by qualified name, parsed when something in them is wanted."""

    texts: Mapping[str, str]
    _parsed: dict[str, Mapping[str, Function | Class]] = field(default_factory=dict)
    _size: int = 0

    def find(self, qualified: str) -> Function | Class:
        """`__torch__.torch.nn.functional.relu` -> what that file calls relu.

        Raises:
            Refused: there is no such thing, or its file is no TorchScript code (code "bad-graph").
        """
        file, _, name = qualified.rpartition(".")
        if file not in self._parsed:
            self._parsed[file] = self._parse(file)
        found = self._parsed[file].get(name)
        if found is None:
            raise Refused("the program names what it does not hold", where=printable(qualified), code="bad-graph")
        return found

    def _parse(self, file: str) -> Mapping[str, Function | Class]:
        text = self.texts.get(file, "")
        self._size += len(text)
        if self._size > _MOST_PARSED:
            raise Refused("the program is too long", code="too-large")
        _check_shape(text, file)
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise Refused("the code cannot be read", where=printable(file), code="bad-graph") from None
        found: dict[str, Function | Class] = {}
        for node in tree.body:
            if isinstance(node, ast.FunctionDef):
                found[node.name] = Function(f"{file}.{node.name}", node)
            elif isinstance(node, ast.ClassDef):
                found[node.name] = _class(node, f"{file}.{node.name}")
            elif not isinstance(node, ast.Pass):
                raise Refused(f"the code holds a {type(node).__name__}", where=printable(file), code="not-capturable")
        return found


def _class(node: ast.ClassDef, qualified: str) -> Class:
    methods = {
        part.name: Function(f"{qualified}.{part.name}", part) for part in node.body if isinstance(part, ast.FunctionDef)
    }
    annotated = [part for part in node.body if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)]
    constants = {p.target.id: p.value for p in annotated if isinstance(p.target, ast.Name) and p.value is not None}
    named = any(isinstance(base, ast.Name) and base.id == "NamedTuple" for base in node.bases)
    fields = tuple(p.target.id for p in annotated if isinstance(p.target, ast.Name)) if named else None
    return Class(methods, constants, frozenset(_parameters(node)), fields)


def _parameters(node: ast.ClassDef) -> list[str]:
    """What `__parameters__ = ["weight", "bias", ]` lists."""
    lists = {
        part.targets[0].id: part.value.elts
        for part in node.body
        if isinstance(part, ast.Assign) and isinstance(part.targets[0], ast.Name) and isinstance(part.value, ast.List)
    }
    entries = lists.get("__parameters__", [])
    return [entry.value for entry in entries if isinstance(entry, ast.Constant) and isinstance(entry.value, str)]


def _check_shape(text: str, file: str) -> None:
    """What no compiler of TorchScript writes, and a parser might choke on."""
    depth = 0
    for bracket in re.findall(r"[()\[\]{}]", text):
        depth += 1 if bracket in "([{" else -1
        if depth > _DEEPEST:
            raise Refused("the code is nested too deeply", where=printable(file), code="bad-graph")
    if any(len(line) > _LONGEST_LINE for line in text.splitlines()) or "\0" in text:
        raise Refused("the code is no TorchScript code", where=printable(file), code="bad-graph")
