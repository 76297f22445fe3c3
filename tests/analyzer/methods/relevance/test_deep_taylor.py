"""Deep Taylor decomposition against a naive re-implementation and reference results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

import analyzer
from analyzer.errors import UsageError
from analyzer.inputs import Preprocess
from tests.common.models import cnn, mlp, tokens

Array = NDArray[Any]
X = np.random.default_rng(4).standard_normal((4, 6)).astype(np.float32).clip(-2, 2)
TARGET = [0, 1, 2, 1]


def weights_of(proto: onnx.ModelProto) -> dict[str, Array]:
    """Initializers in float64."""
    return {t.name: numpy_helper.to_array(t).astype(np.float64) for t in proto.graph.initializer}


def naive(w: dict[str, Array], x: Array, target: int, box: tuple[float, float] | None, bias: bool = True) -> Array:
    """Two linear layers with a ReLU, one sample, every contribution written out; relevance of the score is 1."""
    a = np.maximum(x @ w["w1"] + w["b1"], 0)
    contributions = np.array([max(a[j] * w["w2"][j, target], 0) for j in range(len(a))])
    whole = contributions.sum() + (max(w["b2"][target], 0) if bias else 0)
    hidden = contributions / whole if whole else np.zeros(len(a))
    found = np.zeros(len(x))
    for j in range(len(a)):
        if box is None:
            shares, extra = w["w1"][:, j] ** 2, w["b1"][j] ** 2 if bias else 0.0
        else:  # distance from the corner of the box where the unit is lowest
            corner = np.where(w["w1"][:, j] > 0, box[0], box[1])
            shares, extra = (x - corner) * w["w1"][:, j], 0.0
        found += shares / (shares.sum() + extra) * hidden[j]
    return found


@pytest.mark.parametrize("zero_bias", [False, True])
@pytest.mark.parametrize("box", [None, (-2.0, 2.0), (-3.0, 2.5)])
def test_a_relu_network_equals_the_naive_decomposition(box: tuple[float, float] | None, zero_bias: bool) -> None:
    proto = mlp()
    bounds: dict[str, Any] = {} if box is None else {"low": box[0], "high": box[1]}
    found = analyzer.load(proto, "cpu", threads=1).explain(
        X, method="deep-taylor", target=TARGET, initial="one", zero_bias=zero_bias, **bounds
    )
    assert found.record["first_layer"] == ("w2" if box is None else "z-box")
    pairs = zip(X.astype(np.float64), TARGET, strict=True)
    expected = np.stack([naive(weights_of(proto), x, target, box, not zero_bias) for x, target in pairs])
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found.attribution, expected, rtol=1e-4, atol=1e-5)


def test_relevance_of_the_score_scales_the_relevance_of_one() -> None:
    model = analyzer.load(mlp(), "cpu", threads=1)
    one = model.explain(X, method="deep-taylor", target=TARGET, initial="one")
    logit = model.explain(X, method="deep-taylor", target=TARGET)
    np.testing.assert_allclose(logit.attribution, one.attribution * logit.score[:, None], rtol=1e-5, atol=1e-7)
    assert (logit.score < 0).any()
    assert any("score is negative" in note for note in logit.record["notes"])
    assert one.record["notes"] == []


@pytest.mark.parametrize("bounds", [{}, {"low": -4.0, "high": 4.0}])
def test_a_positive_score_without_biases_is_shared_out_wholly_and_positively(bounds: dict[str, Any]) -> None:
    x = np.random.default_rng(7).standard_normal((6, 3, 8, 8)).astype(np.float32).clip(-4, 4)
    found = analyzer.load(cnn(bias=False), "cpu", threads=1).explain(x, method="deep-taylor", **bounds)
    positive = found.score > 0
    assert positive.any()
    total = found.attribution[positive].astype(np.float64).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(total, found.score[positive], rtol=1e-3)
    assert found.attribution[positive].min() >= -1e-6 * found.attribution.max()


def test_bounds_come_from_the_preprocessing() -> None:
    x = np.random.default_rng(7).uniform(-2, 2, (2, 3, 8, 8)).astype(np.float32)
    scaling = Preprocess(scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.3))
    implied = analyzer.load(cnn(), "cpu", threads=1, preprocess=scaling).explain(x, method="deep-taylor", target=1)
    low, high = (-0.5 / 0.25, -0.4 / 0.2, -0.3 / 0.3), (0.5 / 0.25, 0.6 / 0.2, 0.7 / 0.3)
    plain = analyzer.load(cnn(), "cpu", threads=1)
    given = plain.explain(x, method="deep-taylor", target=1, low=list(low), high=list(high))
    np.testing.assert_allclose(implied.attribution, given.attribution, rtol=1e-5, atol=1e-7)
    assert implied.record["first_layer"] == "z-box"
    unbounded = plain.explain(x, method="deep-taylor", target=1)
    assert not np.allclose(unbounded.attribution, given.attribution)


@pytest.mark.parametrize(
    "bounds", [{"low": 0.0}, {"high": 1.0}, {"low": 1.0, "high": 0.0}, {"low": [0, 0], "high": 1.0}]
)
def test_bounds_that_make_no_box_are_refused(bounds: dict[str, Any]) -> None:
    x = np.zeros((1, 3, 8, 8), np.float32)
    with pytest.raises(UsageError) as caught:
        analyzer.load(cnn(), "cpu", threads=1).explain(x, method="deep-taylor", target=1, **bounds)
    assert caught.value.code == "params.invalid"


def test_tokens_take_the_sum_of_their_embedding() -> None:
    ids = np.array([[1, 2, 3, 4, 5, 6, 7]])
    found = analyzer.load(tokens(), "cpu", threads=1).explain(ids, method="deep-taylor", target=1)
    assert found.raw.shape == (1, 7, 4)
    np.testing.assert_allclose(found.attribution, found.raw.sum(axis=2), rtol=1e-6)


@pytest.mark.parametrize(
    ("net", "kind"),
    [
        *((net, "rule_DeepTaylor") for net in ("vgg", "gapnet", "mobilenet", "textcnn")),
        *((net, "rule_DeepTaylorWSquare") for net in ("gapnet", "mlp", "textcnn", "generator")),
    ],
)
def test_relevance_equals_the_reference_results(shared: Path, net: str, kind: str) -> None:
    folder = shared / "golden"
    entries = json.loads((folder / "manifest.json").read_text())["entries"]
    entry = next(e for e in entries if e["net"] == net and e["method"] == kind and e.get("file"))
    x, expected = np.load(folder / net / "io.npz")["input"], np.load(folder / entry["file"])["attribution"]
    target: Any = [int(t) for t in entry["target"]]
    bounds: dict[str, Any] = {}
    if kind == "rule_DeepTaylor":
        mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
        bounds = {"low": (-mean / std).tolist(), "high": ((1 - mean) / std).tolist()}
        bounds = {"low": -3.0, "high": 3.0} if net == "textcnn" else bounds
    if net == "generator":  # the second sample's target is one pixel
        x, expected, target = x[1:], expected[1:], "output[:,1,8,8]"
    model = analyzer.load(folder / net / "model_opset17_legacy.onnx", "cpu", threads=1)
    found = model.explain(x, method="deep-taylor", target=target, initial="one", **bounds)
    got = found.raw if net == "textcnn" else found.attribution
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5 * np.abs(expected).max())
