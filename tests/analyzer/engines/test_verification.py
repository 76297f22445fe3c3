"""How a trace is verified along with an explanation: by the pass that is explained, and one run of the model's session."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

import analyzer
from analyzer.compiler.subject import Subject
from analyzer.engines import torch_engine
from analyzer.engines.remaining import frontier
from analyzer.engines.tracer import Tracer
from analyzer.executor.session import Session
from tests.analyzer.importer.test_parity import break_operator
from tests.common.models import assemble, cnn

X = np.random.default_rng(3).standard_normal((2, 3, 8, 8)).astype(np.float32)
FROM_THE_PASS: dict[str, dict[str, Any]] = {
    "gradient": {}, "lrp": {}, "grad-cam": {}, "guided-backprop": {}, "deeplift": {},
}  # fmt: skip
ON_ITS_OWN: dict[str, dict[str, Any]] = {
    "integrated-gradients": {"steps": 5}, "smoothgrad": {"samples": 4}, "gradient-shap": {"samples": 4},
}  # fmt: skip


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """``session`` for each run of a session, ``trace`` for each run of a trace for its own sake."""
    seen: list[str] = []
    in_session, of_trace = Session.run, Tracer.run

    def session(self: Session, *args: Any, **kwargs: Any) -> Any:
        seen.append("session")
        return in_session(self, *args, **kwargs)

    def trace(self: Tracer, feed: Any) -> Any:
        seen.append("trace")
        return of_trace(self, feed)

    monkeypatch.setattr(Session, "run", session)
    monkeypatch.setattr(Tracer, "run", trace)
    return seen


@pytest.mark.parametrize("end", ["", "Softmax"])
@pytest.mark.parametrize("method", [*FROM_THE_PASS, *ON_ITS_OWN])
def test_one_run_of_the_session_and_none_of_the_trace_that_a_pass_spares(
    runs: list[str], method: str, end: str
) -> None:
    model = analyzer.load(cnn(end=end), "cpu", threads=1)
    params = {**FROM_THE_PASS, **ON_ITS_OWN}[method]
    model.explain(
        X - 1, method, target=1, backend="torch", **params
    )  # finds out, once, whether rows depend on each other
    for x in (X, X + 1):  # another input is verified again
        runs.clear()
        done = model.explain(x, method, target=1, backend="torch", **params)
        assert runs == (["session"] if method in FROM_THE_PASS else ["session", "trace"])
        assert done.record["parity"]["ok"]
        assert done.record["parity"]["outputs"].keys() == {"scores"}


def test_several_targets_are_verified_once(runs: list[str]) -> None:
    model = analyzer.load(cnn(), "cpu", threads=1)
    model.coupling({"x": X}, len(X))
    runs.clear()
    done = model.explain_targets(X, [0, 1, 2], "gradient", backend="torch")
    assert runs == ["session"]
    assert all(each.record["parity"]["ok"] for each in done)


def heads(kind: str) -> onnx.ModelProto:
    """Scores, and a second output that doesn't follow from them: from the same values, or from the input alone."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="relu"), helper.make_node("MatMul", ["a", "w"], ["scores"]),
        helper.make_node("Neg", ["a" if kind == "shared" else "x"], ["side"], name="culprit"),
    ]  # fmt: skip
    shape = (TensorProto.FLOAT, ["n", 3])
    weight = np.random.default_rng(0).standard_normal((3, 3)).astype(np.float32)
    return assemble(nodes, {"x": shape}, {"scores": shape, "side": shape}, {"w": weight})


@pytest.mark.parametrize("kind", ["shared", "apart"])
@pytest.mark.parametrize("method", ["gradient", "integrated-gradients"])
def test_outputs_that_are_not_explained_are_compared(
    kind: str, method: str, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.abs(np.random.default_rng(1).standard_normal((2, 3))).astype(np.float32)
    model = analyzer.load(heads(kind), "cpu")
    model.coupling({"x": x}, len(x))
    runs.clear()
    done = model.explain(x, method, target=1, backend="torch")
    assert done.record["parity"]["outputs"].keys() == {"scores", "side"}
    if method == "gradient":
        assert runs == ["session"]
    break_operator(monkeypatch, "Neg", lambda node, x: x)
    with pytest.raises(analyzer.ParityError, match="culprit"):
        analyzer.load(heads(kind), "cpu").explain(x, method, target=1, backend="torch")


def test_only_what_leads_to_the_outputs_is_kept_of_a_pass() -> None:
    """The values where the rest branches off, not all that the pass computes."""
    x = np.ones((1, 3), np.float32)
    model = analyzer.load(heads("shared"), "cpu")
    traced = model.backends.torch(Subject({"x": x}, "scores", np.ones((1, 3)))).traced
    kept = frontier(traced.trace, traced.output)
    assert kept is not None
    assert {node.meta["onnx"] for node in kept} == {"relu", traced.output.meta["onnx"]}


def test_float64_is_verified_in_the_models_own_precision(runs: list[str]) -> None:
    model = analyzer.load(cnn(), "cpu")
    model.coupling({"x": X}, len(X))
    runs.clear()
    done = model.explain(X, "gradient", target=1, precision="float64", backend="torch")
    assert runs == ["session", "trace"]
    assert done.record["parity"]["ok"]


def test_values_of_inputs_are_not_copied() -> None:
    model = analyzer.load(cnn(), "cpu")
    engine = model.backends.torch(Subject({"x": X}, "scores", np.ones((2, 3))))
    assert engine.gradient().values["x"] is X
    other = X + 1
    assert engine.gradient({"x": other}).values["x"] is other
    wide = other.astype(np.float64)
    assert engine.gradient({"x": wide}).values["x"].dtype == np.float32


def test_memory_that_runs_out_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 392.00 MiB.\nSee documentation")

    monkeypatch.setattr(torch_engine.sweep, "forward", full)
    with pytest.raises(analyzer.AnalyzerError, match="ran out of memory on cpu") as caught:
        analyzer.load(cnn(), "cpu").explain(X, "gradient", target=1)
    assert caught.value.code == "limit.memory"
    assert "\n" not in str(caught.value)
