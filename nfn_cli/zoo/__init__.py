"""zoo/: data sets whose rows are networks. Knows files of weights and metrics; no predictor, no command."""

from nfn_cli.zoo.small_cnn import ZooLayout, ZooRows, read_zoo
from nfn_cli.zoo.split import fold_of_run, split_of_run

__all__ = ["ZooLayout", "ZooRows", "fold_of_run", "read_zoo", "split_of_run"]
