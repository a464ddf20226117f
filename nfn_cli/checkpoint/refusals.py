"""checkpoint/refusals.py: why a recognised file is no checkpoint for us, and what to do instead. Knows kinds of `sniff`."""

from __future__ import annotations

from nfn_cli.checkpoint.pickle_scan import first_foreign
from nfn_cli.errors import Refused
from nfn_cli.printable import printable

STATE_DICT = "save the weights alone: torch.save(model.state_dict(), …) or safetensors"
_ARRAYS = "export its weights to .npz or .safetensors"

# kind of sniff.py -> (code, what it is, what would help)
_REASONS: dict[str, tuple[str, str, str]] = {
    "empty": ("empty-file", "the file is empty", "download or export it again"),
    "lfs-pointer": ("lfs-pointer", "this is a Git-LFS pointer, not the file itself", "run: git lfs pull"),
    "html": ("not-a-checkpoint", "this is an HTML or XML page", "download the file itself, not its web page"),
    "text": ("not-a-checkpoint", "this is text, not a checkpoint", _ARRAYS),
    "saved-model": ("tf-saved-model", "this is a TensorFlow SavedModel graph", f"in TensorFlow, {_ARRAYS}"),
    "protobuf": ("protobuf", "this is a protobuf message without a network (TensorFlow, Caffe, Core ML?)", _ARRAYS),
    "matlab": (
        "matlab",
        "MATLAB files are not read",
        "in MATLAB, exportONNXNetwork; in Python, scipy.io.loadmat and .npz",
    ),
    "torch7": (
        "torch7",
        "files of Lua Torch (.t7) are not read",
        "read it with the package torchfile and save it as .npz",
    ),
    "paddle": ("paddle", "PaddlePaddle's binary parameters are not read", "export the model to ONNX with paddle2onnx"),
    "darknet": ("darknet", "Darknet weights are not read: their layers are in the .cfg", "convert them to ONNX"),
    "mxnet": ("mxnet", "MXNet parameters are not read", "export the model to ONNX"),
    "tf-checkpoint": ("tf-checkpoint", "this is the index of a TensorFlow checkpoint", f"in TensorFlow, {_ARRAYS}"),
    "npy-series": ("npy-series", "arrays one after another without names (Equinox?)", f"with their names, {_ARRAYS}"),
    "archive": ("archive", "rar and 7z archives are not read", "unpack it and name the checkpoint in it"),
    "tflite": ("tflite", "TensorFlow Lite files are not read", _ARRAYS),
    "gguf": ("gguf", "GGUF files are not read", _ARRAYS),
    "tar": ("tar", "tar archives are not read", "unpack it and name the checkpoint in it"),
    "gzip": ("compressed", "the file is compressed (gzip)", "unpack it first"),
    "zlib": ("compressed", "the file is compressed (zlib)", "save the weights alone, uncompressed"),
    "bzip2": ("compressed", "the file is compressed (bzip2)", "unpack it first"),
    "xz": ("compressed", "the file is compressed (xz)", "unpack it first"),
    "lzma": ("compressed", "the file is compressed (lzma)", "unpack it first"),
    "other-zip": ("zip-without-weights", "the zip archive holds no weights", "name a checkpoint file"),
    "unknown": ("not-a-checkpoint", "not a checkpoint of any known format, or damaged", _ARRAYS),
}

# Where a pickle comes from, by the first class it asks for.
_PICKLE_FAMILIES: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("sklearn.",), "sklearn-pickle", "a scikit-learn object"),
    (("stable_baselines3.common.vec_env",), "unsafe-pickle", "normalization statistics of Stable-Baselines3"),
    (("neat.",), "unsafe-pickle", "a NEAT genome"),
    (("xgboost.", "lightgbm."), "unsafe-pickle", "a tree model"),
)


def refuse(kind: str) -> Refused:
    """The refusal for a kind of file that has no reader."""
    code, what, fix = _REASONS.get(kind, _REASONS["unknown"])
    return Refused(what, fix=fix, code=code)


def known_pickle(names: list[str]) -> Refused | None:
    """The refusal for a pickle whose classes are those of something well known that is no network."""
    foreign = first_foreign(names)
    if any(name.startswith("sklearn.neural_network.") for name in names):
        return None
    for prefixes, code, what in _PICKLE_FAMILIES:
        if foreign.startswith(prefixes):
            return Refused(f"a pickle of {what} ({printable(foreign)}), not a network", code=code)
    return None


def refuse_torch_pickle(foreign: str, names: list[str]) -> Refused:
    """The refusal for a torch file within another file whose pickle needs more than tensors and plain values."""
    shown = printable(foreign) or "a class of its own"
    if any(name.startswith("torch.nn.modules.") for name in names):
        return Refused(f"a whole pickled module (class {shown})", fix=STATE_DICT, code="whole-module")
    return Refused(f"the pickle needs {shown}, which is more than weights", fix=STATE_DICT, code="unsafe-pickle")
