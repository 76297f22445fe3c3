"""The gates that anyone can run: what is written can run, and each of the three gives the verdict that is told of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import analyzer
from analyzer.gate.lint import lint
from analyzer.gate.outcome import GateResult
from models import gate_demo
from models.onnx_files import run
from models.shapes.measure import model_input
from models.shapes.scenes import dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo on sixty-six scenes."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["gate_demo", str(folder), "--count", "66"])
        gate_demo.main()
    return folder


def judged(folder: Path, name: str, *ids: str) -> GateResult:
    """A gate of the demo with some of its checks alone."""
    from analyzer.gate.policy import load_policy

    policy = load_policy(folder / f"{name}.toml")
    kept = [check for check in policy.check if check.id in ids]
    return analyzer.run_gate(policy.model_copy(update={"check": kept}), folder=folder, device="cpu", threads=1)


@pytest.mark.parametrize("name", gate_demo.GATES)
def test_every_policy_can_run(folder: Path, name: str) -> None:
    found = lint(folder / f"{name}.toml")
    assert found.inputs == 66
    assert not found.warnings


def test_the_model_that_reads_the_tag_is_blocked_and_its_exhibit_shows_the_class_change(folder: Path) -> None:
    cheater = judged(folder, "shapes_cheater", "no-tag")
    assert cheater.status == "fail"
    (check,) = cheater.checks
    assert "star" in check.message or "tagged yes" in check.message
    exhibit = check.outcome.exhibits[0]
    assert exhibit.other is not None
    assert exhibit.mask is not None
    before, after = exhibit.explanation, exhibit.other[1]
    assert before.target[0].startswith("star")
    assert before.record["prediction"]["top"][0][0][1] == "star"
    assert after.record["prediction"]["top"][0][0][1] != "star"
    heat = before.attribution[0].clip(0).sum(0)
    assert heat[exhibit.mask].sum() > 0.5 * heat.sum(), "the tag isn't lit up"
    assert judged(folder, "shapes_cnn", "no-tag").passed


def test_the_int8_model_agrees_in_classes_and_its_drift_is_judged(folder: Path) -> None:
    images = model_input(dataset(66, gate_demo.SEED)[0])
    float_, int8 = (run(folder / f"shapes_{name}.onnx", images)[0].argmax(1) for name in ("cnn", "int8"))
    assert (float_ == int8).mean() > 0.95
    (check,) = judged(folder, "shapes_int8", "drift").checks
    assert check.status in ("pass", "fail")
    assert any("rank correlation" in test.name and test.count >= 59 for test in check.outcome.tests)
