"""Inputs found by activation maximization: optima that are known, scores that onnxruntime gives, ranges that hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import analyzer
from analyzer.errors import AnalyzerError, UnsupportedError, UsageError
from analyzer.visualization import search
from tests.analyzer.visualization.models import model

MODELS = Path(__file__).parents[3] / "models"
WEIGHTS = np.random.default_rng(3).standard_normal((4, 3)).astype(np.float32)
LINEAR = """
<ir_version: 8, opset_import: ["": 17]>
net (float[n, 4] x) => (float[n, 3] y) {
    [inner] y = MatMul (x, weights)
}"""
SOFT = LINEAR.replace("y = MatMul (x, weights)", "z = MatMul (x, weights)\n    y = Softmax <axis = 1> (z)")
SERIES = """
<ir_version: 8, opset_import: ["": 17]>
net (float[n, 12, 2] x) => (float[n, 2] y) {
    [turned] t = Transpose <perm = [0, 2, 1]> (x)
    [conv] c = Conv <kernel_shape = [3]> (t, kernel)
    [relu] r = Relu (c)
    [pool] p = ReduceMean <axes = [2], keepdims = 0> (r)
    [flat] y = Identity (p)
}"""
#: All units are below zero in the middle of the range: nothing there tells the way.
SILENT = """
<ir_version: 8, opset_import: ["": 17]>
net (float[n, 1, 4, 4] x) => (float[n, 2] y) {
    [flat] f = Flatten (x)
    [dense] d = MatMul (f, weights)
    [below] b = Sub (d, most)
    [relu] r = Relu (b)
    [last] y = MatMul (r, last)
}"""
FIXED = SERIES.replace("float[n, 12, 2]", "float[2, 12, 2]").replace("float[n, 2]", "float[2, 2]")
TWO_INPUTS = """
<ir_version: 8, opset_import: ["": 17]>
net (float[n, 4] x, float[n, 4] other) => (float[n, 3] y) {
    [both] sum = Mul (x, other)
    [inner] y = MatMul (sum, weights)
}"""
TOKENS = """
<ir_version: 8, opset_import: ["": 17]>
net (int64[n, 5] ids) => (float[n, 2] y) {
    [look] e = Gather (table, ids)
    [mean] y = ReduceMean <axes = [1], keepdims = 0> (e)
}"""


def linear(text: str = LINEAR) -> analyzer.Model:
    return analyzer.load(model(text, weights=WEIGHTS))


def series(text: str = SERIES) -> analyzer.Model:
    return analyzer.load(model(text, kernel=np.random.default_rng(1).standard_normal((2, 2, 3)).astype(np.float32)))


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_linear_score_less_squares_has_its_known_optimum(optimizer: Any) -> None:
    found = linear().maximize(1, score="logit", l2=0.5, steps=400, rate=0.05, optimizer=optimizer)
    np.testing.assert_allclose(found.x[0], WEIGHTS[:, 1], atol=0.02)  # w x - x²/2 is largest at w
    assert found.scores[0] == pytest.approx(float(found.x[0] @ WEIGHTS[:, 1]), rel=1e-4)
    assert found.kind == "logit"


def test_within_bounds_a_linear_score_is_largest_in_a_corner() -> None:
    found = linear().maximize("y[:,2]", bounds=(-2, 3), steps=200)
    np.testing.assert_allclose(found.x[0], np.where(WEIGHTS[:, 2] > 0, 3, -2), atol=1e-3)
    capped = linear().maximize("y[:,2]", linf=0.5, steps=200)
    np.testing.assert_allclose(np.abs(capped.x[0]), 0.5, atol=1e-3)


def test_log_probability_is_that_of_the_models_own_softmax() -> None:
    loaded = linear(SOFT)
    found = loaded.maximize(0, l2=0.1, steps=60)
    session = onnxruntime.InferenceSession(loaded.proto.SerializeToString())
    chance = session.run(["y"], {"x": found.x})[0][0, 0]
    assert found.scores[0] == pytest.approx(float(np.log(chance)), rel=1e-4)
    assert found.probabilities is not None
    assert found.probabilities[0] == pytest.approx(float(chance), rel=1e-4)
    assert not any("softmax" in note for note in found.notes)


def test_a_direction_is_the_sum_of_its_units() -> None:
    first = series().maximize(layer="conv", direction=np.array([1.0, -1.0]), bounds=(-1, 1), steps=30)
    kernel = onnx.numpy_helper.to_array(series().proto.graph.initializer[0])
    windows = np.stack([first.x[0, at : at + 3] for at in range(10)])  # (places, 3, channels)
    expected = np.einsum("pkc,ock->po", windows, kernel) @ [1, -1]
    assert first.scores[0] == pytest.approx(float(expected.mean()), rel=1e-3)
    assert first.scores[0] > first.starts[0]


@pytest.mark.parametrize(
    ("aim", "expected"),
    [
        ({"channel": 1}, lambda value: value[0, 1].mean()),
        ({"unit": (1, 4)}, lambda value: value[0, 1, 4]),
        ({}, lambda value: np.square(value[0]).mean()),
    ],
)
@pytest.mark.parametrize("text", [SERIES, FIXED], ids=["free", "batch of two"])
def test_inner_scores_are_those_of_the_activations(aim: dict[str, Any], expected: Any, text: str) -> None:
    loaded = series(text)
    found = loaded.maximize(layer="conv", bounds=(-1, 1), steps=40, results=3, restarts=2, **aim)
    assert found.x.shape == (3, 12, 2)
    assert (found.scores >= found.starts).all()
    rows = np.repeat(found.x[:1], 2, 0)
    assert found.scores[0] == pytest.approx(float(expected(loaded.activations(rows, "conv")["c"])), rel=1e-4)
    assert np.abs(found.x).max() <= 1


@pytest.mark.parametrize("params", [{"parametrisation": "fourier"}, {"blur": 1.0}, {"jitter": 1, "tv": 1e-3}])
def test_every_parametrisation_reaches_a_class(params: dict[str, Any]) -> None:
    found = analyzer.load(MODELS / "digits_cnn.onnx").maximize(3, steps=150, **params)
    assert found.probabilities is not None
    assert found.probabilities[0] >= 0.9
    assert found.x.min() >= 0
    assert found.x.max() <= 1


def test_regularised_inputs_are_smoother_and_nearer_to_real_digits() -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    loaded = analyzer.load(MODELS / "digits_cnn.onnx")
    real = digits.images[digits.target == 0][:40, None].astype(np.float32) / 16
    theirs = loaded.activations(real, "layers.1")
    mean = next(iter(theirs.values())).mean(axis=(0, 2, 3))
    apart = []
    for params in ({"score": "logit"}, {"blur": 0.6, "l2": 0.003}):
        found = loaded.maximize(0, steps=120, results=2, **params)  # type: ignore[arg-type]
        ours = next(iter(loaded.activations(found.x, "layers.1").values())).mean(axis=(0, 2, 3))
        apart.append(np.linalg.norm(ours - mean))
    assert apart[1] < apart[0]


def test_noise_at_which_a_network_is_silent_is_replaced() -> None:
    weights = np.eye(16, dtype=np.float32)
    proto = model(SILENT, weights=weights, most=np.array(0.9, np.float32), last=np.ones((16, 2), np.float32))
    found = analyzer.load(proto).maximize(0, score="logit", steps=60)
    assert found.scores[0] > 0.5
    assert found.x.max() <= 1


def test_several_results_differ_more_where_that_counts() -> None:
    loaded = analyzer.load(MODELS / "digits_cnn.onnx")

    def likeness(diversity: float) -> float:
        x = loaded.maximize(0, steps=80, results=3, diversity=diversity).x.reshape(3, -1)
        return float(np.corrcoef(x)[np.triu_indices(3, 1)].mean())

    assert likeness(20.0) < likeness(0.0)


def test_data_give_the_mean_and_the_best_to_start_from(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((9, 4)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", x=x)
    loaded = linear()
    mean = loaded.maximize(1, score="logit", start="mean", data=tmp_path / "rows.npz", steps=1, rate=1e-6)
    np.testing.assert_allclose(mean.x[0], x.mean(0), atol=1e-4)
    best = loaded.maximize(1, score="logit", start="best", data=tmp_path / "rows.npz", steps=1, rate=1e-6)
    np.testing.assert_allclose(best.x[0], x[(x @ WEIGHTS[:, 1]).argmax()], atol=1e-4)
    given = loaded.maximize(1, score="logit", start=x[3:4], steps=1, rate=1e-6)
    np.testing.assert_allclose(given.x[0], x[3], atol=1e-4)


def test_other_inputs_stay_as_they_are() -> None:
    other = np.array([[1, 0, 2, 0]], np.float32)
    loaded = linear(TWO_INPUTS)
    x = np.zeros((1, 4), np.float32)
    found = loaded.maximize(1, score="logit", start={"x": x, "other": other}, bounds=(-1, 1), steps=100)
    np.testing.assert_allclose(found.x[0, [0, 2]], np.sign(WEIGHTS[[0, 2], 1]), atol=1e-3)
    assert found.scores[0] == pytest.approx(float((found.x[0] * other[0]) @ WEIGHTS[:, 1]), rel=1e-4)
    with pytest.raises(AnalyzerError, match="missing"):
        loaded.maximize(1)


def test_codes_of_a_generator_make_digits_that_the_classifier_agrees_with() -> None:
    loaded = analyzer.load(MODELS / "digits_cnn.onnx")
    for digit in (1, 5):
        found = loaded.maximize(digit, generator=MODELS / "digits_generator.onnx", l2=0.005, steps=30)
        assert found.codes is not None
        made = analyzer.load(MODELS / "digits_generator.onnx").predict(found.codes)["image"]
        np.testing.assert_allclose(made, found.x, atol=1e-4)
        assert loaded.predict(found.x)["logits"].argmax() == digit
    with pytest.raises(UsageError) as problem:
        linear().maximize(1, generator=MODELS / "digits_generator.onnx")
    assert problem.value.code == "generator.size"


def test_an_interrupt_keeps_the_best_so_far() -> None:
    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    found = linear().maximize(1, score="logit", bounds=(-1, 1), steps=100, progress=stop)
    assert len(found.history) == 6
    assert found.scores[0] > found.starts[0]
    assert any("interrupted after 5 of 100" in note for note in found.notes)


def test_the_same_seed_finds_the_same_and_search_ends_where_nothing_is_gained() -> None:
    runs = [linear().maximize(1, bounds=(-1, 1), seed=4, jitter=0, steps=400, patience=10) for _ in range(2)]
    np.testing.assert_array_equal(runs[0].x, runs[1].x)
    assert len(runs[0].history) < 400
    assert runs[0].to_dict()["steps_taken"] == len(runs[0].history) - 1


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({}, "maximize.no_target"),
        ({"target": 9}, "target.out_of_range"),
        ({"target": 1, "steps": 0}, "params.invalid"),
        ({"target": 1, "blurr": 1}, "params.unknown"),
        ({"target": 1, "start": "best"}, "maximize.no_data"),
        ({"target": 1, "channel": 1}, "unit.unclear"),
        ({"layer": "inner", "channel": 7}, "unit.out_of_range"),
        ({"layer": "inner", "direction": np.ones(5)}, "unit.direction"),
        ({"layer": "innner"}, "layer.unknown"),
        ({"target": 1, "parametrisation": "fourier"}, "params.invalid"),
        ({"target": 1, "bounds": (1, 0)}, "params.invalid"),
        ({"target": 1, "optimizer": "lbfgs"}, "params.invalid"),
        ({"target": 1, "input": "z"}, "data.unknown_input"),
    ],
)
def test_wrong_use_is_one_line_with_its_code(given: dict[str, Any], code: str) -> None:
    with pytest.raises(AnalyzerError) as problem:
        linear().maximize(**given)
    assert problem.value.code == code


def test_tokens_are_refused() -> None:
    proto = model(TOKENS, table=np.ones((7, 2), np.float32))
    with pytest.raises(UnsupportedError) as problem:
        analyzer.load(proto).maximize(1)
    assert problem.value.code == "maximize.tokens"


def test_optimizers_are_torchs() -> None:
    import torch

    assert all(hasattr(torch.optim, name) for name in search.OPTIMIZERS.values())
