"""onnxruntime's telemetry is off before onnxruntime is imported, unless the user has set the variable."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from analyzer import telemetry
from tests.conftest import ROOT


@pytest.mark.parametrize("package", ["analyzer", "analyzer.executor.session", "benchmarks", "models", "tests.conftest"])
@pytest.mark.parametrize("setting", [None, "0", ""])
def test_importing_any_package_of_ours_turns_it_off(package: str, setting: str | None) -> None:
    script = (
        f"import {package}, os, sys; print(repr(os.environ['ORT_DISABLE_TELEMETRY']), 'onnxruntime' in sys.modules)"
    )
    env = {key: value for key, value in os.environ.items() if key != telemetry.VARIABLE}
    env |= {"PYTHONPATH": str(ROOT)} | ({} if setting is None else {telemetry.VARIABLE: setting})
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, check=True, text=True)
    assert done.stdout.split() == [repr("1" if setting is None else setting), "False"]


@pytest.mark.parametrize("setting", [None, "0"])
def test_events_are_turned_off_where_onnxruntime_came_first(
    monkeypatch: pytest.MonkeyPatch, setting: str | None
) -> None:
    calls: list[str] = []
    runtime = SimpleNamespace(disable_telemetry_events=lambda: calls.append("off"))
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    monkeypatch.delenv(telemetry.VARIABLE)
    if setting is not None:
        monkeypatch.setenv(telemetry.VARIABLE, setting)
    telemetry.turn_off()
    assert calls == ([] if setting else ["off"])
    assert os.environ[telemetry.VARIABLE] == (setting or "1")
