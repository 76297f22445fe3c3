"""Beside a baseline of its own a model passes, another fails, and what can't be compared isn't."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analyzer.gate.baselines import Baseline, baseline_of, read_baseline, write_baseline
from analyzer.gate.outcome import GateResult
from analyzer.gate.run import run_gate
from tests.analyzer.gate.scenes import policy, scenes, tagged_stars, write

MASS = {"kind": "region_mass", "min_n_per_class": 10}


def _ran(
    folder: Path, model: str = "shapes_cnn", *checks: dict[str, Any], seed: int = 1, **sections: Any
) -> GateResult:
    images, objects, labels = scenes(60, seed)
    data = write(folder, tagged_stars(images, labels), labels, objects)
    snapshot = {"kind": "snapshot", "baseline": "baselines/model.json"}
    given = policy(model, data, snapshot, *(checks or (MASS,)), **sections)
    return run_gate(given, folder=folder, threads=1, device="cpu")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the baseline of ``shapes_cnn``."""
    folder = tmp_path_factory.mktemp("kept")
    first = _ran(folder)
    assert first.checks[0].status == "inconclusive"
    assert first.checks[0].code == "gate.no_baseline"
    assert "`onnxplain gate update`" in first.checks[0].message
    write_baseline(folder / "baselines" / "model.json", baseline_of(first))
    return folder


def test_the_same_model_passes_and_another_fails(kept: Path) -> None:
    again = _ran(kept)
    snapshot, mass = again.checks  # in the policy's order, though the snapshot runs last
    assert snapshot.status == "pass", snapshot.message
    assert mass.status == "pass"
    other = _ran(kept, "shapes_cheater").checks[0]
    assert other.status == "fail"
    assert any(each["check"] == "region_mass" for each in other.outcome.details["changed"])
    assert "was" in other.message


def test_what_is_kept_are_the_statements_of_the_other_checks(kept: Path) -> None:
    found = read_baseline(kept / "baselines" / "model.json")
    again = _ran(kept)
    whole = again.checks[1].outcome.tests[0]
    figure = found.statistics["region_mass"]["the median relevance mass over area"]
    assert (figure.value, figure.low, figure.high, figure.n) == (whole.estimate, whole.low, whole.high, 60)
    parts = {test.part for test in again.checks[1].outcome.tests if test.part}
    assert {f"the median relevance mass over area in {part}" for part in parts} <= set(found.statistics["region_mass"])
    assert "mean of the score" in found.statistics["snapshot"]
    assert found.record["model"]["sha256"] == again.record["model"]["sha256"]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"seed": 2}, "other data"),
        ({"explain": {"method": "gradient-x-input"}}, "another method"),
    ],
)
def test_what_cant_be_compared_isnt(kept: Path, how: dict[str, Any], told: str) -> None:
    found = _ran(kept, **how).checks[0]
    assert found.status == "inconclusive"
    assert found.code == "gate.baseline_mismatch"
    assert f"was made with {told}" in found.message


def test_other_checks_ask_for_an_update(kept: Path) -> None:
    fewer = _ran(kept, "shapes_cnn", {**MASS, "id": "renamed"}).checks[0]
    assert fewer.status == "inconclusive"
    assert "is of other checks" in fewer.message


def test_changes_must_exceed_both_limits(kept: Path, tmp_path: Path) -> None:
    found = read_baseline(kept / "baselines" / "model.json")
    figure = found.statistics["snapshot"]["mean of the score"]  # about 4.6

    def status(value: float) -> str:
        own = {**found.statistics["snapshot"], "mean of the score": figure.model_copy(update={"value": value})}
        changed = Baseline(record=found.record, statistics={**found.statistics, "snapshot": own})
        write_baseline(tmp_path / "baselines" / "model.json", changed)
        return _ran(tmp_path).checks[0].status

    assert status(figure.value * 1.05) == "pass"  # 5 % of what it was, though 0.2 in all
    assert status(figure.value * 1.2) == "fail"


def test_times_are_never_compared(kept: Path, tmp_path: Path) -> None:
    latency = {"kind": "latency", "max": 1e6, "samples": 3, "warmup": 0}
    write_baseline(tmp_path / "baselines" / "model.json", read_baseline(kept / "baselines" / "model.json"))
    assert _ran(tmp_path, "shapes_cnn", MASS, latency).checks[0].status == "pass"
