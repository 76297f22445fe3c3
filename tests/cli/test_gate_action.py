"""The action of GitHub: its steps' scripts, run by the shell that runs them there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.conftest import FINITE, Write
from tests.conftest import ROOT

ACTION = ROOT / ".github" / "actions" / "onnxplain-gate" / "action.yml"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="runs bash")


@pytest.fixture(scope="module")
def steps() -> dict[str, dict[str, Any]]:
    action = yaml.safe_load(ACTION.read_text(encoding="utf-8"))
    assert action["runs"]["using"] == "composite"
    return {step["name"]: step for step in action["runs"]["steps"]}


def step(script: str, folder: Path, **env: str) -> int:
    """The exit code of a step; ``onnxplain`` is this checkout's."""
    (folder / "bin").mkdir(exist_ok=True)
    program = folder / "bin" / "onnxplain"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m cli.main "$@"\n')
    program.chmod(0o755)
    given = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **env}
    given |= {name: str(folder / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    return subprocess.run(words, cwd=folder, env=given, capture_output=True, check=False).returncode


@pytest.mark.parametrize(
    ("sections", "code", "told"),
    [
        ({}, 0, "Passed&#58; every required check passed."),
        (
            {"policy": {"min_n": 59}, "check": [FINITE, {"id": "f", "kind": "pixel_flipping", "steps": 2}]},
            4,
            "Inconclusive",
        ),
        ({"modle": {}}, 2, "The gate gave no verdict: exit code 2."),
    ],
    ids=["passes", "undecided", "bad policy"],
)
def test_it_keeps_the_code_for_the_end_and_tells_the_summary(
    gate: Write, steps: dict[str, dict[str, Any]], tmp_path: Path, sections: dict[str, Any], code: int, told: str
) -> None:
    path = gate(**sections)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "summary.md").write_text("of an earlier run")
    ran = step(steps["Run the gate"]["run"], tmp_path, POLICY=str(path), OUTPUT="out", ARGUMENTS="--threads 1 -q")
    assert ran == 0, "reports wouldn't be uploaded"
    assert (tmp_path / "GITHUB_OUTPUT").read_text() == f"exit-code={code}\n"
    summary = (tmp_path / "GITHUB_STEP_SUMMARY").read_text()
    assert told in summary
    assert "earlier" not in summary
    assert step(steps["Verdict"]["run"], tmp_path, CODE=str(code)) == code
    assert step(steps["Verdict"]["run"], tmp_path, CODE="") == 5


def test_what_was_found_is_uploaded_whatever_the_verdict(steps: dict[str, dict[str, Any]]) -> None:
    for name in ("Keep reports and evidence", "Tell code scanning", "Verdict"):
        assert steps[name]["if"].startswith("always()")
    for each in steps.values():
        assert "${{" not in each.get("run", ""), "what is put into a script by its text can add commands to it"
