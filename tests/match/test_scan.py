"""Groups of fingerprints are those that comparing all pairs gives; a log survives being cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nfn_cli.errors import SurroundingsFailed
from nfn_cli.match.fingerprint_code import RADIUS, Fingerprint
from nfn_cli.match.scan import ScanLog, groups

ARCHITECTURES = ("0" * 16, "1" * 16)
RECORD = {"path": "a", "fingerprint": f"2-{'0' * 16}-{'0' * 64}", "reliable": True}


def flipped(code: Fingerprint, count: int, random: np.random.Generator) -> Fingerprint:
    bits = np.unpackbits(np.frombuffer(code.bits, np.uint8))
    bits[random.permutation(256)[:count]] ^= 1
    return Fingerprint(code.architecture, np.packbits(bits).tobytes())


def collection(seed: int) -> list[Fingerprint]:
    """Unrelated codes, copies at all distances around the radius, exact copies, chains of copies, two architectures."""
    random = np.random.default_rng(seed)
    codes = [Fingerprint(ARCHITECTURES[i % 2], random.bytes(32)) for i in range(40)]
    for number in range(60):
        codes.append(flipped(codes[int(random.integers(len(codes)))], number % (2 * RADIUS), random))
    codes += codes[:5]
    return [codes[i] for i in random.permutation(len(codes))]


def by_all_pairs(codes: list[Fingerprint], radius: int) -> list[list[int]]:
    root = list(range(len(codes)))
    for i, a in enumerate(codes):
        for j in range(i):
            if a.same_network(codes[j], radius) and root[i] != root[j]:
                old, new = max(root[i], root[j]), min(root[i], root[j])
                root = [new if r == old else r for r in root]
    found = [[i for i, r in enumerate(root) if r == first] for first in sorted(set(root))]
    return [members for members in found if len(members) > 1]


@pytest.mark.parametrize("radius", [0, 7, RADIUS, 40])
@pytest.mark.parametrize("seed", range(3))
def test_groups_are_the_components_of_all_pairs_within_the_radius(seed: int, radius: int) -> None:
    codes = collection(seed)
    expected = by_all_pairs(codes, radius)
    assert groups(codes, radius) == expected
    assert groups(codes, radius + 6) != expected  # the collection has pairs just outside


def test_equal_bits_of_two_architectures_are_two_networks() -> None:
    one, other = (Fingerprint(architecture, bytes(32)) for architecture in ARCHITECTURES)
    assert groups([one, other]) == []
    assert groups([one, other, one]) == [[0, 2]]
    assert groups([]) == []


def test_twenty_thousand_codes_take_seconds() -> None:
    random = np.random.default_rng(0)
    codes = [Fingerprint(ARCHITECTURES[0], random.bytes(32)) for _ in range(19_990)]
    copies = [flipped(codes[i], RADIUS, random) for i in range(10)]
    assert groups(codes + copies) == [[i, 19_990 + i] for i in range(10)]


def test_a_log_goes_on_after_its_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = ScanLog(path)
    log.add("a", "1", [RECORD])
    log.add("b", "1", [RECORD])
    log.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    log = ScanLog(path)
    assert (log.done("a", "1"), log.done("b", "1"), log.done("a", "2")) == ([RECORD], None, None)
    log.add("b", "1", [RECORD])
    log.close()
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "line", ["{}", "[" * 100_000, "null", '{"job": "a", "stamp": "1", "lines": [{"path": "a", "fingerprint": "x"}]}']
)
def test_lines_that_are_no_records_are_passed_over(tmp_path: Path, line: str) -> None:
    path = tmp_path / "log"
    path.write_text(f"{line}\n")
    assert ScanLog(path).done("a", "1") is None


def test_a_log_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(SurroundingsFailed):
        ScanLog(tmp_path / "no such folder" / "log")


def test_records_that_do_not_say_how_far_a_code_is_to_be_trusted_are_made_again(tmp_path: Path) -> None:
    log = ScanLog(tmp_path / "log")
    log.add("a", "1", [{name: value for name, value in RECORD.items() if name != "reliable"}])
    log.add("b", "1", [RECORD])
    log.close()
    log = ScanLog(tmp_path / "log")
    assert (log.done("a", "1"), log.done("b", "1")) == (None, [RECORD])
