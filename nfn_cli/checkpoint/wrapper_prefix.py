"""checkpoint/wrapper_prefix.py: names without what DataParallel and torch.compile put before them. Knows strings only."""

from __future__ import annotations

from collections.abc import Iterable

# DistributedDataParallel and DataParallel add "module.", torch.compile adds "_orig_mod."; they may be stacked.
_PREFIXES = ("module.", "_orig_mod.")
# torch.optim.swa_utils.AveragedModel keeps this counter beside "module.…".
AVERAGING_COUNTER = "n_averaged"


def without_wrapper_prefix(names: Iterable[str]) -> dict[str, str]:
    """Bare name -> stored name, in the given order; a prefix goes only when every name has it.

    >>> without_wrapper_prefix(["module.fc.weight", "module.fc.bias"])
    {'fc.weight': 'module.fc.weight', 'fc.bias': 'module.fc.bias'}
    """
    bare = {name: name for name in names}
    while True:
        wrapped = [name for name in bare if name != AVERAGING_COUNTER]
        prefix = next(
            (p for p in _PREFIXES if wrapped and all(n.startswith(p) and len(n) > len(p) for n in wrapped)), None
        )
        if prefix is None:
            return bare
        shorter = {n if n == AVERAGING_COUNTER else n[len(prefix) :]: stored for n, stored in bare.items()}
        if len(shorter) != len(bare):
            return bare
        bare = shorter
