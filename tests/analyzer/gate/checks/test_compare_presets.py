"""A policy's setting that is worse than another of the grid is found, on inputs that had no say in the choice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analyzer.errors import UsageError
from analyzer.gate.outcome import CheckResult
from tests.analyzer.gate.scenes import judged, policy, scenes, write

#: Where every place of the input gets the same, and where it gets what it contributes.
FLAT, GOOD = "flat", "epsilon-gamma-box"
CHECK = {
    "kind": "compare_presets", "grid": {"composite": [FLAT, GOOD]}, "objective": "pixel_flipping",
    "objective_params": {"steps": 4, "size": 8, "fill": "blur"},
}  # fmt: skip


def _checked(tmp_path: Path, preset: str, **more: Any) -> CheckResult:
    images, _, labels = scenes(120)
    explain = {"method": "lrp", "preset": preset}
    data = write(tmp_path, images, labels)
    return judged(policy("shapes_cnn", data, {**CHECK, **more}, explain=explain))


def test_the_best_of_the_grid_passes(tmp_path: Path) -> None:
    found = _checked(tmp_path, GOOD)
    assert found.status == "pass", found.message
    assert found.outcome.details["best"] == {"composite": GOOD}
    assert [each["params"]["composite"] for each in found.outcome.details["held in"]] == [GOOD, FLAT]


def test_a_worse_setting_fails_on_held_out_inputs(tmp_path: Path) -> None:
    found = _checked(tmp_path, FLAT)
    assert found.status == "fail", found.message
    assert f"composite={GOOD} over composite={FLAT}" in found.message
    assert found.outcome.tests[0].count == 60


def test_few_inputs_show_nothing(tmp_path: Path) -> None:
    assert _checked(tmp_path, FLAT, samples=8).status == "inconclusive"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"grid": {"gama": [1]}}, "grid: lrp has no parameter 'gama'"),
        ({"grid": {"gamma": ["much"]}}, "grid: "),
        ({"objective": "pixel_fliping"}, "objective: unknown metric"),
        ({"objective": "sparseness", "objective_params": {}}, "objective: sparseness only describes"),
        ({"objective_params": {"stps": 3}}, "objective: pixel-flipping has no parameter 'stps'"),
        ({"grid": {"gamma": [float(each) for each in range(80)]}}, "grid: 80 settings"),
    ],
)
def test_values_that_cannot_be_are_told_by_check_and_key(tmp_path: Path, more: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as refused:  # before any input runs
        _checked(tmp_path, GOOD, **more)
    assert refused.value.code == "config.gate"
    assert f"check 'compare_presets': {told}" in refused.value.message
