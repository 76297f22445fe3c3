"""Nodes without a rule are named, and methods may stand in for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analyzer.errors import UsageError
from analyzer.gate.outcome import CheckResult
from tests.analyzer.gate.linear import SIDE, given, linear
from tests.analyzer.gate.scenes import judged, policy, scenes, write

CHECK = {"kind": "op_coverage"}


def _checked(tmp_path: Path, activation: str, method: str = "lrp", **more: Any) -> CheckResult:
    rng = np.random.default_rng(0)
    model = linear(tmp_path / "model.onnx", rng.normal(0, 1, (SIDE * SIDE, 2)), activation, determinant=not activation)
    np.savez(tmp_path / "data.npz", image=rng.normal(0, 1, (3, 1, SIDE, SIDE)).astype(np.float32))
    return judged(given(model, tmp_path / "data.npz", {**CHECK, **more}) | {"explain": {"method": method}})


def test_a_model_of_everyday_nodes_is_covered(tmp_path: Path) -> None:
    images, _, labels = scenes(12)
    found = judged(policy("shapes_cnn", write(tmp_path, images, labels), CHECK))
    assert found.status == "pass"
    assert found.outcome.details["share"] == 1


def test_a_node_without_a_rule_is_named(tmp_path: Path) -> None:
    found = _checked(tmp_path, "")
    assert found.status == "fail"
    assert found.outcome.details == {"nodes": 4, "share": 0.75, "lacking": {"det": "Det"}, "reasons": {}}
    assert "3 of 4 nodes are explained by lrp" in found.message
    assert "Det node 'det'" in found.message
    assert _checked(tmp_path, "", min_supported=0.6).status == "pass"


@pytest.mark.parametrize("stand_in", ["gradient", "occlusion"])
def test_a_method_may_stand_in(tmp_path: Path, stand_in: str) -> None:
    assert _checked(tmp_path, "", allow_fallback=[stand_in]).status == "pass"
    assert _checked(tmp_path, "", method="occlusion").status == "pass"


def test_a_node_that_cant_be_traced_is_only_explained_by_running_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from analyzer.importer import onnx2torch_fallback, table

    lookup = table.lookup
    monkeypatch.setattr(
        table, "lookup", lambda domain, op, version: None if op == "Erf" else lookup(domain, op, version)
    )
    monkeypatch.setattr(onnx2torch_fallback, "has", lambda node: False)
    found = _checked(tmp_path, "Erf", allow_fallback=["gradient"])
    assert found.status == "fail"
    assert found.outcome.details["lacking"] == {"erf": "Erf"}
    assert "Erf node 'erf'" in found.outcome.details["reasons"]["lrp"]
    assert _checked(tmp_path, "Erf", allow_fallback=["gradient", "occlusion"]).status == "pass"


def test_an_unknown_method_is_told_by_check_and_key(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="check 'op_coverage': allow_fallback: unknown method 'gradeint'"):
        _checked(tmp_path, "Relu", allow_fallback=["gradeint"])
