"""What a run may write to: nothing is replaced unasked, nothing but files ever is, and nothing is left over."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import analyzer
from analyzer import files, output_folder
from analyzer.errors import AnalyzerError, InconclusiveError, UsageError
from analyzer.jobs import asked, explain_files
from tests.cli.conftest import Call, Ran, files_in
from tests.cli.test_process import environment, process

EXPLAIN = ["explain", "table.onnx", "rows.csv", "-m", "occlusion"]
COMPILE = ["compile", "table.onnx", "-m", "gradient"]
RESULTS = {"report.html", *(f"rows.occlusion.{suffix}" for suffix in ("npz", "json", "png"))}


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, table_model: Path, rows: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(ran: Ran, code: str, exit_code: int = 2) -> None:
    assert ran.code == exit_code, ran.err
    assert ran.error.endswith(f"[{code}]")
    assert ran.out == ""


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# --- what is there already --------------------------------------------------------------------------------------------


def test_results_are_replaced_only_where_that_is_asked_for(call: Call, tmp_path: Path) -> None:
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "mine.txt").write_text("kept")
    assert call(*EXPLAIN, "-t", "0", "-o", "o").code == 0
    first = contents(tmp_path / "o")
    refused(call(*EXPLAIN, "-t", "1", "-o", "o"), "output.exists")
    assert "o/report.html is there already (--force replaces it" in call(*EXPLAIN, "-t", "1", "-o", "o").error
    assert contents(tmp_path / "o") == first
    assert call(*EXPLAIN, "-t", "1", "-o", "o", "--force").code == 0
    assert json.loads((tmp_path / "o" / "rows.occlusion.json").read_text())["classes"] == [1, 1, 1]
    assert files_in(tmp_path / "o") == {"mine.txt", *RESULTS}


@pytest.mark.parametrize("name", sorted(RESULTS))
def test_any_file_in_a_results_place_is_kept(
    call: Call, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explain_files.Model, "explain_targets", lambda *_, **__: pytest.fail("something was explained"))
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / name).write_text("mine")
    refused(call(*EXPLAIN, "-o", "o"), "output.exists")
    assert contents(tmp_path / "o") == {str(tmp_path / "o" / name): b"mine"}


def test_without_a_name_every_run_has_a_folder_of_its_own(call: Call, tmp_path: Path) -> None:
    names = ["onnxplain-out", "onnxplain-out-2", "onnxplain-out-3"]
    for name in names:
        ran = call(*EXPLAIN, "--json")
        assert ran.json["report"] == f"{name}/report.html"
        assert files_in(tmp_path / name) == RESULTS
    refused(call("explain", "table.onnx", "no.csv", "-m", "occlusion"), "data.missing")
    assert sorted(path.name for path in tmp_path.glob("onnxplain-out*")) == names


def test_a_compiled_file_is_replaced_only_where_that_is_asked_for(call: Call, tmp_path: Path) -> None:
    (tmp_path / "c.onnx").write_text("mine")
    refused(call(*COMPILE, "-o", "c.onnx"), "output.exists")
    assert (tmp_path / "c.onnx").read_text() == "mine"
    assert call(*COMPILE, "-o", "c.onnx", "--force").code == 0
    assert len((tmp_path / "c.onnx").read_bytes()) > 100
    with pytest.raises(UsageError, match=r"output\.exists"):
        analyzer.compile("table.onnx", "gradient", output="c.onnx", overwrite=False)
    analyzer.compile("table.onnx", "gradient", output="c.onnx")


# --- what is no file --------------------------------------------------------------------------------------------------


def put(path: Path, kind: str) -> None:
    """Something that isn't a regular file."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name if path.parent == Path.cwd() else os.path.relpath(path))
    elif kind == "link":
        (path.parent / "target").write_text("mine")
        path.symlink_to("target")
    elif kind == "dangling link":
        path.symlink_to("nowhere")
    else:
        path.mkdir()


KINDS = ["pipe", "socket", "link", "dangling link", "folder"]
posix = pytest.mark.skipif(os.name != "posix", reason="pipes, sockets and links are POSIX's")


@posix
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flags", [[], ["--force"]])
@pytest.mark.parametrize("command", ["explain", "compile"])
def test_only_files_are_replaced_whatever_is_asked_for(
    call: Call, tmp_path: Path, kind: str, flags: list[str], command: str
) -> None:
    (tmp_path / "o").mkdir()
    goal = tmp_path / ("o/rows.occlusion.npz" if command == "explain" else "c.onnx")
    put(goal, kind)
    before, found = files_in(tmp_path), goal.lstat()
    words = [*EXPLAIN, "-o", "o"] if command == "explain" else [*COMPILE, "-o", "c.onnx"]
    refused(call(*words, *flags), "output.not_regular")
    assert files_in(tmp_path) == before
    assert (goal.lstat().st_mode, goal.lstat().st_ino) == (found.st_mode, found.st_ino)


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK])
def test_a_device_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: int) -> None:
    goal = tmp_path / "c.onnx"
    goal.write_text("a device")
    real = Path.lstat

    def device(self: Path) -> os.stat_result:
        facts = list(real(self))
        facts[0] = kind | 0o666 if self == goal else facts[0]
        return os.stat_result(facts)

    monkeypatch.setattr(Path, "lstat", device)
    before = files_in(tmp_path)
    for write in (
        lambda: analyzer.compile("table.onnx", "gradient", output=goal),
        lambda: files.write_atomically(goal, lambda draft: draft.write_bytes(b"x")),
    ):
        with pytest.raises(UsageError, match=r"is a device.*output\.not_regular"):
            write()
    assert files_in(tmp_path) == before
    assert goal.read_text() == "a device"


def test_external_data_of_the_model_is_not_replaced(call: Call, tmp_path: Path) -> None:
    import onnx

    proto = onnx.load("table.onnx")
    onnx.save(proto, "beside.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    before = contents(tmp_path)
    for name in ("weights.bin", "beside.onnx"):
        refused(call("compile", "beside.onnx", "-m", "gradient", "-o", name, "--force"), "output.is_input")
    assert contents(tmp_path) == before


# --- places that can't be written to ----------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["rows.csv", "rows.csv/below/it"])
def test_an_output_in_a_files_place_is_refused_before_any_work(
    call: Call, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asked, "load", lambda *_, **__: pytest.fail("the model was loaded"))
    ran = call(*EXPLAIN, "-o", where)
    refused(ran, "output.not_a_folder")
    assert "rows.csv is a file" in ran.error


@pytest.mark.parametrize("name", ["x" * 300, "/".join(["x" * 200] * 30)])
def test_a_path_that_cannot_be_is_refused_before_any_work(
    call: Call, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asked, "load", lambda *_, **__: pytest.fail("the model was loaded"))
    before = files_in(tmp_path)
    refused(call(*EXPLAIN, "-o", tmp_path / name), "output.unwritable")
    refused(call(*COMPILE, "-o", tmp_path / name), "output.unwritable")
    assert files_in(tmp_path) == before
    for use in (files.require_writable, lambda path: files.require_replaceable(path, overwrite=True)):
        with pytest.raises(
            UsageError, match=r"null.*output\.unwritable"
        ):  # no argument of a process, but one of a call
            use(tmp_path / "nul\0")


def test_a_working_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    script = f"import os, sys; os.chdir({str(tmp_path / 'gone')!r}); os.rmdir(os.getcwd()); from cli.main import main; main()"
    words = [sys.executable, "-c", script, "explain", tmp_path / "table.onnx", tmp_path / "rows.csv", "-m", "occlusion"]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.endswith("[output.unwritable]\n")


@pytest.mark.parametrize(("read_only", "error"), [(False, UsageError), (True, InconclusiveError)])
def test_a_folder_without_permission_and_a_disk_that_is_read_only_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_only: bool, error: type[AnalyzerError]
) -> None:
    checked = []

    def refuse(path: Path, mode: int) -> bool:
        checked.append((path, mode))
        return False

    monkeypatch.setattr(os, "access", refuse)  # a superuser may write everywhere
    monkeypatch.setattr(files, "_is_read_only", lambda folder: read_only)
    with pytest.raises(error) as caught:
        files.require_writable(tmp_path / "new" / "deeper")
    assert caught.value.code == ("output.read_only" if read_only else "output.unwritable")
    assert caught.value.exit_code == (4 if read_only else 2)
    assert ("Read-only" if read_only else "no permission") in caught.value.message
    assert checked == [(tmp_path, os.W_OK | os.X_OK)]


@pytest.mark.parametrize(
    ("number", "code", "exit_code"),
    [
        (errno.ENOSPC, "output.no_space", 4),
        (errno.EDQUOT, "output.no_space", 4),
        (errno.EFBIG, "output.no_space", 4),
        (errno.EROFS, "output.read_only", 4),
        (errno.EACCES, "output.unwritable", 2),
        (errno.EIO, "output.unwritable", 2),
    ],
)
@pytest.mark.parametrize("step", ["staging", "save", "report", "draft"])
def test_a_disk_that_takes_nothing_leaves_nothing_behind(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int, code: str, exit_code: int
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    saved = analyzer.Explanation.save

    def save_some(self: analyzer.Explanation, path: Path, shown: object = None) -> None:
        full() if path.suffix == ".json" else saved(self, path)

    goal: tuple[Any, str, Any] = {
        "staging": (output_folder, "staging", full),
        "save": (analyzer.Explanation, "save", save_some),
        "report": (explain_files.report, "write_comparison", full),
        "draft": (Path, "write_text", full),
    }[step]
    monkeypatch.setattr(*goal)
    before = files_in(tmp_path)
    ran = call(*EXPLAIN, "-o", "out")
    refused(ran, code, exit_code)
    assert "can't write to out" in ran.error
    assert "staging" not in ran.error
    assert files_in(tmp_path) == before


@posix
def test_a_process_that_may_not_write_more_says_so(tmp_path: Path) -> None:
    script = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "from cli.main import main\n"
        "sys.argv[1:] = sys.argv[1:]\n"
        "main()\n"
    )
    before = files_in(tmp_path)
    for words in ([*EXPLAIN, "-o", "out"], [*COMPILE, "-m", "lrp", "-o", "c.onnx"]):
        done = subprocess.run(
            [sys.executable, "-c", script, *words], cwd=tmp_path, capture_output=True, text=True, check=False,
            timeout=120, env=environment(),
        )  # fmt: skip
        if done.returncode == 0:  # a compiled model may be as small as that
            assert words[0] == "compile"
            (tmp_path / "c.onnx").unlink()
        else:
            assert (done.returncode, done.stderr.count("\n")) == (4, 1), done.stderr
            assert done.stderr.endswith("[output.no_space]\n")
        assert files_in(tmp_path) == before


# --- what killed runs leave -------------------------------------------------------------------------------------------

KILLED = """
import sys, time
from pathlib import Path
from cli.main import main
import analyzer.files, analyzer.jobs.report

def wait(*_, **__):
    print("ready", file=sys.stderr, flush=True)
    time.sleep(120)

if sys.argv[1] == "explain":
    analyzer.jobs.report.write_comparison = wait
else:
    Path.replace = wait
main()
"""


@posix
@pytest.mark.parametrize("command", ["explain", pytest.param("compile", marks=pytest.mark.slow)])
def test_what_a_killed_run_left_goes_with_the_next_and_what_runs_stays(tmp_path: Path, command: str) -> None:
    (tmp_path / "o").mkdir()
    words = [*EXPLAIN, "-o", "o"] if command == "explain" else [*COMPILE, "-o", "o/c.onnx"]

    def hidden() -> set[str]:
        return {path.name for path in (tmp_path / "o").iterdir() if path.name.startswith(".")}

    def start() -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, *words], cwd=tmp_path, env=environment(), stderr=subprocess.PIPE
        )
        assert child.stderr is not None
        assert child.stderr.readline() == b"ready\n"
        return child

    killed, running = start(), None
    try:
        left = hidden()
        assert len(left) == 1
        running = start()
        assert len(hidden()) == 2
        killed.send_signal(signal.SIGKILL)
        killed.wait(timeout=30)
        assert left <= hidden()
        done = process(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert len(hidden()) == 1  # of the run that goes on
        assert hidden() & left == set()
    finally:
        for child in (killed, running):
            if child is not None:
                child.kill()
                child.communicate(timeout=30)
    done = process(*words, "--force", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert hidden() == set()


def test_what_only_looks_like_a_leftover_stays(call: Call, tmp_path: Path) -> None:
    (tmp_path / "o" / ".onnxplain-staging-mine").mkdir(parents=True)
    (tmp_path / "o" / ".onnxplain-staging-0123456789ab").write_text("a file")
    (tmp_path / "o" / ".c.onnx.mine.tmp").write_text("mine")
    (tmp_path / "o" / ".d.onnx.0123456789ab.tmp").write_text("another's")
    before = files_in(tmp_path / "o")
    assert call(*EXPLAIN, "-o", "o").code == 0
    assert call(*COMPILE, "-o", "o/c.onnx").code == 0
    assert files_in(tmp_path / "o") == before | RESULTS | {"c.onnx"}


# --- an example is an input -------------------------------------------------------------------------------------------


def bad_examples(folder: Path) -> dict[str, tuple[str, int]]:
    """Files that are no example, with the code and exit code of each."""
    np.save(folder / "good.npy", np.ones((1, 4), np.float32))
    np.savez(folder / "good.npz", x=np.ones((1, 4), np.float32))
    archive = (folder / "good.npz").read_bytes()
    (folder / "cut.npz").write_bytes(archive[: len(archive) // 2])
    (folder / "damaged.npz").write_bytes(archive[:70] + b"\xff" * 20 + archive[90:])
    (folder / "text.npy").write_text("no array")
    (folder / "empty.npy").write_bytes(b"")
    np.save(folder / "objects.npy", np.array([{}, None]), allow_pickle=True)
    np.savez_compressed(folder / "bomb.npz", x=np.zeros((1, 2**26), np.float32))
    header = folder / "header.npy"
    with header.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (2**40,)})
    np.savez(folder / "none.npz")
    found = {
        "absent.npy": ("data.missing", 2), "cut.npz": ("data.array_unreadable", 3),
        "damaged.npz": ("data.array_unreadable", 3), "text.npy": ("data.array_unreadable", 3),
        "empty.npy": ("data.array_unreadable", 3), "objects.npy": ("data.pickle_refused", 3),
        "bomb.npz": ("limit.memory", 3), "header.npy": ("limit.memory", 3), ".": ("data.not_regular", 3),
        "none.npz": ("data.array_unreadable", 3),
    }  # fmt: skip
    if os.name == "posix":
        os.mkfifo(folder / "pipe.npy")
        found["pipe.npy"] = ("data.not_regular", 3)
    return found


def test_an_example_is_read_as_any_input(call: Call, tmp_path: Path) -> None:
    for name, (code, exit_code) in bad_examples(tmp_path).items():
        before = files_in(tmp_path)
        refused(call(*COMPILE, "--example", name, "-o", "c.onnx"), code, exit_code)
        assert files_in(tmp_path) == before
    for name in ("good.npy", "good.npz"):
        assert call(*COMPILE, "--example", name, "-o", "c.onnx", "--force").code == 0
