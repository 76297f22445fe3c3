"""Files of compiled sweeps: checked, bounded, safe to share between processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest
from onnx import helper

from analyzer.cache_folder import UnusableError
from analyzer.compiler import cache
from analyzer.compiler.cache import Question
from analyzer.errors import UsageError

A, B = Question("subject a", "sweep"), Question("subject b", "sweep")


def model(size: int = 0) -> bytes:
    """A serialised model of at least so many bytes."""
    graph = helper.make_graph([], "g", [], [], doc_string="x" * size)
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ONNXPLAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ONNXPLAIN_CACHE_MIB", raising=False)
    return tmp_path / "cache"


def test_what_is_written_is_read(folder: Path) -> None:
    content = model(1000)
    assert cache.read(A) is None
    assert cache.write(A, content) == ""
    read = cache.read(A)
    assert read is not None
    assert read.startswith(content)
    assert onnx.load_from_string(read).graph.doc_string == "x" * 1000
    assert list(cache.stored(A.subject)) == [A]
    assert list(cache.stored(B.subject)) == []
    assert [path.stat().st_mode & 0o777 for path in (folder, folder / f"{A.name}.onnx")] == [0o700, 0o600]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "foreign", "empty", "another's"])
def test_a_damaged_file_counts_as_absent(folder: Path, damage: str) -> None:
    cache.write(A, model(1000))
    path = folder / f"{A.name}.onnx"
    content_of_a = path.read_bytes()
    cache.write(B, model(2000))
    path.write_bytes(
        {
            "truncated": content_of_a[:-1],
            "flipped": content_of_a[:500] + bytes([content_of_a[500] ^ 1]) + content_of_a[501:],
            "foreign": model(1000),
            "empty": b"",
            "another's": (folder / f"{B.name}.onnx").read_bytes()[:-100] + content_of_a[-100:],
        }[damage]
    )
    assert cache.read(A) is None
    assert cache.write(A, model(1000)) == ""
    assert cache.read(A) is not None


def test_names_tell_facts_apart() -> None:
    subjects = [cache.subject_text(model="m", value=v, signature=s) for v in "ab" for s in ([1, None], [2, None])]
    names = {Question(subject, sweep).name for subject in subjects for sweep in ("lrp", "gradient")}
    assert len(names) == 8
    assert Question(cache.subject_text(signature=[1, None], value="a", model="m"), "lrp").name in names


@pytest.mark.parametrize("suffix", ["onnx", "refused"])
def test_files_that_were_exchanged_count_as_absent(folder: Path, suffix: str) -> None:
    questions = Question("subject", "lrp"), Question("subject", "gradient"), Question("another subject", "lrp")
    for size, question in enumerate(questions):
        assert not (cache.write(question, model(size)) if suffix == "onnx" else cache.refuse(question))
    paths = [folder / f"{question.name}.{suffix}" for question in questions]
    contents = [path.read_bytes() for path in paths]
    for path, content in zip(paths, contents[1:] + contents[:1], strict=True):
        path.write_bytes(content)
    assert [cache.read(question) for question in questions] == [None] * 3
    assert not any(cache.refused(question) for question in questions)
    assert list(cache.stored("subject")) == []
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    assert all(cache.read(q) is not None if suffix == "onnx" else cache.refused(q) for q in questions)


def test_what_was_used_longest_ago_goes_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONNXPLAIN_CACHE_MIB", "1")
    now = time.time()
    c, d = Question("subject c", "sweep"), Question("subject d", "sweep")
    for age, question in enumerate((A, B, c)):
        assert cache.write(question, model(300_000)) == ""
        os.utime(folder / f"{question.name}.onnx", (now - 100 + age, now - 100 + age))
    assert cache.read(A) is not None  # used just now
    assert cache.write(d, model(300_000)) == ""
    assert {path.stem for path in folder.iterdir()} == {A.name, c.name, d.name}


def test_too_large_a_file_is_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "more than 1 MiB" in cache.write(A, model(2**20 + 1), largest=2**20)
    monkeypatch.setenv("ONNXPLAIN_CACHE_MIB", "1")
    assert "more than 1 MiB" in cache.write(A, model(2**20 + 1), largest=None)
    assert not folder.exists()


def test_leftovers_of_dead_writers_go(folder: Path) -> None:
    cache.write(A, model())
    for name, age in (("old", 7200), ("new", 10)):
        (folder / f".{name}.tmp").write_bytes(b"half")
        os.utime(folder / f".{name}.tmp", (time.time() - age,) * 2)
    cache.write(B, model())
    assert sorted(path.name for path in folder.iterdir()) == [".new.tmp", *sorted([f"{A.name}.onnx", f"{B.name}.onnx"])]


def test_off_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONNXPLAIN_CACHE", "off")
    assert "off" in cache.write(A, model())
    assert cache.read(A) is None
    assert list(cache.stored(A.subject)) == []
    assert not cache.refused(A)


def test_an_unusable_folder_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ONNXPLAIN_CACHE", str(tmp_path / "file" / "cache"))
    for use in (lambda: cache.write(A, model()), lambda: cache.refuse(A), lambda: cache.read(A)):
        with pytest.raises(UnusableError, match="can't be used"):
            use()
    assert not cache.refused(A)


def test_a_refusal_is_remembered(folder: Path) -> None:
    assert not cache.refused(A)
    cache.refuse(A)
    assert cache.refused(A)
    assert cache.read(A) is None


@pytest.mark.parametrize("setting", ["much", "-1", "9" * 5000])
def test_a_size_that_is_none(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.setenv("ONNXPLAIN_CACHE_MIB", setting)
    with pytest.raises(UsageError) as caught:
        cache.size_limit()
    assert caught.value.code == "cache.size"


def test_two_processes_write_at_once(folder: Path) -> None:
    code = (
        "import sys\n"
        "from analyzer.compiler import cache\n"
        "same = cache.Question('s', 's')\n"
        "from onnx import helper\n"
        "for turn in range(60):\n"
        "    graph = helper.make_graph([], 'g', [], [], doc_string=sys.argv[1] * 200_000)\n"
        "    assert cache.write(same, helper.make_model(graph).SerializeToString()) == ''\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, letter]) for letter in "ab"]
    seen, same = set(), Question("s", "s")
    while any(writer.poll() is None for writer in writers):
        if (folder / f"{same.name}.onnx").exists():
            content = cache.read(same)
            assert content is not None  # never half of one, never a mixture
            seen.add(onnx.load_from_string(content).graph.doc_string[:1])
    assert [writer.wait() for writer in writers] == [0, 0]
    assert seen <= {"a", "b"}
    assert [path.name for path in folder.iterdir()] == [f"{same.name}.onnx"]
