"""The result object: what it says, writing it, reading it back, leaving nothing behind where writing fails."""

from __future__ import annotations

import collections
import datetime
import enum
import json
import pathlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.errors import InconclusiveError, UsageError
from analyzer.explanation import Completeness, Explanation, jsonable
from analyzer.files import write_atomically

MAP = np.random.default_rng(0).standard_normal((2, 1, 4, 4)).astype(np.float32)
RAW = np.random.default_rng(1).standard_normal((2, 1, 2, 2)).astype(np.float32)
ROW = np.random.default_rng(2).standard_normal((2, 5)).astype(np.float32)


def example(**changes: Any) -> Explanation:
    """An explanation of a model with two inputs."""
    parts: dict[str, Any] = {
        "method": "grad-cam",
        "params": {"layer": "auto", "relu": True},
        "attributions": {"picture": MAP, "row/1:0": ROW},
        "raws": {"picture": RAW, "row/1:0": ROW},
        "inputs": {"picture": np.ones((2, 3, 4, 4), np.float32), "row/1:0": ROW, "unexplained": np.arange(2)},
        "target": ("cat (1)", "dog — 犬 (2)"),
        "classes": (1, 2),
        "score": np.array([1.5, -2.0]),
        "score_kind": "logit",
        "signed": True,
        "completeness": Completeness(np.array([1.0, 2.0]), np.array([1.5, 2.0])),
        "record": {"seed": 3, "layer": "conv", "model": {"sha256": "00"}, "notes": ["one"]},
    }
    return Explanation(**(parts | changes))


def test_the_first_inputs_map_is_the_attribution() -> None:
    found = example()
    assert found.attribution is MAP
    assert found.raw is RAW


def test_its_repr_is_one_line() -> None:
    assert repr(example()) == (
        "<Explanation grad-cam of picture [2, 1, 4, 4], row/1:0 [2, 5]: cat (1), logit 1.5, and 1 more>"
    )


def test_a_notebook_shows_pictures_and_nothing_runs() -> None:
    evil = '<script>alert(1)</script>" onload="x'
    html = example(target=(evil, "dog"))._repr_html_()
    assert html.count("<img src=") == 2 and "<script>" not in html and 'onload="x' not in html


def test_completeness_is_total_minus_expected() -> None:
    complete = example().completeness
    assert complete is not None
    np.testing.assert_array_equal(complete.delta, [-0.5, 0.0])
    assert complete.to_dict() == {"total": [1.0, 2.0], "expected": [1.5, 2.0], "delta": [-0.5, 0.0]}


def test_arrays_come_back_from_an_npz_as_they_were(tmp_path: Path) -> None:
    example().save(tmp_path / "e.npz")
    with np.load(tmp_path / "e.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {
            "attribution", "raw", "input", "attribution/row/1:0", "raw/row/1:0", "input/row/1:0", "input/unexplained",
        }  # fmt: skip
        for key, expected in (
            ("attribution", MAP), ("raw", RAW), ("input", np.ones((2, 3, 4, 4), np.float32)),
            ("attribution/row/1:0", ROW), ("input/unexplained", np.arange(2)),
        ):  # fmt: skip
            assert arrays[key].dtype == expected.dtype
            np.testing.assert_array_equal(arrays[key], expected)


def test_standard_errors_lie_beside_the_maps_in_an_npz(tmp_path: Path) -> None:
    errors = {"picture": np.abs(MAP), "row/1:0": np.abs(ROW)}
    example(standard_errors=errors).save(tmp_path / "e.npz")
    with np.load(tmp_path / "e.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["standard_error"], errors["picture"])
        np.testing.assert_array_equal(arrays["standard_error/row/1:0"], errors["row/1:0"])


def test_the_record_comes_back_from_json_as_it_was(tmp_path: Path) -> None:
    found = example()
    found.save(tmp_path / "e.json")
    text = (tmp_path / "e.json").read_text(encoding="utf-8")
    assert "犬" in text
    record = json.loads(text)
    assert record == json.loads(json.dumps(found.to_dict()))
    assert record["target"] == ["cat (1)", "dog — 犬 (2)"]
    assert record["score"] == [1.5, -2.0]
    assert record["params"] == {"layer": "auto", "relu": True}
    assert record["attribution"] == {
        "picture": {"shape": [2, 1, 4, 4], "dtype": "float32"}, "row/1:0": {"shape": [2, 5], "dtype": "float32"},
    }  # fmt: skip
    assert record["layer"] == "conv"
    assert record["completeness"]["delta"] == [-0.5, 0.0]


def test_json_is_strict_json_whatever_the_numbers(tmp_path: Path) -> None:
    odd = np.array([np.nan, np.inf])
    found = example(score=odd, completeness=Completeness(odd, odd), record={"r2": [np.float32("nan")], "loss": -np.inf})
    found.save(tmp_path / "e.json")
    record = json.loads((tmp_path / "e.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert record["score"] == [None, None]
    assert record["completeness"]["total"] == [None, None]
    assert record["r2"] == [None]


def test_a_file_may_be_named_by_text_and_its_folder_may_be_new(tmp_path: Path) -> None:
    example().save(str(tmp_path / "new" / "folder" / "e.json"))
    assert (tmp_path / "new" / "folder" / "e.json").exists()


@pytest.mark.parametrize("name", ["e.txt", "e", "e.npy", "e.json.bak", ".npz"])
def test_other_suffixes_are_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        example().save(tmp_path / name)
    assert caught.value.code == "output.format"
    assert ".npz" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


# --- writing --------------------------------------------------------------------------------------------------------


def test_an_older_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "e.json"
    path.write_text("old " * 10000)
    example().save(path)
    json.loads(path.read_text())
    assert [p.name for p in tmp_path.iterdir()] == ["e.json"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_fault_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "e.bin"
    path.write_bytes(b"old")

    def fail(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["e.bin"]


def test_nobody_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "e.bin"

    def write(temporary: Path) -> None:
        assert temporary.parent == path.parent, "the same file system, so that renaming is one step"
        temporary.write_bytes(b"half")
        assert not path.exists()
        temporary.write_bytes(b"whole")

    write_atomically(path, write)
    assert path.read_bytes() == b"whole"


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    def full(temporary: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(InconclusiveError, match="No space left") as caught:
        write_atomically(tmp_path / "e.bin", full)
    assert caught.value.code == "output.no_space"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["file/e.json", "folder", "x" * 300 + ".json"])
def test_places_that_cannot_be_written_are_one_line(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("a file")
    (tmp_path / "folder").mkdir()
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(UsageError) as caught:
        write_atomically(tmp_path / place, lambda p: p.write_text("x"))
    assert caught.value.code == ("output.not_regular" if place == "folder" else "output.unwritable")
    assert sorted(p.name for p in tmp_path.iterdir()) == before


# --- JSON -----------------------------------------------------------------------------------------------------------


class Colour(enum.Enum):
    """A value of no JSON type."""

    RED = 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.int64(7), 7),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (float("nan"), None),
        (np.float16("inf"), None),
        (np.array(3.0), 3.0),
        (np.array([[1, 2]]), [[1, 2]]),
        (np.array([np.nan, 1.0]), [None, 1.0]),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.array([None, {"k": np.int8(1)}], object), [None, {"k": 1}]),
        (np.zeros((0, 3)), []),
        ((1, (2, 3)), [1, [2, 3]]),
        ({1: {2.5: "x"}}, {"1": {"2.5": "x"}}),
        (collections.OrderedDict(a=1), {"a": 1}),
        (frozenset({4}), [4]),
        (pathlib.PurePosixPath("/a/b"), "/a/b"),
        (datetime.date(2020, 1, 2), "2020-01-02"),
        (Colour.RED, "Colour.RED"),
        (1 + 2j, "(1+2j)"),
        (b"a", "b'a'"),
        (None, None),
        (True, True),
        (10**30, 10**30),
    ],
)
def test_odd_values_become_json(value: Any, expected: Any) -> None:
    got = jsonable(value)
    assert got == expected
    assert type(got) is type(expected)
    json.dumps(got, allow_nan=False)


def test_large_arrays_are_described() -> None:
    assert jsonable(np.zeros((100, 100), np.float32)) == "array float32 [100, 100]"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
        max_leaves=10,
    )
)
def test_anything_becomes_strict_json(value: Any) -> None:
    json.dumps(jsonable(value), allow_nan=False)
