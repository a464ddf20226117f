"""graph/from_torchscript.py: the network of a TorchScript archive: its code followed for an input of a likely shape. No file.

The file does not say which shapes it takes. The first likely one that the program can take is used and said in a note.
"""

from __future__ import annotations

import ast
from typing import Any

from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.checkpoint.origin import origin_of
from nfn_cli.checkpoint.storage import StoredTensor
from nfn_cli.checkpoint.torchscript_file import Script
from nfn_cli.checkpoint.tree_pickle import Object
from nfn_cli.errors import Refused
from nfn_cli.graph.aten import Program, Tensor
from nfn_cli.graph.captured_network import captured_network
from nfn_cli.graph.likely_shapes import is_floating, likely_shapes, shape_note
from nfn_cli.graph.model import Network
from nfn_cli.graph.torchscript import Code, DoesNotFit, Function, Interpreter
from nfn_cli.graph.torchscript.code import Class
from nfn_cli.graph.torchscript.interpreter import Record
from nfn_cli.graph.torchscript.meta import meta_tensor


def network_from_torchscript(checkpoint: Checkpoint) -> Network:
    """The network of an archive of torch.jit.save.

    Raises:
        Refused: the program uses what cannot be followed ("not-capturable"), is damaged ("bad-graph"), or takes no input
            of a likely shape.
    """
    script: Script = origin_of(checkpoint).content.program
    code = Code(script.code)
    forward = _forward(script, code)
    failure: Refused | None = None
    for shape in likely_shapes(checkpoint):
        try:
            return _followed(checkpoint, script, code, forward, shape)
        except DoesNotFit as error:
            failure = failure or error
        except (RecursionError, MemoryError):
            raise Refused("the program nests too deeply", code="not-capturable") from None
    reason = f": {failure.what}" if failure else ""
    raise Refused(f"no likely input shape runs through the program{reason}", code="not-capturable")


def _forward(script: Script, code: Code) -> Function:
    made = code.find(script.module.kind)
    forward = made.methods.get("forward") if isinstance(made, Class) else None
    if forward is None:
        raise Refused("the module has no forward", code="not-capturable")
    given = [p for p in forward.parameters[1:] if p.arg not in forward.defaults]
    if len(given) != 1 or not isinstance(given[0].annotation, ast.Name) or given[0].annotation.id != "Tensor":
        raise Refused("forward takes something else than one tensor", code="not-capturable")
    return forward


def _followed(checkpoint: Checkpoint, script: Script, code: Code, forward: Function, shape: tuple[int, ...]) -> Network:
    program = Program()
    leaves = _Leaves(checkpoint, script, code, program)
    name = forward.parameters[1].arg
    x = program.input(name, shape, content=meta_tensor(shape, leaves.dtype))
    made = Interpreter(code, program, script.constants, leaves).call(forward, [script.module, x], {})
    outputs = _tensors(made)
    if not outputs:
        raise Refused("forward returns no tensor", code="not-capturable")
    notes = (shape_note(shape), "read in evaluation mode") if leaves.in_training else (shape_note(shape),)
    return captured_network(program.graph(outputs), checkpoint, "the TorchScript code", notes)


class _Leaves:
    """What the module tree and the constants hold, as values: every stored tensor is one stand-in."""

    def __init__(self, checkpoint: Checkpoint, script: Script, code: Code, program: Program) -> None:
        self.checkpoint, self.script, self.code, self.program = checkpoint, script, code, program
        self.made: dict[str, Tensor] = {}
        self.lists: dict[int, Any] = {}
        floats = [array.dtype.name for array in checkpoint.tensors.values() if is_floating(array)]
        self.dtype = floats[0] if floats else "float32"
        self.in_training = isinstance(script.module.state, dict) and script.module.state.get("training") is True
        # a frozen module has its weights among the constants
        self.frozen = all(name.startswith("CONSTANTS.") for name in checkpoint.tensors)

    def __call__(self, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            # one list for all who read it: the program may change it
            if id(value) not in self.lists:
                self.lists[id(value)] = type(value)(self(part) for part in value)
            return self.lists[id(value)]
        if not isinstance(value, StoredTensor):
            return value
        name = self.script.names[id(value)]
        first = self.checkpoint.aliases.get(name, name)
        array = self.checkpoint.tensors[first]
        constant = name.startswith("CONSTANTS.") and not self.frozen
        if array.ndim == 0 and (constant or not is_floating(array)):
            return array.item() if is_floating(array) or array.dtype.kind in "iub" else None
        if first not in self.made:
            meta = meta_tensor(array.shape, array.dtype.name)
            trained = not constant and (self.frozen or self._is_parameter(first))
            self.made[first] = self.program.parameter(first, array.shape, trained, is_floating(array), meta)
        return self.made[first]

    def _is_parameter(self, name: str) -> bool:
        """Whether the class of the module that has the tensor calls it a parameter, not a buffer."""
        *path, last = name.split(".")
        owner: Any = self.script.module
        for part in path:
            state = owner.state if isinstance(owner, Object) else None
            owner = state.get(part) if isinstance(state, dict) else None
        made = self.code.find(owner.kind) if isinstance(owner, Object) else None
        return isinstance(made, Class) and last in made.parameters


def _tensors(value: Any) -> list[Any]:
    if isinstance(value, Record):
        value = value.values
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [tensor for part in value for tensor in _tensors(part)]
    return [value] if isinstance(value, Tensor) else []
