"""Archives with a program: written so that torch loads them and computes the same; hostile ones end in a clean refusal."""

from __future__ import annotations

import hashlib
import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import nfn_cli
from nfn_cli.checkpoint.tree_pickle import read_tree
from nfn_cli.errors import NfnError
from tests.cli.running import nfn
from tests.graph.torch_modules import MODULES, as_tuple, make

Run = Callable[[Path, Tensor], list[Tensor]]


def exported(module: nn.Module, x: Tensor, path: Path) -> None:
    torch.export.save(torch.export.export(module, (x,), strict=False), path)


def run_exported(path: Path, x: Tensor) -> list[Tensor]:
    return as_tuple(torch.export.load(path).module()(x))


def run_script(path: Path, x: Tensor) -> list[Tensor]:
    return as_tuple(torch.jit.load(path)(x))


SAVERS: dict[str, tuple[Callable[[nn.Module, Tensor, Path], None], Run]] = {
    "exported": (exported, run_exported),
    "scripted": (lambda module, x, path: torch.jit.save(torch.jit.script(module), path), run_script),
    "traced": (lambda module, x, path: torch.jit.save(torch.jit.trace(module, x), path), run_script),
    "frozen": (lambda m, x, path: torch.jit.save(torch.jit.freeze(torch.jit.script(m)), path), run_script),
}
CANONICALIZE, ACT = ["canonicalize"], ["act", "--random", "--seed", "3"]


def save(kind: str, name: str, path: Path, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Tensor]:
    module, x = make(name, dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        SAVERS[kind][0](module, x, path)
    return module, x


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {info.filename: archive.read(info) for info in archive.infolist()}


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("exported", CANONICALIZE),
        ("exported", ACT),
        ("scripted", CANONICALIZE),
        ("traced", ACT),
        ("frozen", CANONICALIZE),
    ],
)
def test_the_output_is_loaded_by_torch_and_computes_the_same(tmp_path: Path, kind: str, command: list[str]) -> None:
    path, out = tmp_path / "m.pt2", tmp_path / "o.pt2"
    _, x = save(kind, "residual", path)
    run = nfn(*command, str(path), "-o", str(out))
    assert run.code == 0, run.err
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        old, new = (SAVERS[kind][1](p, x) for p in (path, out))
    assert max(float((a - b).abs().max() / a.abs().max()) for a, b in zip(old, new, strict=True)) < 1e-5
    before, after = members(path), members(out)
    changed = {name for name in before if before[name] != after[name]}
    assert list(before) == list(after)
    assert changed
    folders = {"exported": "/data/weights/weight_", "frozen": "/constants/"}
    assert all(folders.get(kind, "/data/") in name for name in changed)


@pytest.mark.parametrize("kind", SAVERS)
def test_the_same_input_gives_the_same_bytes(tmp_path: Path, kind: str) -> None:
    save(kind, "mlp", tmp_path / "m.pt2")
    for name in ("a", "b"):
        nfn_cli.save(nfn_cli.canonicalize(tmp_path / "m.pt2").checkpoint, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").stat().st_size == (tmp_path / "m.pt2").stat().st_size


@pytest.mark.parametrize("kind", SAVERS)
def test_a_file_that_is_not_changed_is_written_byte_for_byte(tmp_path: Path, kind: str) -> None:
    save(kind, "two_heads", tmp_path / "m.pt2")
    nfn_cli.save(nfn_cli.load(tmp_path / "m.pt2"), tmp_path / "o.pt2")
    assert (tmp_path / "o.pt2").read_bytes() == (tmp_path / "m.pt2").read_bytes()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_the_dtypes_of_the_file_stay(tmp_path: Path, dtype: torch.dtype) -> None:
    save("scripted", "mlp", tmp_path / "m.pt", dtype)
    nfn_cli.save(nfn_cli.canonicalize(tmp_path / "m.pt").checkpoint, tmp_path / "o.pt")
    assert {p.dtype for p in torch.jit.load(tmp_path / "o.pt").parameters()} == {dtype}


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.relu(self.b(torch.relu(self.a(x)))))


@pytest.mark.parametrize("kind", ["exported", "scripted"])
def test_tied_weights_stay_tied(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    module, x = Tied().eval(), torch.randn(2, 6)
    SAVERS[kind][0](module, x, tmp_path / "m.pt2")
    assert nfn_cli.load(tmp_path / "m.pt2").aliases == {"b.weight": "a.weight"}
    nfn_cli.save(nfn_cli.canonicalize(tmp_path / "m.pt2").checkpoint, tmp_path / "o.pt2")
    with torch.no_grad():
        assert torch.allclose(SAVERS[kind][1](tmp_path / "o.pt2", x)[0], module(x), atol=1e-5)


def test_the_report_is_json_with_the_container_and_the_shape_that_was_taken(tmp_path: Path) -> None:
    save("traced", "cut", tmp_path / "m.pt")
    run = nfn("symmetry-report", str(tmp_path / "m.pt"), "--json")
    report = json.loads(run.out)
    assert (run.code, report["container"], report["check"]["passed"]) == (0, "torchscript", True)
    assert "2×3×96×96" in report["networks"][0]["notes"][0]


# hostile files


def rewritten(source: Path, target: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as out:
        for info in archive.infolist():
            data = change(info.filename, archive.read(info))
            if data is not None:
                out.writestr(info.filename, data)
    return target


def refused(path: Path) -> str:
    """The code of the refusal that a command ends in."""
    run = nfn("symmetry-report", str(path), "--json")
    assert run.code == 3, run.err
    assert "Traceback" not in run.err
    assert run.err.count("\n") == 1
    code: str = json.loads(run.out)["error"]["code"]
    return code


@pytest.mark.parametrize("kind", ["exported", "scripted"])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, kind: str) -> None:
    save(kind, "mlp", tmp_path / "m.pt2")
    data = (tmp_path / "m.pt2").read_bytes()
    for part in range(1, 12):
        (tmp_path / "cut").write_bytes(data[: len(data) * part // 12])
        with pytest.raises(NfnError):
            nfn_cli.open_model(tmp_path / "cut")


def bent(values: dict, where: str, value: object) -> dict:
    """The JSON with one place changed; an empty place is taken out."""
    *path, last = where.split("/")
    node = values
    for key in path:
        node = node[int(key) if isinstance(node, list) else key]
    if value is KeyError:
        del node[last]
    else:
        node[int(last) if isinstance(node, list) else last] = value
    return values


GRAPH = "graph_module/graph"
BENT = {
    "no_graph": ("graph_module", KeyError),
    "graph_is_text": ("graph_module", "x"),
    "nodes_are_a_number": (f"{GRAPH}/nodes", 7),
    "node_is_null": (f"{GRAPH}/nodes/0", None),
    "target_is_a_list": (f"{GRAPH}/nodes/0/target", ["torch.ops.aten.linear.default"]),
    "unknown_value": (f"{GRAPH}/nodes/0/inputs/0/arg", {"as_tensor": {"name": "nowhere"}}),
    "reads_itself": (f"{GRAPH}/nodes/0/inputs/0/arg", {"as_tensor": {"name": "linear"}}),
    "named_twice": (f"{GRAPH}/nodes/1/outputs/0/as_tensor/name", "linear"),
    "a_huge_size": (f"{GRAPH}/tensor_values/linear/sizes/1/as_int", 10**15),
    "a_negative_size": (f"{GRAPH}/tensor_values/linear/sizes/1/as_int", -3),
    "a_size_that_is_text": (f"{GRAPH}/tensor_values/linear/sizes/1", {"as_expr": {"expr_str": "__import__('os')"}}),
    "another_parameter": ("graph_module/signature/input_specs/0/parameter/parameter_name", "layers.2.weight"),
    "a_missing_parameter": ("graph_module/signature/input_specs/0/parameter/parameter_name", "nowhere"),
    "no_outputs": ("graph_module/signature/output_specs", []),
}


@pytest.mark.parametrize("case", BENT)
def test_a_program_that_lies_is_refused(tmp_path: Path, case: str) -> None:
    save("exported", "mlp", tmp_path / "m.pt2")
    where, value = BENT[case]

    def change(name: str, data: bytes) -> bytes:
        return json.dumps(bent(json.loads(data), where, value)).encode() if name.endswith("models/model.json") else data

    path = rewritten(tmp_path / "m.pt2", tmp_path / "bent.pt2", change)
    with pytest.raises(NfnError) as caught:
        nfn_cli.open_model(path)
    assert caught.value.code in ("bad-graph", "not-capturable", "not-a-network", "too-large")


def test_a_result_with_another_shape_than_its_operation_gives_is_frozen(tmp_path: Path) -> None:
    save("exported", "mlp", tmp_path / "m.pt2")

    def change(name: str, data: bytes) -> bytes:
        if not name.endswith("models/model.json"):
            return data
        return json.dumps(bent(json.loads(data), f"{GRAPH}/tensor_values/relu/sizes/0/as_int", 3)).encode()

    report = nfn_cli.symmetry_report(rewritten(tmp_path / "m.pt2", tmp_path / "bent.pt2", change)).as_json()
    assert report["networks"][0]["unit_sets"] == []
    assert any("relu" in entry for entry in report["opaque"])


WEIGHTS = {
    "sizes_too_large": ("sizes", [{"as_int": 1 << 40}, {"as_int": 5}]),
    "a_stride_of_zero": ("strides", [{"as_int": 0}, {"as_int": 0}]),
    "sizes_are_text": ("sizes", "7x5"),
    "an_unknown_dtype": ("dtype", 99),
    "an_offset_outside": ("storage_offset", {"as_int": 1 << 30}),
    "a_negative_offset": ("storage_offset", {"as_int": -1}),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_that_do_not_fit_their_bytes_are_refused(tmp_path: Path, case: str) -> None:
    save("exported", "mlp", tmp_path / "m.pt2")
    key, value = WEIGHTS[case]

    def change(name: str, data: bytes) -> bytes:
        if not name.endswith("model_weights_config.json"):
            return data
        config = json.loads(data)
        meta = config["config"]["layers.0.weight"]["tensor_meta"]
        meta[key] = value
        if case == "a_stride_of_zero":
            meta["sizes"] = [{"as_int": 1 << 20}, {"as_int": 1 << 20}]
        return json.dumps(config).encode()

    path = rewritten(tmp_path / "m.pt2", tmp_path / "bent.pt2", change)
    with pytest.raises(NfnError) as caught:
        nfn_cli.load(path)
    assert caught.value.code == "bad-header"


def test_a_missing_weight_is_refused(tmp_path: Path) -> None:
    save("exported", "mlp", tmp_path / "m.pt2")
    path = rewritten(tmp_path / "m.pt2", tmp_path / "b.pt2", lambda n, d: None if n.endswith("weight_0") else d)
    assert refused(path) == "truncated"


CODE = "code/__torch__/tests/graph/torch_modules.py"
BODY = "  def forward(self: __torch__.tests.graph.torch_modules.Mlp,\n    x: Tensor) -> Tensor:\n"
HEAD = "class Mlp(Module):\n  __parameters__ = []\n  layers : int\n" + BODY
EVIL = {
    "import_statement": ("import os\n" + HEAD + "    return x\n", "not-capturable"),
    "import_in_function": (HEAD + "    import os\n    os.system('touch RAN')\n    return x\n", "not-capturable"),
    "import_call": (HEAD + "    return __import__('os').system('touch RAN')\n", "not-capturable"),
    "open_call": (HEAD + "    y = open('RAN', 'w')\n    return x\n", "not-capturable"),
    "dunder_walk": (HEAD + "    return (1).__class__.__bases__[0].__subclasses__()\n", "not-capturable"),
    "save": (HEAD + "    y = torch.save(x, 'RAN')\n    return x\n", "not-capturable"),
    "from_file": (HEAD + "    return torch.from_file('RAN', False, 3)\n", "not-capturable"),
    "custom_operator": (HEAD + "    return ops.mylib.run(x)\n", "not-capturable"),
    "lambda": (HEAD + "    y = lambda: 1\n    return x\n", "not-capturable"),
    "comprehension": (HEAD + "    y = [i for i in range(10)]\n    return x\n", "not-capturable"),
    "endless": (HEAD + "    while True:\n      y = 1\n    return x\n", "too-large"),
    "endless_recursion": (HEAD + "    return (self).forward(x, )\n", "not-capturable"),
    "huge_number": (HEAD + "    y = torch.pow(10, 1000000000)\n    return x\n", "not-capturable"),
    "growing_number": (HEAD + "    y = 3\n    while True:\n      y = torch.mul(y, y)\n    return x\n", "too-large"),
    "huge_list": (HEAD + "    y = torch.mul([1], 1000000000)\n    return x\n", "too-large"),
    "huge_tensor": (HEAD + "    return torch.mul(x, torch.zeros([1000000, 1000000]))\n", "too-large"),
    "huge_text": (HEAD + "    y = torch.format('{:>1000000000}', 1)\n    return x\n", "not-a-network"),
    "deep_brackets": (HEAD + "    return " + "(" * 5000 + "x" + ")" * 5000 + "\n", "bad-graph"),
    "deep_signs": (HEAD + "    y = " + "-" * 20000 + "1\n    return x\n", "bad-graph"),
    "deep_attributes": (HEAD + "    return self" + ".layers" * 9000 + "\n", "bad-graph"),
    "ten_megabytes": (HEAD + "    y = 1\n" * 1_000_000 + "    return x\n", "too-large"),
    "no_code": ("", "bad-graph"),
    "not_code": ("class ((((", "bad-graph"),
    "zero_byte": (HEAD + "    return x\0\n", "bad-graph"),
}


@pytest.mark.parametrize("case", EVIL)
def test_code_that_does_more_than_compute_is_refused_and_never_run(
    tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save("scripted", "mlp", tmp_path / "m.pt")
    text, code = EVIL[case]
    path = rewritten(tmp_path / "m.pt", tmp_path / "evil.pt", lambda n, d: text.encode() if n.endswith(CODE) else d)
    with pytest.raises(NfnError) as caught:
        nfn_cli.open_model(path)
    assert caught.value.code == code
    assert not (tmp_path / "RAN").exists()


def test_the_code_that_is_replaced_is_what_is_read(tmp_path: Path) -> None:
    save("scripted", "mlp", tmp_path / "m.pt")
    text = HEAD.replace("layers : int", "layers : Any") + "    layers = self.layers\n    return (layers).forward(x, )\n"
    path = rewritten(tmp_path / "m.pt", tmp_path / "good.pt", lambda n, d: text.encode() if n.endswith(CODE) else d)
    assert nfn_cli.symmetry_report(path).passed


PICKLES = {
    "runs_code": b"\x80\x02cos\nsystem\nX\x09\x00\x00\x00touch RAN\x85R.",
    "foreign_object": b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.",
    "cyclic": b"\x80\x02c__torch__\nN\n)\x81q\x00}(X\x01\x00\x00\x00ah\x00ub.",
    "far_memo": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "no_stop": b"\x80\x02N",
    "empty_stack": b"\x80\x02R.",
    "quantized": b"\x80\x02ctorch._utils\n_rebuild_qtensor\n)R.",
}


@pytest.mark.parametrize("case", PICKLES)
def test_a_module_tree_that_is_no_tree_is_refused(tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save("scripted", "mlp", tmp_path / "m.pt")
    path = rewritten(
        tmp_path / "m.pt", tmp_path / "evil.pt", lambda n, d: PICKLES[case] if n.endswith("/data.pkl") else d
    )
    with pytest.raises(NfnError) as caught:
        nfn_cli.open_model(path)
    assert caught.value.code in ("unsafe-pickle", "bad-header", "truncated", "too-large", "quantized")
    assert not (tmp_path / "RAN").exists()


def test_shared_parts_of_a_tree_cannot_be_multiplied_without_end() -> None:
    # each list holds the one before it twice: 2 ** 40 paths in 40 lists
    data = b"\x80\x02]q\x00" + b"".join(b"]q%c(h%ch%ce" % (i, i - 1, i - 1) for i in range(1, 41)) + b"."
    tree = read_tree(data, "")
    assert len(tree) == 2


def test_compressed_weights_are_read_but_not_written(tmp_path: Path) -> None:
    save("scripted", "mlp", tmp_path / "m.pt")
    path = rewritten(tmp_path / "m.pt", tmp_path / "small.pt", lambda _, data: data)
    assert nfn_cli.symmetry_report(path).passed
    with pytest.raises(NfnError) as caught:
        nfn_cli.save(nfn_cli.canonicalize(path).checkpoint, tmp_path / "o.pt")
    assert caught.value.code == "compressed-member"
    assert not (tmp_path / "o.pt").exists()


def test_reading_leaves_the_file_alone(tmp_path: Path) -> None:
    save("traced", "mlp", tmp_path / "m.pt")
    before = hashlib.sha256((tmp_path / "m.pt").read_bytes()).hexdigest()
    nfn_cli.save(nfn_cli.canonicalize(tmp_path / "m.pt").checkpoint, tmp_path / "o.pt")
    assert hashlib.sha256((tmp_path / "m.pt").read_bytes()).hexdigest() == before
    assert set(MODULES) >= {"mlp"}
