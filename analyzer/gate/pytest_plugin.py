"""The plugin of pytest: ``pytest --onnxplain-gate gate.toml`` makes each check of a policy a test.

Belongs here: items, and what a status means to pytest. Not here: anything that this package needs without pytest, which is why
nothing imports this file but pytest itself, by the entry point ``pytest11``; it loads the gate only where it is wanted.

The gate runs once, when the first of its tests does, whichever tests are chosen: its checks are decided together. A check that
blocks fails, one that doesn't and hasn't passed is a warning; where nothing blocks and the gate doesn't pass all the same, every
check fails.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from analyzer.gate.outcome import GateResult


class GateWarning(pytest.PytestWarning):
    """A check that doesn't block has not passed."""


class GateFailure(Exception):  # noqa: N818 - a finding, not an error
    """A check blocks."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option."""
    parser.getgroup("onnxplain").addoption(
        "--onnxplain-gate", action="append", default=[], metavar="GATE.toml",
        help="run a gate, each of its checks as a test; repeatable",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Gates are collected beside whatever else is."""
    for gate in config.getoption("--onnxplain-gate"):
        path = (config.invocation_params.dir / gate).resolve()
        if not path.is_file():
            raise pytest.UsageError(f"--onnxplain-gate: {path}: no such file")
        config.args.append(str(path))


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.File | None:
    """A gate that the option names."""
    wanted = (parent.config.invocation_params.dir / gate for gate in parent.config.getoption("--onnxplain-gate"))
    if file_path.resolve() in [each.resolve() for each in wanted]:
        found: pytest.File = GateFile.from_parent(parent, path=file_path)
        return found
    return None


class GateFile(pytest.File):
    """A policy."""

    def collect(self) -> Iterator[pytest.Item]:
        """An item for each check."""
        from analyzer.errors import AnalyzerError
        from analyzer.gate.policy import load_policy

        try:
            policy = load_policy(self.path)
        except AnalyzerError as problem:
            raise self.CollectError(str(problem)) from None
        for at, check in enumerate(policy.check):
            yield GateItem.from_parent(self, name=check.id, at=at)

    @functools.cached_property
    def result(self) -> GateResult | str:
        """The run, or why there is none."""
        from analyzer.errors import AnalyzerError
        from analyzer.gate.run import run_gate

        try:
            return run_gate(self.path)
        except AnalyzerError as problem:
            return str(problem)


class GateItem(pytest.Item):
    """A check."""

    def __init__(self, at: int, **rest: object) -> None:
        super().__init__(**rest)  # type: ignore[arg-type]
        self.at = at

    def runtest(self) -> None:
        """Fails where the check blocks."""
        assert isinstance(self.parent, GateFile)
        result = self.parent.result
        if isinstance(result, str):
            raise GateFailure(result)
        check = result.checks[self.at]
        told = f"{check.status}: {check.message}"
        undecided = not result.passed and not any(each.blocks for each in result.checks)
        if check.blocks or undecided:
            raise GateFailure(told + ("; no required check was decided" if undecided else ""))
        if check.status != "pass":
            self.warn(GateWarning(f"{check.id}: {told}"))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> str:
        """The reason alone; a traceback for faults."""
        from analyzer.report.text import clean

        if isinstance(excinfo.value, GateFailure):
            return f"{self.name}: {clean(excinfo.value, 2000)}"
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where it stands."""
        return self.path, 0, self.name
