"""Thousands of features: the same fits as of few, in time that grows as a product of matrices."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from analyzer.methods.perturbation.lime import Surrogate
from analyzer.perturbation import coalitions, gram
from analyzer.perturbation.coalitions import design_of, least_squares
from tests.common.checks import load
from tests.common.models import assemble


def linear(count: int) -> tuple[object, np.ndarray, np.ndarray]:
    """A linear model, an input, and what each feature adds."""
    w = np.random.default_rng(0).standard_normal((count, 2)).astype(np.float32)
    shapes = {"x": (TensorProto.FLOAT, ["n", count])}
    model = load(
        assemble(
            [helper.make_node("MatMul", ["x", "w"], ["y"])], shapes, {"y": (TensorProto.FLOAT, ["n", 2])}, {"w": w}
        )
    )
    x = np.random.default_rng(1).standard_normal((1, count)).astype(np.float32)
    return model, x, x[0] * w[:, 0]


@pytest.mark.parametrize("count", [1030, 1100])
def test_shapley_values_of_more_than_a_thousand_features(count: int) -> None:
    model, x, expected = linear(count)
    found = model.explain(x, "kernel-shap", 0, samples=2 * count + 200, segments=np.arange(count))
    np.testing.assert_allclose(found.attribution[0], expected, atol=1e-4)
    few = model.explain(x, "kernel-shap", 0, samples=600, segments=np.arange(count))
    assert np.isfinite(few.attribution).all()
    assert few.attribution.sum() == pytest.approx(float(found.score[0]), abs=1e-3)
    assert few.record["standard_error"] == [None]


def test_lime_of_more_columns_than_copies() -> None:
    model, x, expected = linear(700)
    found = model.explain(x, "lime", 0, samples=600, segments=np.arange(700), fill=0.0)
    assert np.corrcoef(found.attribution[0], expected)[0, 1] > 0.6
    many = model.explain(x, "lime", 0, samples=3000, segments=np.arange(700), fill=0.0)
    assert np.corrcoef(many.attribution[0], expected)[0, 1] > 0.99


@pytest.mark.parametrize("rows", [60, 20])
def test_wide_fits_are_those_of_the_singular_value_decomposition(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(rows)
    x = draw.standard_normal((rows, 31))
    x -= x.mean(axis=1, keepdims=True)
    y = draw.standard_normal(rows)
    want, determined = least_squares(x, y)
    assert determined == (rows >= 30)
    monkeypatch.setattr(coalitions, "WIDE", 4)
    monkeypatch.setattr(gram, "WIDE", 4)
    got, same = least_squares(x, y)
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)
    assert same == determined


def test_ridge_by_copies_is_ridge_by_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(4)
    present, scores = draw.integers(0, 2, (20, 31)).astype(bool), draw.standard_normal(20)
    want, r2 = Surrogate(0.25, 1.0).fit(present, scores)
    monkeypatch.setattr("analyzer.methods.perturbation.lime.WIDE", 4)
    monkeypatch.setattr(gram, "WIDE", 4)
    got, again = Surrogate(0.25, 1.0).fit(present, scores)
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)
    assert again == pytest.approx(r2)


def test_a_singular_matrix_still_has_a_shortest_solution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gram, "WIDE", 1)
    matrix = np.ones((3, 3))
    np.testing.assert_allclose(gram.solved(matrix, np.ones(3)), np.full(3, 1 / 3))


def test_a_design_of_many_segments_takes_no_time() -> None:
    design = design_of(20_000, 100, 0)
    assert design.present.shape == (100, 20_000)
    assert (design.present[2::2] == ~design.present[3::2]).all()
    assert (design.undrawn == 1).all() or (design.undrawn > 0.99).all()
