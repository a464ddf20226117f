"""networks/: weight-space layers and models (torch). Knows tensors and degrees; no file, no checkpoint, no command."""

from nfn_cli.networks.balance import balanced_chain
from nfn_cli.networks.degrees import GROUPS, TensorName, Term, terms_of
from nfn_cli.networks.equivariant_linear import EquivariantLinear
from nfn_cli.networks.monomial_nfn import MonomialNfn, MonomialNfnConfig
from nfn_cli.networks.permutation_nfn import PermutationNfn, PermutationNfnConfig
from nfn_cli.networks.stat_net import StatNet, StatNetConfig
from nfn_cli.networks.weight_features import ChainShape, WeightFeatures

__all__ = [
    "GROUPS",
    "ChainShape",
    "EquivariantLinear",
    "MonomialNfn",
    "MonomialNfnConfig",
    "PermutationNfn",
    "PermutationNfnConfig",
    "StatNet",
    "StatNetConfig",
    "TensorName",
    "Term",
    "WeightFeatures",
    "balanced_chain",
    "terms_of",
]
