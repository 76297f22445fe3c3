"""The folder kept between runs: nothing is read that another user can have written, whatever lies in a file's place."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from analyzer import cache_folder as kept
from analyzer.cache_folder import UnusableError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="owners and permissions are POSIX's")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ONNXPLAIN_CACHE", str(tmp_path / "cache"))
    kept.write_private(tmp_path / "cache", "a", b"content")
    return tmp_path / "cache"


def read(path: Path) -> bytes | None:
    return kept.read_private(path, 100)


def test_what_is_written_is_read_and_the_users_alone(folder: Path) -> None:
    old = os.umask(0)
    try:
        kept.write_private(folder / "new" / "deeper", "b", b"other")
    finally:
        os.umask(old)
    assert read(folder / "new" / "deeper" / "b") == b"other"
    assert stat.S_IMODE((folder / "new" / "deeper").stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "new" / "deeper" / "b").stat().st_mode) == 0o600
    assert read(folder / "absent") is None
    assert kept.cache_folder() == folder


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_folder_that_others_can_write_to_is_not_used(folder: Path, mode: int) -> None:
    folder.chmod(mode)
    with pytest.raises(UnusableError, match="others can write to"):
        kept.cache_folder()
    with pytest.raises(UnusableError, match="others can write to"):
        kept.write_private(folder, "b", b"")


def test_a_file_that_others_can_write_to_is_not_read(folder: Path) -> None:
    (folder / "a").chmod(0o620)
    with pytest.raises(UnusableError, match="others can write to"):
        read(folder / "a")


def test_what_belongs_to_another_user_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    for use in (kept.cache_folder, lambda: read(folder / "a"), lambda: kept.write_private(folder, "b", b"")):
        with pytest.raises(UnusableError, match="belongs to another user"):
            use()


@pytest.mark.parametrize("kind", ["fifo", "socket", "folder", "link", "dangling link"])
def test_only_regular_files_are_read_and_nothing_hangs(
    folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "b"
    if kind == "fifo":
        os.mkfifo(path, 0o600)
    elif kind == "socket":
        monkeypatch.chdir(folder)  # a socket's path may have a hundred characters
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("b")
    elif kind == "folder":
        path.mkdir(mode=0o700)
    else:
        path.symlink_to(folder / ("a" if kind == "link" else "absent"))
    with pytest.raises(UnusableError):
        read(path)


def test_a_device_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fstat

    def device(descriptor: int) -> os.stat_result:
        facts = list(real(descriptor))
        facts[0] = stat.S_IFCHR | 0o600
        return os.stat_result(facts)

    monkeypatch.setattr(os, "fstat", device)
    with pytest.raises(UnusableError, match="no regular file"):
        read(folder / "a")


def test_a_large_file_is_not_read(folder: Path) -> None:
    with (folder / "a").open("wb") as stream:
        stream.truncate(2**40)  # takes no room on the disk
    with pytest.raises(UnusableError, match="more than any file"):
        read(folder / "a")


def test_a_folder_that_is_a_link_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.parent / "link").symlink_to(folder)
    monkeypatch.setenv("ONNXPLAIN_CACHE", str(folder.parent / "link"))
    with pytest.raises(UnusableError, match="no folder but a symbolic link"):
        kept.cache_folder()


@pytest.mark.parametrize("path", ["x" * 5000, "/".join(["x" * 200] * 40)])
def test_a_path_that_is_too_long_means_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv("ONNXPLAIN_CACHE", str(tmp_path / path))
    with pytest.raises(UnusableError, match="can't be used"):
        kept.cache_folder()


@pytest.mark.parametrize("home", [None, "", "not/absolute"])
def test_without_a_home_there_is_no_cache(monkeypatch: pytest.MonkeyPatch, home: str | None) -> None:
    pwd = pytest.importorskip("pwd")

    def nobody(_: int) -> None:
        raise KeyError("uid not found")

    for name in ("ONNXPLAIN_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(UnusableError, match="no home folder"):
        kept.cache_folder()


def test_without_a_name_it_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ONNXPLAIN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = kept.cache_folder()
    assert found is not None
    assert "onnxplain" in found.parts
    monkeypatch.setenv("ONNXPLAIN_CACHE", "off")
    assert kept.cache_folder() is None
