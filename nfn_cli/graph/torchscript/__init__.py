"""graph/torchscript: TorchScript code read as text and followed on stand-ins. Knows the tree and the code; runs none of it."""

from __future__ import annotations

from nfn_cli.graph.torchscript.code import Code, Function
from nfn_cli.graph.torchscript.interpreter import Interpreter
from nfn_cli.graph.torchscript.meta import DoesNotFit

__all__ = ["Code", "DoesNotFit", "Function", "Interpreter"]
