"""Times by a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from analyzer.gate.context import GateContext
from analyzer.gate.outcome import CheckResult
from analyzer.gate.run import run_gate
from analyzer.model import Model
from tests.analyzer.gate.linear import SIDE, given, linear


def _timed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seconds: Callable[[int], float],
    method: str = "explain",
    **more: object,
) -> CheckResult:
    """A check whose n-th run of the model, from 0 on, takes so many seconds."""
    np.savez(tmp_path / "data.npz", image=np.random.default_rng(0).normal(0, 1, (70, 1, SIDE, SIDE)).astype(np.float32))
    model = linear(tmp_path / "model.onnx", np.random.default_rng(0).normal(0, 1, (SIDE * SIDE, 2)))
    now, runs = [0.0], [0]
    own = getattr(Model, method)

    def slow(*args: object, **options: object) -> object:
        now[0] += seconds(runs[0]) if timed[0] else 0.0
        runs[0] += timed[0]
        return own(*args, **options)

    timed = [0]
    explain, predict = GateContext.explain, GateContext.predictions

    def counted(self: GateContext, *args: object, **options: object) -> object:
        timed[0] = 1
        return explain(self, *args, **options)  # type: ignore[arg-type]

    def untimed(self: GateContext, *args: object) -> object:
        timed[0] = 0
        return predict(self, *args)  # type: ignore[arg-type]

    def before(gate: GateContext) -> None:
        gate.clock = lambda: now[0]

    monkeypatch.setattr(GateContext, "explain", counted)
    monkeypatch.setattr(GateContext, "predictions", untimed)
    monkeypatch.setattr(Model, method, slow)
    wanted = given(model, tmp_path / "data.npz", {"kind": "latency", "max": 500, "level": "warn", **more})
    (found,) = run_gate(wanted, before=before, threads=1, device="cpu").checks
    return found


def test_a_quick_explanation_passes_whatever_the_first_runs_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _timed(tmp_path, monkeypatch, lambda run: 9.0 if run < 3 else 0.1)
    assert found.status == "pass", found.message
    times = found.outcome.values["ms"]
    np.testing.assert_allclose(times[:60], 100)
    assert np.isnan(times[60:]).all()
    assert found.outcome.details["p95_ms"] == pytest.approx(100)


def test_without_warming_up_the_first_runs_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _timed(tmp_path, monkeypatch, lambda run: 9.0 if run < 3 else 0.1, warmup=0)
    np.testing.assert_allclose(found.outcome.values["ms"][:4], [9000, 9000, 9000, 100])
    assert found.status == "inconclusive"  # three of 60 too slow: the 95 % quantile may be either


def test_a_slow_tail_warns_at_the_95_percent_quantile_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _timed(tmp_path, monkeypatch, lambda run: 0.6 if run % 4 == 0 else 0.1)
    assert found.status == "warn"
    assert not found.required
    with monkeypatch.context() as again:
        found = _timed(tmp_path, again, lambda run: 0.6 if run % 4 == 0 else 0.1, metric="explain_p50_ms")
    assert found.status == "pass"
