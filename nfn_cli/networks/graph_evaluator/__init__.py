"""networks/graph_evaluator/: graphs run in torch, differentiable, on any device, one network or many at once. No file."""

from nfn_cli.networks.graph_evaluator.inputs import takes_input
from nfn_cli.networks.graph_evaluator.knowledge import unknown_in
from nfn_cli.networks.graph_evaluator.rows import evaluate
from nfn_cli.networks.graph_evaluator.stacked import evaluate_stacked

__all__ = ["evaluate", "evaluate_stacked", "takes_input", "unknown_in"]
