"""The forge's workflow runs what the gate runs, on every Python that the package says it supports."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def jobs() -> dict[str, Any]:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    found: dict[str, Any] = workflow["jobs"]
    return found


def commands(jobs: dict[str, Any]) -> list[str]:
    """The lines that all steps run."""
    return [line for job in jobs.values() for step in job["steps"] for line in step.get("run", "").splitlines()]


def test_it_runs_what_the_gate_runs(jobs: dict[str, Any]) -> None:
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    targets = set(re.findall(r"^make (\S+)$", gate, re.MULTILINE))
    assert targets
    assert targets <= {match.group(1) for line in commands(jobs) if (match := re.match(r"make (\S+)", line))}


def test_every_target_is_one_of_the_makefile(jobs: dict[str, Any]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in commands(jobs):
        if match := re.match(r"make (\S+)", line):
            assert re.search(rf"^{match.group(1)}:", makefile, re.MULTILINE), line


def test_every_python_that_the_package_names_is_tested(jobs: dict[str, Any]) -> None:
    tested = jobs["test"]["strategy"]["matrix"]["python"]
    named = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.fullmatch(r".*Python :: 3\.\d+", c)]
    assert tested == named
    assert PROJECT["requires-python"] == f">={tested[0]}"


def test_steps_are_actions_of_a_stated_version_or_commands(jobs: dict[str, Any]) -> None:
    for job in jobs.values():
        assert job["timeout-minutes"] <= 60
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step.get("uses", "actions/checkout@v5"))
