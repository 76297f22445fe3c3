"""``onnxplain gate update``: baselines are written whole, where somebody looks, from a gate that passes otherwise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import FINITE, Call, Write

FAITHFUL = {"id": "faithful", "kind": "pixel_flipping", "steps": 2, "baseline": [0.0], "versus": ["random"]}
SNAPSHOT = {"id": "as-before", "kind": "snapshot", "baseline": "base/one.json"}


@pytest.fixture(autouse=True)
def _no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)


def test_a_baseline_makes_an_undecided_snapshot_pass_and_stays_until_it_is_renewed(
    gate: Write, call: Call, tmp_path: Path
) -> None:
    path = gate(check=[FINITE, FAITHFUL | {"min_margin": -1000.0}, SNAPSHOT])
    assert call("gate", "run", path).code == 4
    done = call("gate", "update", path, "--json")
    assert done.code == 0, done.err
    assert done.json["written"] == {"as-before": str(tmp_path / "base" / "one.json")}
    baseline = json.loads((tmp_path / "base" / "one.json").read_text())
    assert "faithful" in baseline["statistics"]
    done = call("gate", "run", path)
    assert done.code == 0, done.out
    before = (tmp_path / "base" / "one.json").read_bytes()
    assert call("gate", "update", path).code == 0
    assert (tmp_path / "base" / "one.json").read_bytes() == before


def test_only_renews_the_baselines_that_are_named(gate: Write, call: Call, tmp_path: Path) -> None:
    second = SNAPSHOT | {"id": "other", "baseline": "base/two.json"}
    path = gate(check=[FINITE, SNAPSHOT, second])
    assert call("gate", "update", path, "--only", "other").code == 0
    assert [file.name for file in (tmp_path / "base").iterdir()] == ["two.json"]
    done = call("gate", "update", path, "--only", "finite")
    assert done.code == 2
    assert "no snapshot is called 'finite'" in done.error


def test_ci_renews_nothing_unless_it_is_forced(
    gate: Write, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = gate(check=[FINITE, SNAPSHOT])
    monkeypatch.setenv("CI", "true")
    done = call("gate", "update", path)
    assert done.code == 2
    assert "[gate.in_ci]" in done.error
    assert not (tmp_path / "base").exists()
    assert call("gate", "update", path, "--force").code == 0


@pytest.mark.parametrize("margin", [1000.0, 0.05], ids=["fails", "isn't decided"])
def test_a_gate_that_fails_gives_no_baseline(gate: Write, call: Call, tmp_path: Path, margin: float) -> None:
    least = 5 if margin > 1 else 59
    path = gate(check=[FINITE, FAITHFUL | {"min_margin": margin}, SNAPSHOT], policy={"min_n": least})
    for more in ((), ("--force",)):
        done = call("gate", "update", path, *more)
        assert done.code == 1
        assert "check 'faithful' blocks" in done.error
    assert not (tmp_path / "base").exists()


def test_a_snapshot_that_changed_is_renewed_and_a_policy_without_one_is_told(
    gate: Write, call: Call, tmp_path: Path
) -> None:
    path = gate(check=[FINITE, SNAPSHOT])
    assert call("gate", "update", path).code == 0
    file = tmp_path / "base" / "one.json"
    content = json.loads(file.read_text())
    figures = content["statistics"]["as-before"]
    for figure in figures.values():
        figure["value"] += 1000.0
    file.write_text(json.dumps(content))
    assert call("gate", "run", path).code == 1
    assert call("gate", "update", path).code == 0
    assert call("gate", "run", path).code == 0
    done = call("gate", "update", gate(check=[FINITE]))
    assert done.code == 2
    assert "[gate.no_snapshot]" in done.error
