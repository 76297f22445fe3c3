"""Baselines by name and by file: several references are averaged over, as captum's DeepLiftShap does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import analyzer
from analyzer.errors import AnalyzerError
from tests.graph_rules.nets import VGGLike, exported, pictures, seeded
from tests.graph_rules.peers import peer

X = pictures(2, 3, 12, 12, seed=5)
ROWS = pictures(3, 3, 12, 12, seed=6)
TARGETS = [3, 1]
pytestmark = pytest.mark.filterwarnings(
    "ignore:Setting forward, backward hooks", "ignore:Input Tensor 0 did not already"
)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return seeded(VGGLike, seed=1)


@pytest.fixture(scope="module")
def model(net: nn.Module) -> analyzer.Model:
    return exported(net.float(), X)


@pytest.fixture
def rows(tmp_path: Path) -> str:
    np.save(tmp_path / "rows.npy", ROWS)
    return f"samples:{tmp_path / 'rows.npy'}"


def close(found: Any, expected: Any, relative: float) -> None:
    largest = np.abs(expected).max()
    assert largest > 1e-9
    np.testing.assert_allclose(found, expected, rtol=0, atol=relative * largest)


def of_captum(method: str, net: nn.Module, baseline: np.ndarray, **options: Any) -> np.ndarray:
    """captum's attribution in double precision."""
    net = net.double()
    try:
        found = getattr(peer("captum.attr"), method)(net).attribute(
            torch.from_numpy(X).double(), torch.from_numpy(baseline).double(), target=TARGETS, **options
        )
    finally:
        net.float()
    return np.asarray(found.detach().numpy())


def test_deeplift_over_several_references_is_captums(model: analyzer.Model, net: nn.Module, rows: str) -> None:
    found = model.explain(X, "deeplift", TARGETS, baseline=rows, precision="float64")
    close(found.attribution, of_captum("DeepLiftShap", net, ROWS), 1e-6)
    assert found.record["references"] == 3
    assert found.completeness is not None
    expected = [model.predict(X)["y"][i, t] - model.predict(ROWS)["y"][:, t].mean() for i, t in enumerate(TARGETS)]
    np.testing.assert_allclose(found.completeness.expected, expected, rtol=1e-4, atol=1e-5)


def test_integrated_gradients_over_several_references_are_the_mean_of_captums(
    model: analyzer.Model, net: nn.Module, rows: str
) -> None:
    found = model.explain(X, "integrated-gradients", TARGETS, baseline=rows, precision="float64", steps=21)
    each = [of_captum("IntegratedGradients", net, row[None], n_steps=21) for row in ROWS]
    close(found.attribution, np.mean(each, axis=0), 1e-5)
    assert found.record["references"] == 3
    mean = model.explain(
        X, "integrated-gradients", TARGETS, baseline=rows, precision="float64", steps=21, multiply_by_inputs=False
    )
    slopes = [
        peer("captum.attr").IntegratedGradients(net.double(), multiply_by_inputs=False).attribute(
            torch.from_numpy(X).double(), torch.from_numpy(row[None]).double(), target=TARGETS, n_steps=21
        ).detach().numpy()
        for row in ROWS
    ]  # fmt: skip
    net.float()
    close(mean.attribution, np.mean(slopes, axis=0), 1e-5)


@pytest.mark.parametrize("variant", ["rescale", "reveal-cancel"])
def test_several_references_are_the_mean_of_each(model: analyzer.Model, rows: str, variant: str) -> None:
    found = model.explain(X, "deeplift", TARGETS, baseline=rows, variant=variant)
    each = [model.explain(X, "deeplift", TARGETS, baseline=row, variant=variant).attribution for row in ROWS]
    close(found.attribution, np.mean(each, axis=0), 1e-5)


def test_gradient_shap_draws_from_the_file(model: analyzer.Model, rows: str) -> None:
    from_file = model.explain(X, "gradient-shap", TARGETS, baselines=rows, samples=9)
    from_array = model.explain(X, "gradient-shap", TARGETS, baselines=ROWS, samples=9)
    np.testing.assert_array_equal(from_file.attribution, from_array.attribution)


@pytest.mark.parametrize("method", ["integrated-gradients", "deeplift"])
def test_named_baselines_are_the_fills_of_that_name(model: analyzer.Model, method: str, tmp_path: Path) -> None:
    """The mean of each sample's channels; a picture from a file."""
    means = np.broadcast_to(X.mean((2, 3), keepdims=True), X.shape)
    named = model.explain(X, method, TARGETS, baseline="mean")
    close(named.attribution, model.explain(X, method, TARGETS, baseline=means).attribution, 1e-5)
    np.save(tmp_path / "one.npy", ROWS[:1])
    of_file = model.explain(X, method, TARGETS, baseline=f"image:{tmp_path / 'one.npy'}")
    close(of_file.attribution, model.explain(X, method, TARGETS, baseline=ROWS[:1]).attribution, 1e-6)
    text = model.explain(X, method, TARGETS, baseline="0.5").attribution
    np.testing.assert_array_equal(text, model.explain(X, method, TARGETS, baseline=0.5).attribution)
    blurred = model.explain(X, method, TARGETS, baseline="blur")
    assert np.abs(blurred.attribution - named.attribution).max() > 0


def test_more_rows_than_wanted_are_drawn_and_said(model: analyzer.Model, rows: str) -> None:
    found = model.explain(X, "deeplift", TARGETS, baseline=rows, background=2)
    assert found.record["references"] == 2
    assert any("2 of 3" in note for note in found.record["notes"])
    again = model.explain(X, "deeplift", TARGETS, baseline=rows, background=2)
    np.testing.assert_array_equal(again.attribution, found.attribution)


@pytest.mark.parametrize(
    ("baseline", "code"),
    [
        ("nonsense", "params.invalid"),
        ("samples", "fill.unknown"),
        ("samples:nowhere.npy", "data.missing"),
        ("id:3", "params.invalid"),
        (1e39, "params.nonfinite"),
        ("inpaint", "params.invalid"),
    ],
)
@pytest.mark.parametrize("method", ["integrated-gradients", "deeplift", "gradient-shap"])
def test_what_is_no_baseline_is_refused_in_a_line(model: analyzer.Model, method: str, baseline: Any, code: str) -> None:
    name = "baselines" if method == "gradient-shap" else "baseline"
    with pytest.raises(AnalyzerError) as caught:
        model.explain(X, method, TARGETS, **{name: baseline})
    assert caught.value.code == code
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", ["integrated-gradients", "deeplift"])
def test_references_compile(model: analyzer.Model, method: str, rows: str) -> None:
    options: dict[str, Any] = {"baseline": rows, **({"steps": 4} if method == "integrated-gradients" else {})}
    made = analyzer.compile(model, method, 3, example=X, **options)
    session = onnxruntime.InferenceSession(made.proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (got,) = session.run(["relevance"], {"x": X})
    close(got, model.explain(X, method, 3, backend="torch", **options).attribution, 1e-4)
    with pytest.raises(AnalyzerError) as caught:
        analyzer.compile(model, method, 3, example=X, baseline="mean")
    assert caught.value.code == "compile.method"
