"""How maps change near an input: closed forms of linear models, captum and Quantus on the same draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import analyzer
from analyzer.errors import UnsupportedError
from analyzer.evaluation.neighbours import moved, noisy, size_of
from tests.analyzer.evaluation.maps import Array, context_of, draw, linear, load, two_layers, with_map
from tests.analyzer.evaluation.oracles import quantus
from tests.common.models import assemble, cases

SHAPE = (2, 4, 5)
W = draw(1, 40, 3)
X = draw(2, 3, *SHAPE)
MODEL = load(linear(SHAPE, W))
METRICS = ["max-sensitivity", "average-sensitivity", "local-lipschitz", "continuity"]
DEEP_W = draw(5, 6, 9), draw(6, 9, 3)
DEEP = load(two_layers([6], *DEEP_W))
ROWS = draw(7, 4, 6)


@pytest.mark.parametrize("metric", METRICS)
def test_the_gradient_of_a_linear_model_is_the_same_everywhere(metric: str) -> None:
    found = analyzer.evaluate(MODEL, X, MODEL.explain(X, "gradient", target=1), metric)
    assert found.values.tolist() == [0, 0, 0]
    assert found.higher_is_better is False


def test_gradient_x_input_of_a_linear_model_follows_the_input() -> None:
    """With equal weights the map is the input: both change by the same share, and the map by the weight times the input."""
    model = load(linear(SHAPE, np.full((40, 3), 2.5, np.float32)))
    e = model.explain(X, "gradient-x-input", target=1)
    np.testing.assert_allclose(analyzer.evaluate(model, X, e, "local-lipschitz").values, 1, rtol=1e-5)
    found = analyzer.evaluate(model, X, e, "local-lipschitz", normalise=False)
    np.testing.assert_allclose(found.values, 2.5, rtol=1e-5)
    for metric, summary in (("max-sensitivity", np.max), ("average-sensitivity", np.mean)):
        context = context_of(model, e)
        expected = []
        for sample in range(3):
            copies = noisy(context, sample, 7, 0.1, "range", "uniform")["x"].astype(np.float64)
            change = np.linalg.norm((copies - X[sample]).reshape(7, -1), axis=1)
            expected.append(summary(change) / np.linalg.norm(X[sample]))
        found = analyzer.evaluate(model, X, e, metric, samples=7, radius=0.1)
        np.testing.assert_allclose(found.values, expected, rtol=1e-5)
        assert found.n_explanations == 21 <= found.n_evaluations


def test_continuity_is_the_largest_ratio_over_noise_and_movements() -> None:
    e = MODEL.explain(X, "gradient-x-input", target=1)
    found = analyzer.evaluate(MODEL, X, e, "continuity", samples=3, shift=2, radius=0.05)
    raw = analyzer.evaluate(MODEL, X, e, "continuity", samples=3, shift=2, radius=0.05, normalise=False)
    context, weights = context_of(MODEL, e), W[:, 1].astype(np.float64)
    for sample in range(3):
        x = X[sample].astype(np.float64)
        copies = [noisy(context, sample, 3, 0.05, "range", "uniform")["x"]]
        copies += [
            np.stack([np.pad(x, [(0, 0), (2, 2), (2, 2)], "edge")[:, 2 - i : 6 - i, 2 - j : 7 - j] for i, j in steps])
            for steps in ([(s, 0) for s in (-2, -1, 1, 2)], [(0, s) for s in (-2, -1, 1, 2)])
        ]
        change = (np.concatenate(copies).astype(np.float64) - x).reshape(11, -1)
        ratios = np.abs(change * weights).sum(axis=1) / np.linalg.norm(change, axis=1)
        assert raw.values[sample] == pytest.approx(ratios.max(), rel=1e-4)
        own = np.abs(x.reshape(-1) * weights).sum() / np.linalg.norm(x)
        assert found.values[sample] == pytest.approx(ratios.max() / own, rel=1e-4)
        for label, rows in (("moved along H", slice(3, 7)), ("moved along W", slice(7, 11))):
            curve = found.curves[label]
            assert curve.x.tolist() == [-2, -1, 0, 1, 2]
            expected = np.abs(change[rows] * weights).sum(axis=1) / np.abs(x.reshape(-1) * weights).sum()
            np.testing.assert_allclose(curve.y[sample], np.insert(expected, 2, 0), rtol=1e-4)
    assert found.curves["noise"].x.shape == found.curves["noise"].y.shape == (3, 3)


def test_methods_of_different_scales_compare() -> None:
    """Ten times the map, as ten times the score gives, is as continuous."""
    wide = load(linear(SHAPE, 10 * W))
    for metric in METRICS:
        one, other = (
            analyzer.evaluate(model, X, model.explain(X, "gradient-x-input", target=1), metric).values
            for model in (MODEL, wide)
        )
        np.testing.assert_allclose(one, other, rtol=1e-3)


def test_the_radius_is_a_share_of_the_samples_range_or_in_the_inputs_units() -> None:
    context = context_of(MODEL, MODEL.explain(X, "gradient", target=1))
    for sample in range(3):
        by_range, absolute = (
            noisy(context, sample, 400, 0.1, scale, "uniform")["x"] - X[sample] for scale in ("range", "absolute")
        )
        assert np.abs(by_range).max() == pytest.approx(0.1 * np.ptp(X[sample]), rel=1e-2)
        assert np.abs(absolute).max() == pytest.approx(0.1, rel=1e-2)
        normal = noisy(context, sample, 400, 0.1, "absolute", "normal")["x"] - X[sample]
        assert normal.std() == pytest.approx(0.1, rel=2e-2)


def test_columns_of_a_table_keep_their_own_scale() -> None:
    """Of a constant number of thousands and of a share, neither drowns in the other's noise; the file's range comes first."""
    proto = linear([2], draw(3, 2, 2))
    x = np.array([[5000.0, 0.5]], np.float32)
    for stated, width in ((False, [5000, 0.5]), (True, [800, 0.2])):
        if stated:
            for key, value in (("feature_mins", "[0, 0]"), ("feature_maxs", "[800, 0.2]")):
                entry = proto.metadata_props.add()
                entry.key, entry.value = key, value
        model = load(proto)
        context = context_of(model, model.explain(x, "gradient", target=1))
        change = np.abs(noisy(context, 0, 400, 0.1, "range", "uniform")["x"] - x[0]).max(axis=0)
        np.testing.assert_allclose(change, 0.1 * np.array(width), rtol=2e-2)


def test_whole_numbers_stay_whole() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["wide"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["scores"]),
    ]
    shapes = {"x": (TensorProto.UINT8, ["n", 1, 4, 4])}
    model = load(assemble(nodes, shapes, {"scores": (TensorProto.FLOAT, ["n", 2])}, {"w": draw(4, 16, 2)}))
    x = np.random.default_rng(0).integers(0, 256, (2, 1, 4, 4)).astype(np.uint8)
    e = model.explain(x, "occlusion", window=2, stride=2)
    copies = noisy(context_of(model, e), 0, 50, 0.2, "range", "uniform")["x"]
    assert copies.dtype == np.uint8 and (copies != x[0]).any()
    assert (np.abs(copies.astype(int) - x[0]) <= np.ceil(0.2 * 255)).all()  # none wraps around
    assert analyzer.evaluate(model, x, e, "max-sensitivity", samples=2, radius=0.2).n_valid == 2


def test_draws_do_not_depend_on_the_batch() -> None:
    e = MODEL.explain(X, "gradient-x-input", target=1)
    together = noisy(context_of(MODEL, e), 2, 4, 0.1, "range", "uniform")["x"]
    fixed = load(linear(SHAPE, W, batch=1))
    for metric in METRICS:
        one = analyzer.evaluate(MODEL, X, e, metric)
        other = analyzer.evaluate(fixed, X, fixed.explain(X, "gradient-x-input", target=1), metric)
        np.testing.assert_allclose(other.values, one.values, rtol=1e-4)
        assert other.record["class_changes"] == one.record["class_changes"]
    assert (together == noisy(context_of(MODEL, e), 2, 4, 0.1, "range", "uniform")["x"]).all()


def test_changes_of_class_are_counted_and_can_be_left_out() -> None:
    """Class 1 wins by what the first column has above zero: half of the neighbours of a row on the border fall to class 0."""
    model = load(linear([2], np.array([[-1, 1], [0, 0]], np.float32)))
    x = np.array([[1e-6, 1.0], [5.0, 1.0]], np.float32)
    e = model.explain(x, "gradient-x-input")
    found = analyzer.evaluate(model, x, e, "max-sensitivity", samples=200, radius=0.5, scale="absolute")
    assert found.record["class_changes"][0] == pytest.approx(100, abs=25)
    assert found.record["class_changes"][1] == 0
    copies = noisy(context_of(model, e), 0, 200, 0.5, "absolute", "uniform")["x"]
    assert found.record["class_changes"][0] == int((copies[:, 0] < 0).sum())
    kept = analyzer.evaluate(model, x, e, "max-sensitivity", samples=200, radius=0.5, scale="absolute", same_class=True)
    positive = copies[copies[:, 0] >= 0, 0].astype(np.float64)
    assert kept.values[0] == pytest.approx(np.abs(positive - x[0, 0]).max() / x[0, 0], rel=1e-3)


def test_without_an_answer_there_is_a_reason() -> None:
    zero = np.zeros((1, *SHAPE), np.float32)
    for metric in METRICS:
        moves = {"shift": 0} if metric == "continuity" else {}
        e = MODEL.explain(zero, "gradient-x-input", target=1)  # a map of zeros, of an input of zeros
        assert "no neighbour differs" in analyzer.evaluate(MODEL, zero, e, metric, **moves).reasons[0]
        found = analyzer.evaluate(MODEL, zero, e, metric, scale="absolute", **moves)
        assert found.reasons[0] == "the map is zero everywhere"  # its neighbours have maps: no share of nothing
        e = with_map(MODEL.explain(X, "gradient", target=1), np.full_like(X, np.nan))
        assert set(analyzer.evaluate(MODEL, X, e, metric, samples=1).reasons.values()) == {
            "the map holds values that aren't finite"
        }
    e = MODEL.explain(zero, "gradient", target=1)
    found = analyzer.evaluate(MODEL, zero, e, "local-lipschitz", scale="absolute")
    assert "normalise=false" in found.reasons[0]
    none = analyzer.evaluate(MODEL, X, MODEL.explain(X, "gradient"), "continuity", samples=0, shift=0)
    assert none.reasons[0] == "no neighbours were asked for" and none.to_dict()["curves"] == {}


def test_a_map_of_zeros_all_around_does_not_change() -> None:
    model = load(two_layers([3], np.ones((3, 4), np.float32), np.ones((4, 2), np.float32)))
    x = np.full((1, 3), -5.0, np.float32)  # behind dead units
    e = model.explain(x, "gradient", target=1)
    assert not e.attribution.any()
    assert [analyzer.evaluate(model, x, e, metric).value for metric in METRICS] == [0, 0, 0, 0]


@pytest.mark.parametrize("case", [case for case in cases(2) if case.name != "half"], ids=lambda case: case.name)
def test_every_modality(case: Any) -> None:
    model = load(case.proto)
    e = model.explain(case.feed, "gradient-x-input")
    if case.modality == "tokens":
        for metric in METRICS:
            with pytest.raises(UnsupportedError, match="'ids' hold words or categories"):
                analyzer.evaluate(model, case.feed, e, metric)
        return
    letters = {"cnn": "HW", "nhwc": "HW", "two": "HW", "series": "T", "mlp": ""}[case.name]
    found = analyzer.evaluate(model, case.feed, e, "continuity", samples=1, shift=1)
    assert set(found.curves) == {"noise", *(f"moved along {letter}" for letter in letters)}
    assert found.n_valid == 2 and found.n_explanations == 2 * (1 + 2 * len(letters))
    for metric in METRICS[:3]:
        assert analyzer.evaluate(model, case.feed, e, metric, samples=2).n_valid == 2


def test_what_moves_is_the_picture_and_not_its_channels() -> None:
    case = next(case for case in cases(1) if case.name == "nhwc")
    model = load(case.proto)
    copies = moved(context_of(model, model.explain(case.feed, "gradient")), 0, 1)
    assert set(copies) == {("x", "H"), ("x", "W")}
    steps, along = copies["x", "W"]
    assert steps.tolist() == [-1, 1]
    np.testing.assert_array_equal(along["x"][1][:, 1:], case.x[0][:, :-1])
    np.testing.assert_array_equal(along["x"][1][:, 0], case.x[0][:, 0])


def _torch_gradients(x: Any, target: int) -> Any:
    """Gradient times input of the network of two layers, by torch."""
    import torch

    first, second = (torch.from_numpy(w.copy()) for w in DEEP_W)
    with torch.enable_grad():
        given = x.detach().clone().requires_grad_()
        (torch.relu(given @ first) @ second)[:, target].sum().backward()
    return given.grad * x.detach()


@pytest.mark.parametrize("radius", [0.05, 0.5])
def test_max_sensitivity_equals_captum_on_the_same_draws(radius: float) -> None:
    import torch
    from captum.metrics import sensitivity_max

    e = DEEP.explain(ROWS, "gradient-x-input", target=2)
    context = context_of(DEEP, e)
    draws = np.concatenate([noisy(context, s, 6, radius, "absolute", "uniform")["x"] for s in range(len(ROWS))])
    expected = sensitivity_max(
        lambda inputs: (_torch_gradients(inputs[0] if isinstance(inputs, tuple) else inputs, 2),),
        torch.from_numpy(ROWS.copy()), lambda inputs: torch.from_numpy(draws), n_perturb_samples=6,
    )  # fmt: skip
    own = analyzer.evaluate(DEEP, ROWS, e, "max-sensitivity", samples=6, radius=radius, scale="absolute")
    np.testing.assert_allclose(own.values, expected.numpy(), rtol=1e-5)


def test_equal_to_quantus_on_the_same_draws() -> None:
    library = quantus()
    import torch

    e = DEEP.explain(ROWS, "gradient-x-input", target=2)
    context = context_of(DEEP, e)

    class Net(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            first, second = (torch.from_numpy(w.copy()) for w in DEEP_W)
            return torch.relu(x @ first) @ second

    def explain(model: Any, inputs: Array, targets: Any, **_: Any) -> Array:
        return np.asarray(_torch_gradients(torch.from_numpy(np.asarray(inputs, np.float32)), 2).numpy())

    for metric, kind, noise, more in (
        ("max-sensitivity", library.MaxSensitivity, "uniform", {}),
        ("average-sensitivity", library.AvgSensitivity, "uniform", {}),
        ("local-lipschitz", library.LocalLipschitzEstimate, "normal", {"normalise": False}),
    ):
        drawn = [noisy(context, s, 5, 0.2, "absolute", noise)["x"] for s in range(len(ROWS))]
        steps = iter(np.stack(drawn, axis=1))

        def perturb(arr: Array, indices: Array, steps: Any = steps, **_: Any) -> Array:
            return np.asarray(next(steps).reshape(arr.shape))

        oracle = kind(nr_samples=5, perturb_func=perturb, abs=False, normalise=False, disable_warnings=True)
        expected = oracle(
            model=Net(), x_batch=ROWS, y_batch=np.full(len(ROWS), 2), a_batch=e.attribution, explain_func=explain
        )
        own = analyzer.evaluate(
            DEEP, ROWS, e, metric, samples=5, radius=0.2, scale="absolute", **({"noise": noise} | more)
        )
        np.testing.assert_allclose(own.values, expected, atol=1e-5, err_msg=metric)


def test_the_size_of_an_input_leaves_missing_values_out() -> None:
    case = next(case for case in cases(2) if case.name == "two")
    model = load(case.proto)
    context = context_of(model, model.explain(case.feed, "gradient"))
    both = np.concatenate([case.feed["picture"][1].reshape(-1), case.feed["row"][1]]).astype(np.float64)
    assert size_of(context, 1) == pytest.approx(np.linalg.norm(both))
