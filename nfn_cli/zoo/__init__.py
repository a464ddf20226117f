"""zoo/: data sets whose rows are networks. Knows files of weights and metrics; no predictor, no command."""

from nfn_cli.zoo.family import Family
from nfn_cli.zoo.model import LeftOut, Zoo
from nfn_cli.zoo.open_zoo import open_zoo
from nfn_cli.zoo.small_cnn import ZooLayout, ZooRows, read_zoo
from nfn_cli.zoo.split import fold_of_run, split_of_run
from nfn_cli.zoo.store import create_zoo, shard_names, write_shard

__all__ = [
    "Family",
    "LeftOut",
    "Zoo",
    "ZooLayout",
    "ZooRows",
    "create_zoo",
    "fold_of_run",
    "open_zoo",
    "read_zoo",
    "shard_names",
    "split_of_run",
    "write_shard",
]
