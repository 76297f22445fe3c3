"""One input without a score is left out of every check, with the reason; many make it inconclusive; only finiteness fails."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.analyzer.gate.judging import gate_of, judged
from tests.common.checks import load
from tests.common.models import assemble

CHECKS: dict[str, dict[str, Any]] = {
    "determinism": {"repeats": 2}, "conservation": {"mostly": 0.5, "max_rel_error": 1e9, "max_abs_over_output": 1e9},
    "continuity": {"samples": 2, "stat": "median"}, "pixel_flipping": {"steps": 3, "baseline": [0.5], "min_margin": -9.0},
    "mprt": {"draws": 1, "max_spearman": 1.0, "min_entropy_rise": -9.0}, "random_logit": {"max_similarity": 1.0},
}  # fmt: skip
DRAW = np.random.default_rng(2)
X = DRAW.uniform(0.5, 1.0, (12, 6)).astype(np.float32)


def logarithms() -> Any:
    """Scores are weighted sums of logarithms: none of an input with a number below zero."""
    nodes = [
        helper.make_node("Log", ["x"], ["log"], name="logarithm"),
        helper.make_node("MatMul", ["log", "w"], ["scores"], name="head"),
    ]
    w = np.random.default_rng(3).standard_normal((6, 3)).astype(np.float32)
    shapes = {"x": (TensorProto.FLOAT, ["n", 6])}
    return load(assemble(nodes, shapes, {"scores": (TensorProto.FLOAT, ["n", 3])}, {"w": w}))


@pytest.mark.parametrize("kind", CHECKS)
def test_inputs_without_a_score_are_left_out(kind: str) -> None:
    for lost, expected in ((1, "pass"), (4, "inconclusive")):
        x = X.copy()
        x[:lost, 2] = -1.0
        check = {"kind": kind, **CHECKS[kind]}
        status, message, outcome = judged(logarithms(), x, check, explain={"method": "lrp", "target": "0"})
        assert status == expected, message
        assert outcome.left_out == {"its score isn't finite": lost}
        assert all(np.isnan(v[:lost]).all() for name, v in outcome.values.items() if not name.startswith("outputs"))


def test_only_those_who_ask_get_the_rest() -> None:
    from analyzer.errors import InputError

    x = X.copy()
    x[5, 2] = -1.0
    gate = gate_of(logarithms(), x, {"kind": "random_logit"}, explain={"method": "gradient", "target": "0"})
    with pytest.raises(InputError, match="score"):
        list(gate.explanations_of())
    lost: dict[int, str] = {}
    found = [
        at for batch, e in gate.explanations_of(unexplained=lost) for at in batch.at if len(e.target) == len(batch.at)
    ]
    assert found == [at for at in range(12) if at != 5] and list(lost) == [5]
    with pytest.raises(InputError):
        list(gate.explanations_of())


def test_inputs_whose_changed_copies_have_no_score_are_left_out() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["sum"], name="sum"),
        helper.make_node("Log", ["sum"], ["scores"], name="logarithm"),
    ]
    w = np.array([[1, 1, 1, 1, 1, -4]], np.float32).T
    shapes = {"x": (TensorProto.FLOAT, ["n", 6])}
    model = load(assemble(nodes, shapes, {"scores": (TensorProto.FLOAT, ["n", 1])}, {"w": w}))
    x = np.ones((12, 6), np.float32)
    x[:, 5] = 0.1
    x[4, 5] = 0.9  # half of the others gone, 2.9 - 3.6 has no logarithm
    check = {"kind": "pixel_flipping", "steps": 2, "baseline": [0.3], "versus": ["random"], "min_margin": -9.0}
    explain = {"method": "gradient", "target": "0"}
    status, message, outcome = judged(model, x, check, explain=explain)
    assert status == "pass", message
    assert outcome.left_out == {"a score of a changed copy isn't finite": 1}
    assert list(np.flatnonzero(np.isnan(outcome.values["margin over random"]))) == [4]
    x[:, 5] = 0.9
    status, message, _ = judged(model, x, check, explain=explain)
    assert status == "inconclusive" and "12 left out: a score of a changed copy" in message
