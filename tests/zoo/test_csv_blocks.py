"""Tables come out cell by cell as Python's own reader has them, whichever way they were read."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nfn_cli.errors import Refused
from nfn_cli.zoo import csv_blocks
from nfn_cli.zoo.columns import Columns
from nfn_cli.zoo.csv_blocks import table_file

PLAIN = st.text(alphabet="0123456789.-eanx ", max_size=8)
ANY = st.text(alphabet='0a,"é\n\r \t', max_size=6) | st.just("y" * 50)
TABLES = st.integers(1, 4).flatmap(
    lambda width: st.lists(
        st.lists(PLAIN, min_size=width, max_size=width) | st.lists(ANY, min_size=width, max_size=width), max_size=12
    )
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=TABLES,
    ending=st.sampled_from(["\n", "\r\n"]),
    block=st.sampled_from([1, 7, 64, 1 << 20]),
    packed=st.booleans(),
)
def test_every_cell_is_what_the_csv_module_reads(
    tmp_path: Path, lines: list[list[str]], ending: str, block: int, packed: bool
) -> None:
    width = len(lines[0]) if lines else 2
    text = io.StringIO()
    # the csv module leaves a bare return unquoted where it is no line end, and then cannot read its own file
    quoting = csv.QUOTE_ALL if any("\r" in cell for line in lines for cell in line) else csv.QUOTE_MINIMAL
    csv.writer(text, lineterminator=ending, quoting=quoting).writerows([[f"c{i}" for i in range(width)], *lines])
    path = tmp_path / ("t.csv.gz" if packed else "t.csv")
    path.write_bytes(gzip.compress(text.getvalue().encode()) if packed else text.getvalue().encode())
    expected = [line for line in csv.reader(io.StringIO(text.getvalue(), newline="")) if line][1:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_blocks, "_BLOCK", block)
        columns = Columns((table_file(path),))
        found = [columns[f"c{i}"].tolist() for i in range(width)]
    # numpy's fixed-width text cannot end in NUL; nothing else is lost
    assert found == [[line[i] for line in expected] for i in range(width)]


def test_the_fast_way_is_taken_and_left_in_the_middle_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_blocks, "_BLOCK", 40)
    taken: list[bool] = []
    plain = csv_blocks._plain_block

    def seen(*arguments: object) -> object:
        taken.append((found := plain(*arguments)) is not None)  # type: ignore[arg-type]
        return found

    monkeypatch.setattr(csv_blocks, "_plain_block", seen)
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "".join(f"{i},{i * i}\n" for i in range(50)) + '50,"two, words"\n51,7')
    columns = Columns((table_file(path),))
    assert taken.count(True) > 5
    assert taken.count(False) == 1
    assert columns["a"].tolist() == [str(i) for i in range(52)]
    assert columns["b"].tolist()[-2:] == ["two, words", "7"]
    assert np.array_equal(columns.where(np.arange(50)).numbers("a"), np.arange(50.0)) is True


@pytest.mark.parametrize("line", ["1", "1,2,3", "1,2\n3", '"1,2'])
def test_lines_of_another_length_are_refused_by_both_ways(tmp_path: Path, line: str) -> None:
    for filler in ("", '"quoted",1\n'):
        (tmp_path / "t.csv").write_text(f"a,b\n{filler}5,6\n{line}\n7,8\n")
        with pytest.raises(Refused):
            table_file(tmp_path / "t.csv")


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"\xff\xfea,b\n", b"a,b\n\xff\xfe,1\n", b"a,b\n" + b"x" * 200_000 + b",1\n"]
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(Refused):
        table_file(tmp_path / "t.csv")
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 1000)[:-20])
    with pytest.raises(Refused):
        table_file(tmp_path / "t.csv.gz")
    (tmp_path / "t.csv.gz").write_bytes(b"not gzip")
    with pytest.raises(Refused):
        table_file(tmp_path / "t.csv.gz")
