"""NaN and infinities are refused with where they come from; never a map of NaN."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import analyzer
from analyzer.errors import AnalyzerError
from analyzer.explain.finiteness import all_finite
from tests.common.checks import QUICK, each_method, load, registered, suits
from tests.common.models import assemble, cases

CASES = {case.name: case for case in cases()}


def model(*nodes: Any, weights: dict[str, Any] | None = None) -> analyzer.Model:
    """A model of nodes from (n, 4) to (n, 2) whose last node gives ``scores``."""
    w = np.arange(8, dtype=np.float32).reshape(4, 2) / 8
    shapes = {"x": (TensorProto.FLOAT, ["n", 4])}
    return load(assemble(list(nodes), shapes, {"scores": (TensorProto.FLOAT, ["n", 2])}, {"w": w, **(weights or {})}))


def normalised() -> analyzer.Model:
    """x / |x|, then a linear layer: there is no value at zero."""
    return model(
        helper.make_node("ReduceL2", ["x"], ["length"], name="length", axes=[1], keepdims=1),
        helper.make_node("Div", ["x", "length"], ["unit"], name="divide"),
        helper.make_node("MatMul", ["unit", "w"], ["scores"], name="linear"),
    )


X = np.array([[1.0, -2.0, 3.0, 0.5]], np.float32)


def code_of(function: Any) -> tuple[str, str]:
    with pytest.raises(AnalyzerError) as caught:
        function()
    assert "\n" not in str(caught.value)
    return caught.value.code, caught.value.message


def test_a_score_that_is_no_number_names_the_first_node() -> None:
    zero = np.zeros((1, 4), np.float32)
    for method in ("gradient", "occlusion"):
        code, message = code_of(lambda method=method: normalised().explain(zero, method, 0))
        assert code == "score.nonfinite"
        assert "Div node 'divide'" in message


@pytest.mark.parametrize("method", ["integrated-gradients", "deeplift", "gradient-shap"])
def test_a_baseline_without_a_value_is_refused(method: str) -> None:
    options = dict(QUICK.get(method, {}))
    assert code_of(lambda: normalised().explain(X, method, 0, **options))[0] == "result.nonfinite"
    name = "baselines" if method == "gradient-shap" else "baseline"
    found = normalised().explain(X, method, 0, **options, **{name: 0.5})
    assert np.isfinite(found.attribution).all()


@pytest.mark.parametrize("method", ["feature-ablation", "lime", "kernel-shap", "rise", "occlusion"])
def test_a_copy_without_a_score_is_refused(method: str) -> None:
    """Where everything is replaced, or the one element that counts, nothing is left to be normalised."""
    one = np.array([[2.0, 0.0, 0.0, 0.0]], np.float32)
    options = {**QUICK.get(method, {}), **({"fill": 0.0} if method == "lime" else {})}
    code, message = code_of(lambda: normalised().explain(one, method, 0, **options))
    assert code == "score.nonfinite"
    assert "changed copy" in message
    assert "Div node 'divide' is the first whose value isn't finite" in message


def test_a_mask_that_is_learned_meets_no_score_either() -> None:
    """Warnings of numpy would be errors here."""
    logarithm = model(
        helper.make_node("Log", ["x"], ["logs"], name="log"),
        helper.make_node("MatMul", ["logs", "w"], ["scores"], name="linear"),
    )
    code, message = code_of(lambda: logarithm.explain(np.abs(X), "meaningful-perturbation", 0, fill=0.0, steps=3))
    assert code == "score.nonfinite"
    assert "changed copy" in message


def test_infinite_scores_are_refused_too() -> None:
    exploding = model(
        helper.make_node("Exp", ["x"], ["e"], name="exp"),
        helper.make_node("MatMul", ["e", "w"], ["scores"], name="linear"),
    )
    code, message = code_of(lambda: exploding.explain(np.full((1, 4), 100, np.float32), "gradient", 1))
    assert (code, "Exp node 'exp'" in message) == ("score.nonfinite", True)


NAN, INF = float("nan"), float("inf")
#: Everything that a number may be given as.
FORMS: dict[str, Any] = {
    "nan": NAN, "inf": INF, "-inf": -INF, "text": "nan", "long text": "-Infinity", "too large a text": "1e400",
    "scalar": np.float32(NAN), "array": np.array([NAN, 1]), "half": np.array([INF], np.float16),
    "objects": np.array([NAN], object), "list": [1.0, NAN], "nested": [[NAN]], "tuple": (INF,), "list of texts": ["nan"],
    "beyond single precision": 1e39, "far beyond": -1e300,
}  # fmt: skip


@each_method
def test_parameters_are_finite(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the form, refused in a line that names the parameter, before the model is run."""
    case = next(case for case in CASES.values() if suits(method, case))
    loaded = load(case.proto)
    monkeypatch.setattr(type(loaded), "values", lambda *_: pytest.fail("the model was run"))
    for name, parameter in registered()[method].parameters.items():
        if not (isinstance(parameter.default, float) or parameter.annotation is Any or "float" in parameter.type_name):
            continue
        for form, value in FORMS.items():
            code, message = code_of(
                lambda name=name, value=value: loaded.explain(case.feed, method, 1, **{name: value})
            )
            assert code in ("params.nonfinite", "params.invalid"), (name, form)
            assert name in message, (name, form)


@pytest.mark.parametrize("rule", ["gamma:nan", "epsilon:inf", "z-box:-inf,1", "zplus:epsilon=nan", "gamma:1e400"])
def test_numbers_in_rules_are_finite(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = normalised()
    monkeypatch.setattr(type(loaded), "values", lambda *_: pytest.fail("the model was run"))
    code, message = code_of(lambda: loaded.explain(X, "lrp", 0, rules={"MatMul": rule}))
    assert code == "params.nonfinite"
    assert "rules" in message


@pytest.mark.parametrize("seed", [NAN, INF, -1, 1.5, "1", True])
def test_a_seed_is_a_whole_number(seed: Any) -> None:
    assert code_of(lambda: normalised().explain(X, "lime", 0, seed=seed))[0] == "seed.invalid"


@pytest.mark.parametrize(
    ("method", "options", "code"),
    [
        ("smoothgrad", {"noise": 1e38}, "params.nonfinite"),
        ("gradient-shap", {"noise": 1e38, "baselines": 1.0}, "params.nonfinite"),
        ("lime", {"kernel_width": 1e-300, "fill": 0.5}, "params.invalid"),
        ("kernel-shap", {"baseline": {"a": 1}}, "params.invalid"),
        ("kernel-shap", {"baseline": 1j}, "params.invalid"),
        ("deeplift", {"baseline": {"a": 1}}, "params.invalid"),
        ("integrated-gradients", {"baseline": 1j}, "params.invalid"),
        ("gradient-shap", {"baselines": {"a": 1}}, "params.invalid"),
    ],
)
def test_numbers_that_make_infinite_ones_are_refused_as_well(method: str, options: Any, code: str) -> None:
    assert code_of(lambda: normalised().explain(X, method, 0, **options))[0] == code


def test_a_compiled_explanation_has_finite_parameters_too() -> None:
    code, message = code_of(lambda: analyzer.compile(normalised(), "lrp", 0, composite="gamma", gamma=INF))
    assert code == "params.nonfinite"
    assert "gamma" in message


def test_deeplift_from_where_a_normalisation_degenerates_is_refused() -> None:
    """x / sqrt(mean x^2 + 1e-12): next to zero the difference is divided by next to nothing."""
    rms = model(
        helper.make_node("Mul", ["x", "x"], ["squares"], name="square"),
        helper.make_node("ReduceMean", ["squares"], ["mean"], name="mean", axes=[1], keepdims=1),
        helper.make_node("Add", ["mean", "tiny"], ["more"], name="add"),
        helper.make_node("Sqrt", ["more"], ["root"], name="root"),
        helper.make_node("Reciprocal", ["root"], ["scale"], name="reciprocal"),
        helper.make_node("Mul", ["x", "scale"], ["unit"], name="scaled"),
        helper.make_node("MatMul", ["unit", "w"], ["scores"], name="linear"),
        weights={"tiny": np.array(1e-12, np.float32)},
    )
    try:
        found = rms.explain(X, "deeplift", 0)
    except AnalyzerError as problem:
        assert problem.code in ("baseline.degenerate", "result.nonfinite")
    else:
        assert found.completeness is not None
        off = np.abs(found.completeness.delta / found.completeness.expected).max()
        assert off < 10
        assert off < 1e-3 or any("sums to" in note for note in found.record["notes"])
        assert not any("pooling" in note for note in found.record["notes"])


def test_sums_beyond_all_bounds_are_refused() -> None:
    from analyzer.explanation import Completeness
    from analyzer.methods.relevance.deeplift import _require_sensible

    _require_sensible(Completeness(np.array([1.0, 9.0]), np.array([1.0, 1.0])), np.array([1.0, 1.0]))
    with pytest.raises(AnalyzerError) as caught:
        _require_sensible(Completeness(np.array([1.0, -3e5]), np.array([1.0, 0.25])), np.array([1.0, 0.25]))
    assert caught.value.code == "baseline.degenerate"
    assert "sample 1" in caught.value.message


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_finite_numbers_whose_sum_is_not_are_finite(dtype: type) -> None:
    large = np.full(5, np.finfo(dtype).max)
    assert all_finite(large)
    assert all_finite(np.zeros(0, dtype))
    assert all_finite(np.stack([large, -large]))
    for wrong in (np.nan, np.inf, -np.inf):
        for values in ([wrong], [0, wrong], [np.inf, -np.inf], [*large, wrong]):
            assert not all_finite(np.array(values, dtype))
