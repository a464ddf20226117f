"""checkpoint/sb3_zip.py: a model saved by Stable-Baselines3: policy tensors, and the activation that its JSON names.

Nothing under ":serialized:" is ever unpickled; only text that stands in the JSON is read.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from nfn_cli.checkpoint.atomic_write import atomic_output
from nfn_cli.checkpoint.model import Checkpoint, Hints
from nfn_cli.checkpoint.origin import Origin, origin_of
from nfn_cli.checkpoint.pickle_scan import first_foreign, globals_of
from nfn_cli.checkpoint.refusals import refuse_torch_pickle
from nfn_cli.checkpoint.torch_file import (
    changed_tree,
    checkpoint_from_tree,
    globals_in_zip,
    load_tree,
    save_tree,
)
from nfn_cli.checkpoint.zip_guard import checked_zip, open_zip, read_member
from nfn_cli.errors import Refused

_POLICY = "policy.pth"
_ZIP_MAGIC = b"PK\x03\x04"
_EPOCH = (1980, 1, 1, 0, 0, 0)
# Documented defaults (stable_baselines3.*.policies, argument activation_fn), by module of the policy class.
_RELU_MODULES = (".dqn.", ".sac.", ".td3.", ".ddpg.", ".tqc.", ".qrdqn.", ".crossq.")


@dataclass(frozen=True)
class Archive:
    """The other members, byte for byte, and the content of the policy."""

    members: tuple[tuple[str, int, bytes], ...]
    policy: Any
    policy_is_zip: bool


def read_sb3(path: Path) -> Checkpoint:
    """Read `policy.pth` of the archive.

    Raises:
        Refused: the policy needs more than weights, or is damaged.
    """
    with open_zip(path) as archive:
        members = tuple((i.filename, i.compress_type, read_member(archive, i)) for i in archive.infolist())
    content = {name: data for name, _, data in members}
    policy = content[_POLICY]
    is_zip = policy.startswith(_ZIP_MAGIC)
    try:
        if is_zip:
            with checked_zip(BytesIO(policy), len(policy)) as inner:
                names = globals_in_zip(inner)
        else:
            names = list(globals_of(BytesIO(policy), 5))
    except StopIteration:
        raise Refused("policy.pth in the zip is damaged", code="truncated") from None
    foreign = first_foreign(names)
    if foreign:
        raise refuse_torch_pickle(foreign, names).located(_POLICY)
    inner_checkpoint = checkpoint_from_tree(load_tree(BytesIO(policy)), str(path), "sb3-zip", (path,))
    inner_origin = origin_of(inner_checkpoint)
    others = tuple(name for name, _, _ in members if name != _POLICY)
    return replace(
        inner_checkpoint,
        hints=_hints(content.get("data", b""), inner_checkpoint),
        left_aside=(
            *inner_checkpoint.left_aside,
            *(f"{name}: kept as it is" for name in others if name.endswith(".pth")),
        ),
        payload=Origin(
            (path,), inner_origin.tensors, inner_origin.stored_names, Archive(members, inner_origin.content, is_zip)
        ),
    )


def write_sb3(checkpoint: Checkpoint, out: Path, force: bool) -> tuple[str, ...]:
    """Write the archive again with a new policy; every other member is byte for byte what it was."""
    origin = origin_of(checkpoint)
    archive: Archive = origin.content
    inner = replace(checkpoint, payload=replace(origin, content=archive.policy))
    tree, _ = changed_tree(inner, drop_optimizer=False)
    policy = BytesIO()
    save_tree(tree, policy, archive.policy_is_zip)
    with atomic_output(out, force) as handle, zipfile.ZipFile(handle, "w", allowZip64=True) as made:
        for name, compression, data in archive.members:
            info = zipfile.ZipInfo(name, date_time=_EPOCH)
            info.compress_type = compression
            info.external_attr = 0o600 << 16
            made.writestr(info, policy.getvalue() if name == _POLICY else data)
    kept = [name for name, _, _ in archive.members if "optimizer" in name]
    return (f"{kept[0]} still belongs to the old weights",) if kept else ()


def _hints(data: bytes, checkpoint: Checkpoint) -> Hints:
    try:
        parsed = json.loads(data)
    except (ValueError, RecursionError):
        return Hints()
    if not isinstance(parsed, dict):
        return Hints()
    kwargs, policy = parsed.get("policy_kwargs"), parsed.get("policy_class")
    stated = kwargs.get("activation_fn") if isinstance(kwargs, dict) else None
    if isinstance(stated, str) and stated.startswith("<class "):
        return Hints(activation=stated[8:].rstrip(">'"), source="data of the Stable-Baselines3 zip")
    hidden = (
        isinstance(kwargs, dict) and ":serialized:" in kwargs and "activation_fn" in str(kwargs.get(":serialized:"))
    )
    if not isinstance(policy, dict) or hidden:
        return Hints()
    module, said = str(policy.get("__module__", "")), str(policy.get("__init__", ""))
    default = None
    if any(word in module for word in _RELU_MODULES):
        default = "relu"
    elif "ActorCritic" in said:
        convolutional = any(array.ndim == 4 for array in checkpoint.tensors.values())
        after = any(name.startswith("mlp_extractor.") for name in checkpoint.tensors)
        # The convolutional extractor is relu, the layers behind it tanh: together they have no one name.
        default = None if convolutional and after else "relu" if convolutional else "tanh"
    return Hints(activation=default, source="default of the Stable-Baselines3 policy class") if default else Hints()
