"""The command as a process: signals, pipes, locales, what is imported, what reaches stderr."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]


def environment(**more: str) -> dict[str, str]:
    """This process's, with the checkout importable."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def process(*arguments: object, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run ``onnxplain ARGUMENTS…``."""
    words = [sys.executable, "-m", "cli.main", *map(str, arguments)]
    return subprocess.run(words, cwd=cwd, env=env or environment(), capture_output=True, timeout=120, check=False)


def imported(*arguments: object, cwd: Path) -> set[str]:
    """Top-level modules that a successful ``onnxplain ARGUMENTS…`` has imported when it ends."""
    script = "import sys; from cli.main import run; code = run(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    words = [sys.executable, "-c", f"{script}; sys.exit(code)", *map(str, arguments)]
    done = subprocess.run(words, cwd=cwd, env=environment(), capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stderr.decode().split()}


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)], ids=" ".join)
def test_help_imports_nothing_heavy(tmp_path: Path, arguments: list[str]) -> None:
    heavy = {"torch", "onnxruntime", "onnx", "numpy", "rich", "PIL", "pydantic", "matplotlib"}
    assert imported(*arguments, cwd=tmp_path) & heavy == set()


def test_perturbation_methods_import_no_torch(pictures_model: Path, picture: Path, tmp_path: Path) -> None:
    found = imported("explain", pictures_model, picture, "-m", "occlusion", "-m", "lime", "-p", "samples=20",
                     "-o", "o", cwd=tmp_path)  # fmt: skip
    assert {"onnxruntime", "numpy", "matplotlib"} <= found
    assert found & {"torch", "onnx2torch", "torchvision"} == set()
    assert (tmp_path / "o" / "report.html").exists()


def test_a_white_box_run_says_nothing_but_its_result(pictures_model: Path, picture: Path, tmp_path: Path) -> None:
    done = process("explain", pictures_model, picture, "-m", "lrp", "-m", "smoothgrad", "-p", "samples=2",
                   "--preprocess", "unit", "-o", "o", "--json", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0
    assert done.stderr == b""
    assert [e["method"] for e in json.loads(done.stdout)["explanations"]] == ["lrp", "smoothgrad"]


def test_a_failing_run_says_one_line(table_model: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("1,2\n")
    done = process("explain", table_model, "bad.csv", "-m", "gradient", "-o", "o", cwd=tmp_path)
    assert done.returncode == 3
    assert done.stdout == b""
    assert done.stderr.count(b"\n") == 1
    assert not (tmp_path / "o").exists()


def test_spaces_unicode_and_a_poor_locale(table_model: Path, rows: Path, tmp_path: Path) -> None:
    folder = tmp_path / "größer als ναί"
    folder.mkdir()
    model, table = table_model.rename(folder / "mödel one.onnx"), rows.rename(folder / "rows œ.csv")
    env = environment(LC_ALL="C")
    done = process("explain", model, table, "-m", "occlusion", "-q", "-o", folder / "o ut", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    assert (folder / "o ut" / "rows œ.occlusion.npz").exists()
    latin = environment(PYTHONIOENCODING="latin-1")
    done = process("inspect", model, "--no-methods", cwd=tmp_path, env=latin)
    assert done.returncode == 0, done.stderr
    assert "größer als \\u03bd".encode("latin-1") in done.stdout
    done = process("inspect", folder / "no ναί.onnx", cwd=tmp_path, env=latin)
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1


def test_a_home_that_is_not_there(table_model: Path, rows: Path, tmp_path: Path) -> None:
    env = {k: v for k, v in environment().items() if k != "HOME"}
    done = process("explain", table_model, rows, "-m", "occlusion", "-q", "-o", "o", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""


@pytest.mark.parametrize("arguments", [["methods"], ["methods", "--json"], ["--help"], ["bogus", "--json"]])
def test_a_reader_that_left_is_no_fault(tmp_path: Path, arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    words = [sys.executable, "-m", "cli.main", *arguments]
    done = subprocess.run(words, cwd=tmp_path, env=environment(), stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert done.returncode == 0
    assert done.stderr == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["methods"], ["methods", "--json"]])
def test_a_full_disk_below_stdout_is_one_line(tmp_path: Path, arguments: list[str]) -> None:
    words = [sys.executable, "-m", "cli.main", *arguments]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(words, cwd=tmp_path, env=environment(), stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 4
    assert done.stderr.count(b"\n") == 1
    assert b"[output.no_space]" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("stage", ["explain_targets", "write_comparison"])
def test_signals_stop_cleanly(
    table_model: Path, rows: Path, tmp_path: Path, number: signal.Signals, code: int, stage: str
) -> None:
    owner = {"explain_targets": "analyzer.model.Model", "write_comparison": "analyzer.jobs.report"}[stage]
    script = f"""
import signal, sys, time
import analyzer.model, analyzer.jobs.report
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background hands on that it is ignored
from cli.main import main
def wait(*_, **__):
    print("ready", file=sys.stderr, flush=True)
    time.sleep(60)
{owner}.{stage} = wait
main()
"""
    words = [sys.executable, "-c", script, "explain", table_model, rows, "-m", "occlusion", "-o", "o", "--json"]
    child = subprocess.Popen(words, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stderr is not None
    assert child.stderr.readline() == b"ready\n"
    child.send_signal(number)
    out, err = child.communicate(timeout=30)
    assert child.returncode == code
    assert err.count(b"\n") == 1
    assert json.loads(out)["error"]["exit_code"] == code
    assert not (tmp_path / "o").exists()


def test_results_do_not_depend_on_threads(table_model: Path, rows: Path, tmp_path: Path) -> None:
    maps = []
    for threads in (1, 2):
        words = ["explain", table_model, rows, "-m", "lime", "-p", "samples=50", "--seed", "4", "--threads", threads]
        assert process(*words, "-o", f"o{threads}", cwd=tmp_path).returncode == 0
        with np.load(tmp_path / f"o{threads}" / "rows.lime.npz") as arrays:
            maps.append(arrays["attribution"])
    np.testing.assert_allclose(maps[0], maps[1], rtol=1e-6)


def pseudo_terminal(tmp_path: Path, *arguments: str, **more: str) -> str:
    """What ``onnxplain ARGUMENTS…`` prints on a terminal of 80 columns."""
    pty = pytest.importorskip("pty", reason="needs pseudo-terminals")
    main_end, child_end = pty.openpty()
    env = environment(TERM="xterm-256color", COLUMNS="80", **more)
    env.pop("NO_COLOR", None) if "NO_COLOR" not in more else None
    words = [sys.executable, "-m", "cli.main", *arguments]
    child = subprocess.Popen(words, cwd=tmp_path, env=env, stdout=child_end, stderr=subprocess.DEVNULL)
    os.close(child_end)
    text = b""
    while True:
        try:
            part = os.read(main_end, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        text += part
    os.close(main_end)
    assert child.wait(timeout=30) == 0
    return text.decode()


def test_colours_are_for_terminals_that_want_them(tmp_path: Path) -> None:
    plain = process("methods", "lime", cwd=tmp_path).stdout.decode()
    assert "\x1b[" not in plain
    assert "\x1b[1m" in pseudo_terminal(tmp_path, "methods", "lime")
    for options, variables in ((["--no-color"], {}), ([], {"NO_COLOR": "1"})):
        output = pseudo_terminal(tmp_path, "methods", *options, **variables)
        assert not re.search(r"\x1b\[[0-9;]*(3|4|9|10)\d", output)
        lines = re.sub(r"\x1b\[[0-9;]*m", "", output).splitlines()
        assert max(map(len, lines)) <= 80
        assert any(line.startswith(" integrated-gradients ") for line in lines)
