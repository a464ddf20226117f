"""checkpoint/pickle_calls.py: the functions that pickles of tensors and arrays call, as plain values. Runs none of them.

Knows how torch (torch/_utils.py, torch/storage.py) and NumPy (numpy/_core/src/multiarray/methods.c, `array_setstate`)
pickle; everything else is an `Object` or refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from nfn_cli.checkpoint.dtypes import safetensors_name
from nfn_cli.checkpoint.pickle_values import Blob, Class, Object, Storage
from nfn_cli.checkpoint.storage import StoredTensor, integers
from nfn_cli.errors import Refused
from nfn_cli.printable import printable

if TYPE_CHECKING:
    from nfn_cli.checkpoint.tree_pickle import Machine

# torch's storage classes -> names of element types as safetensors has them
_STORAGES = {
    "FloatStorage": "F32", "DoubleStorage": "F64", "HalfStorage": "F16", "BFloat16Storage": "BF16", "ByteStorage": "U8",
    "CharStorage": "I8", "ShortStorage": "I16", "IntStorage": "I32", "LongStorage": "I64", "BoolStorage": "BOOL",
}  # fmt: skip
_ELEMENTS = {
    code: safetensors_name(np.dtype(code))
    for code in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")
}
ARRAY, ELEMENT = "numpy.ndarray", "numpy.dtype"
JOBLIB_ARRAY = "joblib.numpy_pickle.NumpyArrayWrapper"
# Calling these is how a pickle runs a program. Nothing here would run it, but the file stays dangerous for others, and
# writing it again would pass that on.
_RUNNING = frozenset(
    (
        *("os", "posix", "nt", "subprocess", "sys", "importlib", "runpy", "pty", "socket", "shutil", "code", "pickle"),
        *("_pickle", "ctypes", "webbrowser", "_thread", "threading", "commands", "operator", "types", "marshal"),
        *("asyncio", "multiprocessing", "tempfile", "urllib", "http", "ftplib", "smtplib", "pdb", "bdb", "timeit"),
        *("cProfile", "profile", "ast", "inspect", "gc", "signal", "pip", "builtins", "__builtin__", "__builtins__"),
        *("_io", "io", "cloudpickle", "dill"),
    )
)
_PLAIN_BUILTINS = frozenset(
    ("set", "frozenset", "list", "dict", "tuple", "complex", "object", "bytearray", "slice", "range")
)


def refuse_running(name: str) -> None:
    """Raise where a call of this name, in an ordinary unpickler, reaches the machine.

    Raises:
        Refused: with code "unsafe-pickle".
    """
    module, _, last = name.partition(".")
    if module in _RUNNING and not (module.endswith("builtin__") or module == "builtins") & (last in _PLAIN_BUILTINS):
        raise Refused(
            f"the pickle calls {printable(name, 100)}: it would run a program where it is opened as usual",
            fix="do not open it; ask for a state dict or safetensors",
            code="unsafe-pickle",
        )


def foreign(name: str, arguments: tuple[Any, ...]) -> Object:
    """An instance of a class that nobody here knows.

    Raises:
        Refused: it is a function, which may do anything, not a class.
    """
    refuse_running(name)
    is_class = name.rpartition(".")[2].lstrip("_")[:1].isupper()
    if not is_class and not name.startswith("numpy.random."):  # constructors of random generators
        raise Refused(
            f"the pickle calls the function {printable(name, 100)}, which is no plain value",
            fix="save the weights alone: torch.save(model.state_dict(), …) or safetensors",
            code="unsafe-pickle",
        )
    return Object(name, arguments=arguments)


def typed_storage(name: str) -> str:
    """Element type of a storage class of torch.

    Raises:
        Refused: quantized, complex or unknown.
    """
    dtype = _STORAGES.get(name.rpartition(".")[2])
    if dtype is None:
        shown = printable(name, 80)
        if "Q" in shown.rpartition(".")[2]:
            raise Refused(
                f"quantized weights ({shown}), which are not analysed",
                fix="take the checkpoint from before it was quantized",
                code="quantized",
            )
        raise Refused(f"values of type {shown} are not read", code="unknown-dtype")
    return dtype


def stored_state(target: Object, state: Any, blobs: dict[str, Blob]) -> Any:
    """What BUILD leaves in an object: attributes; for arrays where their numbers lie, for element types the byte order."""
    if target.kind == ELEMENT:
        return state[1] if isinstance(state, tuple) and len(state) > 3 and state[3] is None else "fields"
    if target.kind == ARRAY:
        _, shape, element, fortran, numbers = state
        return _array(shape, element, bool(fortran), numbers, blobs)
    if isinstance(state, tuple) and len(state) == 2 and all(isinstance(part, (dict, type(None))) for part in state):
        return {**(state[0] or {}), **(state[1] or {})}
    return state


def array_behind(machine: Machine, target: Object, state: Any) -> None:
    """An array of joblib (joblib/numpy_pickle.py, `NumpyArrayWrapper.read_array`): its numbers follow in the stream."""
    element, stream = state["dtype"], machine.stream
    target.kind = ARRAY
    if element.arguments[0] == "O8":
        type(machine)("", objects=True, within=True).run(stream)
        return
    if state.get("numpy_array_alignment_bytes") is not None:
        (padding,) = stream.read(1)
        stream.read(padding)
    start = stream.tell()
    length = math.prod(integers(state["shape"]) or ()) * int(str(element.arguments[0])[1:])
    if not 0 <= length < 1 << 40:
        raise ValueError
    numbers = Blob(stream.read(length), start)
    target.state = _array(state["shape"], element, state.get("order") == "F", numbers, machine.blobs)


def _array(shape: Any, element: Any, fortran: bool, numbers: Any, blobs: dict[str, Blob]) -> StoredTensor | None:
    """Where an array's numbers lie; None for arrays of objects, of text and of records."""
    sizes = integers(shape)
    if sizes is None or not isinstance(element, Object) or element.kind != ELEMENT:
        raise TypeError
    dtype = _ELEMENTS.get(str(element.arguments[0]).lstrip("<|="))
    if dtype is None or element.state == "fields":
        return None
    if element.state == ">" or str(element.arguments[0])[:1] == ">":
        raise Refused("the numbers have their highest byte first", fix="save it as little-endian", code="byte-order")
    if isinstance(numbers, str):  # as Python 2 wrote them
        numbers = numbers.encode("latin-1")
    made = StoredTensor.dense(_kept(numbers, blobs), dtype, sizes, fortran)
    if any(step >= 1 << 48 for step in made.strides):
        raise ValueError
    return made


def _kept(numbers: Any, blobs: dict[str, Blob]) -> str:
    """The name under which bytes of the pickle are found again."""
    if not isinstance(numbers, bytes):
        raise TypeError
    blob = numbers if isinstance(numbers, Blob) else Blob(numbers, None)
    name = f"@{len(blobs)}" if blob.position is None else f"@{blob.position}+{len(blob)}"
    blobs.setdefault(name, blob)
    return name


def _element(_: Machine, code: Any = "", *__: Any) -> Object:
    return Object(ELEMENT, arguments=(code,))


def _empty_array(_: Machine, *__: Any) -> Object:
    return Object(ARRAY)


def _array_of_buffer(machine: Machine, numbers: Any, element: Any, shape: Any, order: Any = "C") -> Object:
    return Object(ARRAY, _array(shape, element, order == "F", numbers, machine.blobs))


def _scalar(_: Machine, element: Any, content: Any = b"") -> Any:
    code = str(element.arguments[0]).lstrip("<|=") if isinstance(element, Object) and element.kind == ELEMENT else ""
    if isinstance(content, str):
        content = content.encode("latin-1")
    if code not in _ELEMENTS or element.state == ">" or not isinstance(content, bytes):
        return Object("numpy.scalar")
    return np.frombuffer(content, np.dtype(f"<{code}"), 1)[0].item()


def _tensor(
    _: Machine, storage: Storage, offset: int, shape: Any, strides: Any, requires_grad: Any = False, *__: Any
) -> StoredTensor:
    sizes, steps = integers(shape), integers(strides)
    if not isinstance(storage, Storage) or sizes is None or steps is None or type(offset) is not int:
        raise TypeError
    return StoredTensor(storage.member, storage.dtype, sizes, steps, offset, bool(requires_grad))


def _tensor_of_type(machine: Machine, function: Any, _: Any, arguments: Any, *__: Any) -> Any:
    machine.called(function, tuple(arguments))
    return machine.stack.pop()


def _storage_in_bytes(machine: Machine, content: Any) -> Storage:
    """A storage that torch wrote into the pickle as a legacy file of its own."""
    from nfn_cli.checkpoint.legacy_torch import read_legacy

    if not isinstance(content, bytes) or machine.within:
        raise TypeError
    storage, places = read_legacy(BytesIO(content), len(content), type(machine)("", within=True))
    if not isinstance(storage, Storage):
        raise TypeError
    machine.of_torch = True
    start, length = places[storage.member]
    position = content.position if isinstance(content, Blob) else None
    blob = Blob(content[start : start + length], None if position is None else position + start)
    return Storage(_kept(blob, machine.blobs), storage.dtype)


def _first(_: Machine, value: Any = None, *__: Any) -> Any:
    return value


def _map(_: Machine, items: Any = (), *__: Any) -> dict[Any, Any]:
    pairs: Iterable[Any] = items.items() if isinstance(items, dict) else items
    made: dict[Any, Any] = {}
    for key, value in pairs:
        if not isinstance(key, (str, int, float, bytes, type(None), Class)):
            raise TypeError
        made[key] = value
    return made


def _encoded(_: Machine, text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise ValueError
    return text.encode("latin-1")


def _reconstructed(_: Machine, kind: Any, *__: Any) -> Object:
    refuse_running(kind.name)
    return Object(kind.name)


def _bag(kind: str) -> Callable[..., Object]:
    return lambda _, values=(), *__: Object(kind, listed=list(values) if isinstance(values, (list, tuple)) else [])


CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _map,
    "collections.deque": _bag("collections.deque"),
    "collections.defaultdict": lambda machine, *_: {},
    "collections.Counter": _map,
    "builtins.dict": _map,
    "builtins.set": _bag("builtins.set"),
    "__builtin__.set": _bag("builtins.set"),
    "builtins.frozenset": _bag("builtins.frozenset"),
    "__builtin__.frozenset": _bag("builtins.frozenset"),
    "builtins.list": lambda machine, values=(): list(values),
    "builtins.bytearray": _first,
    "copyreg._reconstructor": _reconstructed,
    # the attribute _backend of every module before torch 1.5: an object without a state
    "torch.nn.backends.thnn._get_thnn_function_backend": lambda machine: Object(
        "torch.nn.backends.thnn.THNNFunctionBackend"
    ),
    "copy_reg._reconstructor": _reconstructed,
    "_codecs.encode": _encoded,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._tensor._rebuild_from_type_v2": _tensor_of_type,
    "torch.storage._load_from_bytes": _storage_in_bytes,
    "torch.Size": _first,
    "torch.device": lambda machine, *_: "cpu",
    "torch.jit._pickle.restore_type_tag": _first,
    **{f"torch.jit._pickle.build_{kind}list": _first for kind in ("int", "double", "bool", "tensor")},
    "numpy.dtype": _element,
    **{
        f"numpy.{core}.{function}": make
        for core in ("core", "_core")
        for function, make in (
            ("multiarray._reconstruct", _empty_array),
            ("numeric._frombuffer", _array_of_buffer),
            ("multiarray.scalar", _scalar),
        )
    },
}
