"""Digests recomputed from the design's text, exit codes from its table."""

import hashlib
import json
import struct
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvit_deploy.report import (
    dump,
    exit_code_of,
    failed_path,
    overall_exit_code,
    report_path,
    sha256_of,
    size_of,
)
from mvit_deploy.workplace import write_text

# In the order of their POSIX paths, written down by hand: B < a, "-" < "." < "/" < letters < everything not ASCII.
TREE = [
    ("B.bin", b"\x00\xff" * 3),
    ("a-b", b"abc"),
    ("a.txt", b""),
    ("a/b/c/weights.bin", bytes(range(256)) * 2),
    ("a/x", b"x\0y"),
    ("ab", b"a/x"),
    ("Ähre.txt", "ü".encode()),
    ("日本/空", b""),
    ("😀", b"1"),
]


def plant(folder: Path, files: list[tuple[str, bytes]]) -> Path:
    for name, content in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def digest_by_hand(files: list[tuple[str, bytes]]) -> str:
    """Path, NUL, 8-byte big-endian length, bytes."""
    return hashlib.sha256(b"".join(n.encode() + b"\0" + struct.pack(">Q", len(c)) + c for n, c in files)).hexdigest()


def test_the_digest_of_a_file_is_sha256_of_its_bytes(tmp_path: Path) -> None:
    """The expected value is the example of FIPS 180-4."""
    (tmp_path / "abc").write_bytes(b"abc")

    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("order", [1, -1])
def test_the_digest_of_a_folder_goes_over_its_sorted_tree(tmp_path: Path, order: int) -> None:
    """In whatever order the files were made."""
    folder = plant(tmp_path / "x.mlpackage", TREE[::order])

    assert sha256_of(folder) == digest_by_hand(TREE)


def test_the_digest_is_fixed_for_all_time(tmp_path: Path) -> None:
    """As bytes, for nobody to change the format together with the helper: k, NUL, length 2, hi."""
    folder = plant(tmp_path / "f", [("k", b"hi")])

    assert sha256_of(folder) == hashlib.sha256(b"k\0\0\0\0\0\0\0\0\2hi").hexdigest()


@given(content=st.dictionaries(st.text("ab-é😀", min_size=1, max_size=6), st.binary(max_size=9), max_size=5))
@settings(deadline=None)
def test_any_flat_folder_is_digested_in_the_order_of_its_names(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, bytes]
) -> None:
    folder = plant(tmp_path_factory.mktemp("flat"), list(content.items()))

    expected = digest_by_hand(sorted(content.items(), key=lambda item: item[0].encode()))
    assert sha256_of(folder) == expected


@pytest.mark.parametrize(
    "other",
    [
        [("a", b"12"), ("b", b"")],  # a byte moves to the next file
        [("a", b"1"), ("c", b"2")],  # a name changes
        [("a", b"1"), ("d/b", b"2")],  # a file moves
        [("a", b"1"), ("b", b"2"), ("e", b"")],  # an empty file joins
        [("a", b"2"), ("b", b"1")],  # contents are swapped
    ],
)
def test_the_digest_sees_every_change(tmp_path: Path, other: list[tuple[str, bytes]]) -> None:
    first = plant(tmp_path / "first", [("a", b"1"), ("b", b"2")])

    assert sha256_of(first) != sha256_of(plant(tmp_path / "second", other))


def test_neither_the_folders_own_name_nor_an_empty_folder_counts(tmp_path: Path) -> None:
    first, second = plant(tmp_path / "first", TREE), plant(tmp_path / "second", TREE)
    (second / "empty").mkdir()

    assert sha256_of(first) == sha256_of(second)


def test_the_size_is_that_of_all_files(tmp_path: Path) -> None:
    folder = plant(tmp_path / "x.mlpackage", TREE)

    assert size_of(folder) == 6 + 3 + 0 + 512 + 3 + 3 + 2 + 0 + 1
    assert (size_of(folder / "a" / "x"), size_of(folder / "a.txt")) == (3, 0)


@pytest.mark.parametrize("missing", ["x.onnx", "x.mlpackage", "no/where", "link"])
def test_what_is_not_there_has_neither_digest_nor_size(tmp_path: Path, missing: str) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nothing")

    for measure in (sha256_of, size_of):
        with pytest.raises(FileNotFoundError, match=missing):
            measure(tmp_path / missing)


@pytest.mark.parametrize(("stronger", "weaker"), list(combinations((2, 4, 5, 6, 1, 3), 2)))
def test_the_exit_code_of_highest_priority_wins(stronger: int, weaker: int) -> None:
    assert overall_exit_code([0, weaker, stronger]) == stronger
    assert overall_exit_code(iter([stronger, weaker, 0])) == stronger


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 6])
def test_one_failure_among_successes_is_the_exit_code(code: int) -> None:
    assert overall_exit_code([0, 0, code, 0]) == code


@pytest.mark.parametrize("unknown", [7, 130, -9])
def test_an_exit_code_that_the_table_has_not_is_never_swallowed(unknown: int) -> None:
    assert overall_exit_code([0, unknown]) == unknown
    assert overall_exit_code([2, unknown, 3]) == unknown


def test_the_exit_code_is_0_only_when_every_file_is_well() -> None:
    assert overall_exit_code([0, 0]) == 0


@pytest.mark.parametrize(("verdict", "strict", "allowing"), [("match", 0, 0), ("mismatch", 1, 1), ("not_run", 3, 0)])
def test_allow_unverified_forgives_what_did_not_run_and_nothing_else(verdict: str, strict: int, allowing: int) -> None:
    assert exit_code_of(verdict, allow_unverified=False) == strict
    assert exit_code_of(verdict, allow_unverified=True) == allowing


def test_an_unknown_verdict_has_no_exit_code() -> None:
    with pytest.raises(KeyError):
        exit_code_of("matched", allow_unverified=True)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_never_written(bad: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        dump({"verification": {"outputs": [{"max_abs": bad}]}})


def test_json_is_readable_and_complete() -> None:
    content = {"max_abs": None, "labels": ["Ähre", "日本"], "rel_max": 1e-5, "shape": [1, 3]}

    text = dump(content)

    assert json.loads(text) == content
    assert '"Ähre"' in text
    assert text.endswith("}\n")


def test_a_path_that_is_not_utf_8_is_written_and_read_back(tmp_path: Path) -> None:
    """Python holds such bytes as lone surrogates, which no file and no terminal takes."""
    content = {"artifact": {"path": "exported/caf\udce9/x.onnx"}, "labels": ["Ähre", "\ud800"]}

    write_text(tmp_path / "r.json", dump(content))

    written = (tmp_path / "r.json").read_text(encoding="utf-8")
    assert r"caf\udce9/x.onnx" in written
    assert "Ähre" in written
    assert json.loads(written) == content


def test_reports_stand_beside_the_file_under_its_whole_name() -> None:
    file = Path("exported/mobilevit_xs_fp16.mlpackage")

    assert report_path(file) == Path("exported/mobilevit_xs_fp16.mlpackage.report.json")
    assert failed_path(file) == Path("exported/mobilevit_xs_fp16.mlpackage.failed.json")
