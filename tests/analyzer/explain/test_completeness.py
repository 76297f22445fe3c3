"""A promised sum that is missed is said to be, in one line with where it went; a sum that is kept, and no promise, never."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import analyzer
from analyzer.explanation import Completeness
from tests.common.checks import QUICK, load, registered, suits
from tests.common.models import assemble, cases, cnn

X = np.array([[1.0, 2.0, -1.0]], np.float32)
#: X @ W is 0.4 for class 0 and 4 for class 1.
W = np.array([[1.0, 1.0], [0.2, 1.0], [1.0, -1.0]], np.float32)


def linear(bias: float = 0.0, batch: Any = "n") -> analyzer.Model:
    """A linear layer."""
    node = helper.make_node("Gemm", ["x", "w", "b"], ["scores"], name="layer")
    shapes = {"x": (TensorProto.FLOAT, [batch, 3])}
    weights = {"w": W, "b": np.full(2, bias, np.float32)}
    return load(assemble([node], shapes, {"scores": (TensorProto.FLOAT, [batch, 2])}, weights))


def kinked() -> analyzer.Model:
    """10 max(0, sum of x - 1.9): flat on nearly all of the way from zero."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Sub", ["z", "c"], ["d"]),
        helper.make_node("Relu", ["d"], ["a"]),
        helper.make_node("Mul", ["a", "ten"], ["scores"]),
    ]
    weights = {"w": np.ones((3, 1), np.float32), "c": np.array(1.9, np.float32), "ten": np.array(10, np.float32)}
    shapes = {"x": (TensorProto.FLOAT, ["n", 3])}
    return load(assemble(nodes, shapes, {"scores": (TensorProto.FLOAT, ["n", 1])}, weights))


def sums(found: analyzer.Explanation) -> list[str]:
    """The notes about sums."""
    assert "shortfall" not in found.record
    return [note for note in found.record["notes"] if "sums to" in note]


def lrp(model: analyzer.Model, x: Any = X, **options: Any) -> list[str]:
    return sums(model.explain(x, "lrp", **{"target": 0, "backend": "torch", "composite": "epsilon", **options}))


def test_what_went_into_biases_is_said() -> None:
    """y = 0.2 + 9.8: of a unit's relevance its bias takes 98 %."""
    model = linear(9.8)
    note = "the map sums to 0.2 of 10: 98% went into biases; try zero_bias=true"
    x = np.array([[0.2, 0.0, 0.0]], np.float32)
    assert lrp(model, x) == [note]
    assert lrp(model, x, zero_bias=True) == []
    assert lrp(linear(0.005), x) == []  # no more than the tolerance


def test_a_negative_bias_gives_figures_in_place_of_shares() -> None:
    x = np.array([[3.0, 0.0, 0.0]], np.float32)
    assert lrp(linear(-2.0), x) == ["the map sums to 3 of 1: -2 went into biases; try zero_bias=true"]


def test_what_went_into_stabilisers_is_said() -> None:
    """S(1) = 1 + 3: of a unit's relevance its stabiliser takes three quarters."""
    x = np.array([[1.0, 0.0, 0.0]], np.float32)
    said = "the map sums to 0.25 of 1: 75% went into stabilisers and units with nothing to share; try a smaller epsilon"
    assert lrp(linear(), x, epsilon=3.0) == [said]


def test_a_bias_and_a_stabiliser_are_told_apart() -> None:
    """S(2 + 2) = 4 + 4: the input's share is 2 / 8, the bias's 2 / 8, the stabiliser's 4 / 8."""
    x = np.array([[2.0, 0.0, 0.0]], np.float32)
    (note,) = lrp(linear(2.0), x, epsilon=4.0)
    assert note.startswith("the map sums to 1 of 4: 50% went into stabilisers")
    assert "25% went into biases" in note


def test_an_operator_whose_rule_keeps_relevance_is_named() -> None:
    (note,) = lrp(linear(), rules={"layer": "block"})
    assert note.startswith("the map sums to 0 of 0.4: 100% stayed at 'layer'")


def test_the_figures_are_those_of_the_totals_by_node() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    model = load(cnn(bias=True))
    for composite in ("epsilon-plus", "epsilon", "gamma", "alpha-beta", "attn-lrp", "w2"):
        engine = _engine(model, x)
        from analyzer.methods.relevance.lrp import table_of

        absorbed = engine.sweep(table_of(model, composite, None), "logit").absorbed
        found = model.explain(x, "lrp", composite=composite, target=1)
        leaks = {name: totals.leak for name, totals in found.nodes.items()}
        ours = dict.fromkeys(leaks, 0.0)
        for kept in (absorbed.bias, absorbed.stabiliser, absorbed.operator):
            for name, amount in kept.items():
                ours[name] += amount
        largest = float(np.abs(found.attribution).sum())
        for name, leak in leaks.items():
            assert ours[name] == pytest.approx(leak, abs=1e-5 * largest), (composite, name)
        total = found.completeness
        assert sum(ours.values()) == pytest.approx(-total.delta.sum(), abs=1e-5 * largest)


def _engine(model: analyzer.Model, x: np.ndarray) -> Any:
    from analyzer.compiler.subject import Subject

    weights = np.zeros((len(x), 3), np.float32)
    weights[:, 1] = 1
    return model.backends.torch(Subject({next(iter(model.inputs)): x}, next(iter(model.outputs)), weights))


def test_a_compiled_sweep_says_the_same() -> None:
    """It computes the figures too, so that no torch is needed for them."""
    x = np.array([[0.2, 0.0, 0.0], [3.0, 1.0, 0.0]], np.float32)
    for options in ({}, {"composite": "gamma"}, {"epsilon": 4.0}, {"zero_bias": True}, {"rules": {"layer": "block"}}):
        assert lrp(linear(9.8), x, backend="onnxruntime", **options) == lrp(linear(9.8), x, **options)


@pytest.mark.parametrize(
    ("method", "few", "many"),
    [("integrated-gradients", {"steps": 3}, {"steps": 400}), ("gradient-shap", {"samples": 2}, {"samples": 6000})],
)
def test_methods_that_sample_a_path_say_to_sample_more(method: str, few: Any, many: Any) -> None:
    x = np.full((1, 3), 2 / 3, np.float32)
    model = kinked()
    (note,) = sums(model.explain(x, method, target=0, **few))
    assert note == f"the map sums to 0 of 1: raise {next(iter(few))}"
    assert sums(kinked().explain(np.ones((1, 3), np.float32), method, target=0, **many)) == []


def test_several_samples_are_one_line_that_names_the_worst() -> None:
    x = np.array([[8.0, 0, 0], [0.2, 0, 0], [4.0, 0, 0]], np.float32)
    (note,) = lrp(linear(1.0), x)
    assert note.startswith("3 of 3 maps miss their sum, at worst that of sample 1, which sums to 0.2 of 1.2:")
    (fixed,) = lrp(linear(1.0, batch=1), x)
    assert fixed.split(": ")[0] == note.split(": ")[0]
    (one,) = lrp(linear(1.0), x * [[20], [1], [20]])
    assert one.startswith("the map of sample 1 sums to 0.2 of 1.2: ")


def test_several_targets_each_say_their_own() -> None:
    """Both classes sum to 0.2 of themselves and their bias."""
    found = linear(1.0).explain_targets(np.array([[0.2, 0, 0]], np.float32), [0, 1], "lrp")
    assert [len(sums(each)) for each in found] == [1, 1]


def test_a_difference_of_next_to_nothing_is_rounding() -> None:
    from dataclasses import replace

    from analyzer.explain.completeness import missed

    found = linear().explain(X, "integrated-gradients", target=1)
    scores = np.array([1e4])
    close = replace(found, score=scores, completeness=Completeness(np.array([2e-2]), np.array([1e-2])))
    assert not missed(close).any()
    assert missed(replace(close, completeness=Completeness(np.array([3.0]), np.array([1e-2])))).all()


PROMISING_NOTHING = [name for name, info in registered().items() if not info.complete]


@pytest.mark.parametrize("method", PROMISING_NOTHING)
def test_methods_that_promise_nothing_say_nothing(method: str) -> None:
    case = next(case for case in cases() if suits(method, case))
    assert sums(load(case.proto).explain(case.feed, method, target=1, **QUICK.get(method, {}))) == []
