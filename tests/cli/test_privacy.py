"""What a run leaves on a machine and says to the network: its output and its cache, and nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_process import ROOT

RUNS = {
    "explain": ["explain", "{model}", "{picture}", "-m", "lrp", "-m", "occlusion", "-m", "lime", "-p", "samples=20",
                "--preprocess", "unit", "-q", "-o", "out"],
    "compile": ["compile", "{model}", "-m", "gradient", "-o", "out/model.onnx"],
    "inspect": ["inspect", "{model}", "--try-methods"],
    "doctor": ["doctor"],
}  # fmt: skip
#: System calls that reach another process or machine.
NETWORK = ("socket(", "connect(", "sendto(", "sendmsg(", "sendmmsg(", "bind(")


def clean(home: Path, **more: str) -> dict[str, str]:
    """An environment without this process's settings, whose home and temporary folder are new ones."""
    for name in ("home", "tmp"):
        (home / name).mkdir(parents=True, exist_ok=True)
    return {
        "PATH": os.environ["PATH"], "HOME": str(home / "home"), "TMPDIR": str(home / "tmp"), "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", **more,
    }  # fmt: skip


def traced(log: Path) -> list[str]:
    """The words that run a program under strace and log its network calls; none where strace can't be had."""
    words = ["strace", "-f", "-qq", "-e", "trace=network", "-o", str(log)]
    if shutil.which("strace") is None:
        return []
    return words if subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0 else []


@pytest.mark.parametrize(
    ("name", "cache"),
    [
        *((name, None) for name in RUNS),
        ("explain", "off"),
        pytest.param("explain", "{folder}/a file/cache", marks=pytest.mark.slow),
        pytest.param("explain", "x" * 9999, marks=pytest.mark.slow),
    ],
)
def test_a_run_writes_its_output_and_its_cache_and_opens_no_socket(
    name: str, cache: str | None, pictures_model: Path, picture: Path, tmp_path: Path
) -> None:
    work, log = tmp_path / "work", tmp_path / "calls"
    (work / "out").mkdir(parents=True)
    (tmp_path / "a file").write_text("")
    setting = {} if cache is None else {"ONNXPLAIN_CACHE": cache.format(folder=tmp_path)}
    words = [word.format(model=pictures_model, picture=picture) for word in RUNS[name]]
    tracer = traced(log)
    done = subprocess.run(
        [*tracer, sys.executable, "-m", "cli.main", *words], cwd=work, env=clean(tmp_path, **setting),
        capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    roots = [tmp_path / "home", tmp_path / "tmp", work]
    files = {str(f.relative_to(tmp_path)) for root in roots for f in root.rglob("*") if not f.is_dir()}
    ours = ("work/out/", *(("home/.cache/onnxplain/", "home/Library/Caches/onnxplain/") if cache is None else ()))
    assert [file for file in files if not file.startswith(ours)] == []
    if sys.platform == "linux":
        assert [path.name for path in (tmp_path / "home").iterdir() if path.name != ".cache" or cache is not None] == []
        assert list((tmp_path / "tmp").iterdir()) == []
    if tracer:
        calls = [line for line in log.read_text().splitlines() if any(call in line for call in NETWORK)]
        assert calls == []
