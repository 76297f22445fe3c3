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

from analyzer.compiler import cache
from analyzer.errors import UsageError


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
    assert cache.read("a") is None
    assert cache.write("a", content) == ""
    read = cache.read("a")
    assert read is not None
    assert read.startswith(content)
    assert onnx.load_from_string(read).graph.doc_string == "x" * 1000
    assert cache.stored_names("a") == ["a"]
    assert (folder.stat().st_mode & 0o777) == 0o700


@pytest.mark.parametrize("damage", ["truncated", "flipped", "foreign", "empty", "another's"])
def test_a_damaged_file_counts_as_absent(folder: Path, damage: str) -> None:
    cache.write("a", model(1000))
    path = folder / "a.onnx"
    content_of_a = path.read_bytes()
    cache.write("b", model(2000))
    path.write_bytes(
        {
            "truncated": content_of_a[:-1],
            "flipped": content_of_a[:500] + bytes([content_of_a[500] ^ 1]) + content_of_a[501:],
            "foreign": model(1000),
            "empty": b"",
            "another's": (folder / "b.onnx").read_bytes()[:-100] + content_of_a[-100:],
        }[damage]
    )
    assert cache.read("a") is None
    assert cache.write("a", model(1000)) == ""
    assert cache.read("a") is not None


def test_names_tell_facts_apart() -> None:
    names = {cache.name_of(model="m", value=v, signature=s) for v in ("a", "b") for s in ([1, None], [2, None])}
    assert len(names) == 4
    assert cache.name_of(model="m", value="a", signature=[1, None]) in names


def test_what_was_used_longest_ago_goes_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONNXPLAIN_CACHE_MIB", "1")
    now = time.time()
    for age, name in enumerate("abc"):
        assert cache.write(name, model(300_000)) == ""
        os.utime(folder / f"{name}.onnx", (now - 100 + age, now - 100 + age))
    assert cache.read("a") is not None  # used just now
    assert cache.write("d", model(300_000)) == ""
    assert {path.stem for path in folder.iterdir()} == {"a", "c", "d"}


def test_too_large_a_file_is_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "more than 1 MiB" in cache.write("a", model(2**20 + 1), largest=2**20)
    monkeypatch.setenv("ONNXPLAIN_CACHE_MIB", "1")
    assert "more than 1 MiB" in cache.write("a", model(2**20 + 1), largest=None)
    assert not folder.exists()


def test_leftovers_of_dead_writers_go(folder: Path) -> None:
    cache.write("a", model())
    for name, age in (("old", 7200), ("new", 10)):
        (folder / f".{name}.tmp").write_bytes(b"half")
        os.utime(folder / f".{name}.tmp", (time.time() - age,) * 2)
    cache.write("b", model())
    assert sorted(path.name for path in folder.iterdir()) == [".new.tmp", "a.onnx", "b.onnx"]


def test_off_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONNXPLAIN_CACHE", "off")
    assert "off" in cache.write("a", model())
    assert cache.read("a") is None
    assert cache.stored_names("") == []
    assert not cache.refused("a")


def test_an_unwritable_folder_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ONNXPLAIN_CACHE", str(tmp_path / "file" / "cache"))
    assert "can't write" in cache.write("a", model())
    assert "can't write" in cache.refuse("a", "why")
    assert cache.read("a") is None
    assert cache.stored_names("") == []


def test_a_refusal_is_remembered(folder: Path) -> None:
    assert not cache.refused("a")
    assert cache.refuse("a", "no such operator") == ""
    assert cache.refused("a")
    assert cache.read("a") is None


def test_a_size_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONNXPLAIN_CACHE_MIB", "much")
    with pytest.raises(UsageError) as caught:
        cache.size_limit()
    assert caught.value.code == "cache.size"


def test_without_a_name_the_users_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ONNXPLAIN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = cache.folder()
    assert found is not None
    assert "onnxplain" in found.parts


def test_two_processes_write_at_once(folder: Path) -> None:
    code = (
        "import sys\n"
        "from analyzer.compiler import cache\n"
        "from onnx import helper\n"
        "for turn in range(60):\n"
        "    graph = helper.make_graph([], 'g', [], [], doc_string=sys.argv[1] * 200_000)\n"
        "    assert cache.write('same', helper.make_model(graph).SerializeToString()) == ''\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, letter]) for letter in "ab"]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if (folder / "same.onnx").exists():
            content = cache.read("same")
            assert content is not None  # never half of one, never a mixture
            seen.add(onnx.load_from_string(content).graph.doc_string[:1])
    assert [writer.wait() for writer in writers] == [0, 0]
    assert seen <= {"a", "b"}
    assert [path.name for path in folder.iterdir()] == ["same.onnx"]
