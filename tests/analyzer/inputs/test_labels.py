"""Class names: files of every common form, lookups, hostile files."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.errors import InputError, UsageError
from analyzer.inputs import Labels, labels_from_metadata, read_labels

ANIMALS = Labels(
    ("tench, Tinca tinca", "tiger shark", "tiger cat", "Egyptian cat", "crane", "acer_rubrum", "", "crane")
)


@pytest.mark.parametrize(
    "text",
    [
        "cat\ndog\nbig bird\n",
        "\ufeffcat\r\ndog\r\nbig bird\r\n\r\n",
        "0,cat\n1,dog\n2,big bird\n",
        "cat,0\ndog,1\nbig bird,2\n",
        "index,name\n2,big bird\n0,cat\n1,dog\n",
        'cat,0\n"dog",1\n"big bird",2\n',
        '["cat", "dog", "big bird"]',
        '{"0": "cat", "2": "big bird", "1": "dog"}',
        '{"0": ["n01", "cat"], "1": ["n02", "dog"], "2": ["n03", "big bird"]}',
        "n01440764 cat\nn01443537 dog\nn01484850 big bird\n",
    ],
)
def test_forms_of_label_files(tmp_path: Path, text: str):
    path = tmp_path / "labels.txt"
    path.write_text(text, encoding="utf-8")
    labels = read_labels(path)
    assert labels.names == ("cat", "dog", "big bird") and len(labels) == 3 and str(path) in labels.source


def test_csv_of_names_alone(tmp_path: Path):
    path = tmp_path / "labels.csv"
    path.write_text('name\n"tench, Tinca tinca"\ngoldfish\n')
    assert read_labels(path).names == ("tench, Tinca tinca", "goldfish")


def test_markup_in_names_is_kept_as_data(tmp_path: Path):
    names = ["[/foo]", "<script>alert(1)</script>", "=cmd()", "\x1b[31mred", "[", "{}"]
    path = tmp_path / "labels.txt"
    path.write_text("\n".join(names))
    assert list(read_labels(path).names) == names


def test_gaps_are_unnamed_classes(tmp_path: Path):
    path = tmp_path / "labels.txt"
    path.write_text("0,cat\n3,dog\n")
    assert [read_labels(path).name(i) for i in (0, 1, 3, 4, -1)] == ["cat", "1", "dog", "4", "-1"]
    path.write_text("cat\n\ndog\n")
    assert [read_labels(path).name(i) for i in range(3)] == ["cat", "1", "dog"]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "no names"),
        (b"\n\n  \n", "no names"),
        (b"cat\n" + b"x" * 2**20 + b"\n", "line 2"),
        (b'["' + b"x" * 2**20 + b'"]', "too long"),
        (b"cat\0dog\n", "NUL"),
        (b"cat\n\xff\xfe\n", "line 2"),
        (b"0,cat\n0,dog\n", "twice"),
        (b"0,cat\n999999999999999999999,dog\n", "too large"),
        (b"\x89PNG\r\n\x1a\n\0\0", "NUL"),
    ],
)
def test_files_that_hold_no_labels(tmp_path: Path, content: bytes, word: str):
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_labels(path)
    assert caught.value.code == "data.labels" and word in str(caught.value) and len(str(caught.value)) < 400


def test_lookup_order():
    assert ANIMALS.index("tiger cat") == 2
    assert ANIMALS.index("EGYPTIAN  CAT") == 3
    assert ANIMALS.index("Tinca tinca") == 0 and ANIMALS.index("tench") == 0
    assert ANIMALS.index("acer rubrum") == 5
    assert ANIMALS.index("egypt") == 3 and ANIMALS.index("Tinca") == 0
    assert Labels(("cat", "catfish", "Cat")).index("cat") == 0
    assert Labels(("cat", "catfish")).index("CAT") == 0
    for text in ("tiger", "crane"):
        with pytest.raises(UsageError) as caught:
            ANIMALS.index(text)
        assert caught.value.code == "target.ambiguous_label"
    assert "4" in caught.value.hint and "7" in caught.value.hint


@pytest.mark.parametrize("text", ["tigr cat", "Egiptian cat", "tiger-cat"])
def test_unknown_labels_suggest_near_ones(text: str):
    with pytest.raises(UsageError) as caught:
        ANIMALS.index(text)
    assert caught.value.code == "target.unknown_label" and "cat'" in caught.value.hint


@pytest.mark.parametrize("text", ["", "  ", "zzz", "x" * 100_000])
def test_hopeless_labels_are_refused_in_one_short_line(text: str):
    with pytest.raises(UsageError) as caught:
        ANIMALS.index(text)
    assert caught.value.code == "target.unknown_label" and len(str(caught.value)) < 400


@given(
    st.lists(st.text(min_size=1, max_size=12).filter(lambda t: t.strip() == t), min_size=1, max_size=20, unique=True)
)
def test_every_exact_unique_name_finds_its_class(names: list[str]):
    labels = Labels(tuple(names))
    assert [labels.index(name) for name in names] == list(range(len(names)))
    assert [labels.name(i) for i in range(len(names))] == names


def test_count_is_a_warning_not_an_error():
    assert ANIMALS.check(8) is None
    warning = ANIMALS.check(1000)
    assert warning is not None and "8 names" in warning and "1000 classes" in warning


def test_metadata(caplog: pytest.LogCaptureFixture):
    assert labels_from_metadata({}) is None
    found = labels_from_metadata({"classes": json.dumps(["a", "b"])})
    assert found is not None and found.names == ("a", "b") and "classes" in found.source
    found = labels_from_metadata({"names": "{0: 'person', 1: 'bus'}"})
    assert found is not None and found.names == ("person", "bus")
    with caplog.at_level(logging.WARNING):
        for text in (
            "not a list",
            "[[[" * 9999,
            '{"a": 1}',
            "[1.5, {}]",
            "__import__('os').getcwd()",
            '{"99999999": "x"}',
        ):
            assert labels_from_metadata({"labels": text}) is None
    assert len(caplog.records) == 6
