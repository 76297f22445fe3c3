"""Fills of every kind against closed forms, Shapley values by their definition, and replacements made apart."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from PIL import Image

import analyzer
from analyzer.errors import AnalyzerError
from analyzer.executor.batched_runs import count_of, rows_of
from analyzer.inputs import read_input
from analyzer.perturbation.replacement import RepeatedRows
from tests.analyzer.inputs.test_inpainting import dense
from tests.analyzer.methods.known import five, network, row, shapley
from tests.analyzer.methods.linear import Array, linear, weights_of
from tests.common.models import assemble

METHODS = ("occlusion", "feature-ablation", "kernel-shap", "lime", "rise")


def some(*shape: int, seed: int = 9) -> Array:
    """A batch of values."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def named(method: str, fill: Any) -> dict[str, Any]:
    """The fill under the name that the method gives it."""
    return {"baseline" if method == "kernel-shap" else "fill": fill}


# --- background samples ---------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 6), rows=st.integers(2, 9), batch=st.integers(1, 3))
def test_a_linear_model_has_closed_forms(seed: int, count: int, rows: int, batch: int) -> None:
    """Every method that replaces columns finds w (x - mean of the background)."""
    x, w, background = (
        some(batch, count, seed=seed),
        weights_of(count, seed=seed + 1),
        3 * some(rows, count, seed=seed + 2),
    )
    expected = w * (x.astype(np.float64) - background.mean(axis=0, dtype=np.float64))
    model = linear(w)
    for method, more in (
        ("occlusion", {"window": 1, "stride": 1}),
        ("feature-ablation", {}),
        ("kernel-shap", {"samples": 64}),
        ("lime", {"samples": 64, "alpha": 0.0}),
    ):
        done = model.explain(x, method=method, **named(method, background), **more)
        assert done.record["evaluations"] % rows == 0
        if method == "lime" and np.linalg.matrix_rank(draws(count)) <= count:
            continue
        np.testing.assert_allclose(
            done.attribution, expected, rtol=0, atol=2e-5 * max(1, np.abs(expected).max() * count)
        )


def draws(count: int) -> Array:
    """What lime draws with the seed 0, with a column of ones."""
    present = np.random.default_rng(0).integers(0, 2, (64, count))
    present[0] = 1
    return np.hstack([present, np.ones((64, 1))])


def test_rise_on_background_samples() -> None:
    x, w, background = some(2, 6), weights_of(6), some(5, 6, seed=3)
    effect = w * (x - background.mean(axis=0))
    done = linear(w).explain(x, method="rise", masks=4000, keep=0.4, fill=background)
    error = np.array(done.record["standard_error"])
    assert (np.abs(done.attribution - 0.6 * effect) < 5 * error).all()
    assert done.record["evaluations"] == 4000 * 5 * 2


@pytest.mark.parametrize("name", [game.name for game in five()])
def test_kernel_shap_gives_interventional_shapley_values(name: str) -> None:
    """Lundberg, Lee 2017, eq. 11: what a coalition leaves out takes the background's values, by the definition."""
    game = next(game for game in five() if game.name == name)
    background = some(7, 12, seed=5)

    def value(present: Array) -> Array:
        return np.mean([game.score(np.where(present, game.x, one)) for one in background], axis=0)

    truth = shapley(value, 12)
    done = game.model.explain(game.x, method="kernel-shap", samples=2**12, baseline=background)
    np.testing.assert_allclose(done.attribution[0], truth, rtol=0, atol=2e-6 * max(1, np.abs(truth).max()))
    start = float(np.mean(game.score(background)))
    assert done.record["baseline_score"][0] == pytest.approx(start, abs=1e-5)


def test_kernel_shap_equals_the_shap_package() -> None:
    shap = pytest.importorskip("shap", reason="the shap package isn't installed")
    game, background = network("Tanh", row(6, 3), 4), some(11, 6, seed=8).astype(np.float64)
    explainer = shap.KernelExplainer(lambda rows: game.score(rows), background)
    theirs = explainer.shap_values(game.x.astype(np.float64), nsamples=2**6, silent=True)
    ours = game.model.explain(game.x, method="kernel-shap", samples=2**6, baseline=background)
    np.testing.assert_allclose(ours.attribution[0], np.ravel(theirs), rtol=0, atol=1e-5)


def test_a_file_of_samples_is_what_its_rows_are(tmp_path: Path) -> None:
    x, w, background = some(1, 4), weights_of(4), some(6, 4, seed=2)
    csv, npy = tmp_path / "Train.csv", tmp_path / "train.npy"
    csv.write_text("a,b,c,d\n" + "\n".join(",".join(repr(float(v)) for v in line) for line in background))
    np.save(npy, background)
    model = linear(w)
    direct = model.explain(x, method="kernel-shap", baseline=background)
    for path in (csv, npy):
        done = model.explain(x, method="kernel-shap", baseline=f"samples:{path}")
        np.testing.assert_allclose(done.attribution, direct.attribution, atol=1e-6)
        assert done.record["fills"][0]["sha256"]


def test_columns_that_are_inputs_of_their_own(tmp_path: Path) -> None:
    """The file's columns are found by name, whatever their order; whole columns stay whole."""
    nodes = [
        helper.make_node("Cast", ["age"], ["years"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["years", "two"], ["a"]),
        helper.make_node("Mul", ["weight", "three"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    inputs = {"age": (TensorProto.INT64, ["n", 1]), "weight": (TensorProto.FLOAT, ["n", 1])}
    constants = {"two": np.array([2], np.float32), "three": np.array([3], np.float32)}
    model = analyzer.load(assemble(nodes, inputs, {"y": (TensorProto.FLOAT, ["n", 1])}, constants), "cpu")
    path = tmp_path / "people.csv"
    path.write_text("weight,label,age\n1.5,0,10\n2.5,1,30\n")
    feed = {"age": np.array([[50]]), "weight": np.array([[4.0]], np.float32)}
    for method in ("kernel-shap", "feature-ablation"):
        done = model.explain(feed, method=method, **named(method, f"samples:{path}"))
        np.testing.assert_allclose(done.attributions["age"], [[2 * (50 - 20)]], atol=1e-5)
        np.testing.assert_allclose(done.attributions["weight"], [[3 * (4 - 2)]], atol=1e-5)


def test_more_rows_than_asked_for_are_drawn_with_the_seed() -> None:
    x, w, background = some(1, 5), weights_of(5), some(300, 5, seed=2)
    model = linear(w)

    def run(seed: int) -> analyzer.Explanation:
        return model.explain(x, method="kernel-shap", baseline=background, background=20, seed=seed)

    one, again, other = run(0), run(0), run(1)
    assert one.record["evaluations"] == 20 * 2**5
    assert any("20 of 300" in note for note in one.record["notes"])
    np.testing.assert_array_equal(one.attribution, again.attribution)
    assert np.abs(one.attribution - other.attribution).max() > 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_one_sample_is_a_replacement(method: str) -> None:
    x, w, single = some(2, 5), weights_of(5), some(1, 5, seed=4)
    model = linear(w)
    one = model.explain(x, method=method, **named(method, single))
    twice = model.explain(x, method=method, **named(method, np.concatenate([single, single])))
    np.testing.assert_allclose(one.attribution, twice.attribution, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 4])
def test_a_fixed_batch_is_filled_up(batch: int) -> None:
    """Evaluations of one mask lie in several batches, and one batch holds several masks."""
    x, w, background = some(batch, 5), weights_of(5), some(3, 5, seed=4)
    calls: list[int] = []
    for method in METHODS:
        free = linear(w).explain(x, method=method, budget=600, **named(method, background))
        model = linear(w, batch=batch)
        done = model.explain(
            x, method=method, budget=600, progress=lambda at, _: calls.append(at), **named(method, background)
        )
        np.testing.assert_allclose(done.attribution, free.attribution, atol=1e-5)
        assert calls[-1] == done.record["evaluations"]


@settings(max_examples=60, deadline=None)
@given(total=st.integers(0, 40), times=st.integers(2, 7), counts=st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_every_row_meets_every_background_sample(total: int, times: int, counts: list[int]) -> None:
    """In full batches, whatever is asked for; the means are those of each row's own scores."""
    present = np.arange(total)
    repeated = RepeatedRows(rows_of(present=present), times)
    sizes, given_, scores = itertools.cycle(counts), [], []
    while count_of(rows := repeated.rows(size := next(sizes))):
        scores.append(10.0 * rows["present"] + rows["background"])
        given_.append((count_of(rows), size))
    assert all(got == size for got, size in given_[:-1])
    assert sum(got for got, _ in given_) == total * times
    found = list(repeated.averaged(iter(scores)))
    np.testing.assert_array_equal(np.concatenate([np.zeros(0), *(rows["present"] for rows, _ in found)]), present)
    means = np.concatenate([np.zeros(0), *(mean for _, mean in found)])
    np.testing.assert_allclose(means, 10.0 * present + (times - 1) / 2)


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_is_explained_as_each_sample_alone(method: str) -> None:
    """Even where there are as many background samples as explained ones."""
    x, background = some(3, 5), some(3, 5, seed=4)
    model = linear(weights_of(5))
    together = model.explain(x, method=method, **named(method, background)).attribution
    for sample in range(3):
        single = model.explain(x[sample : sample + 1], method=method, **named(method, background)).attribution
        np.testing.assert_allclose(single[0], together[sample], atol=1e-5)


def test_samples_of_pictures(tmp_path: Path) -> None:
    x, w, others = some(1, 3, 8, 8), weights_of(3, 8, 8), some(4, 3, 8, 8, seed=1)
    np.save(tmp_path / "others.npy", others)
    done = linear(w).explain(x, method="occlusion", window=4, stride=4, fill=f"samples:{tmp_path / 'others.npy'}")
    drop = (w * (x[0] - others.mean(axis=0))).sum(axis=0).reshape(2, 4, 2, 4).sum(axis=(1, 3))
    np.testing.assert_allclose(done.attribution[0, 0, ::4, ::4], drop, rtol=1e-4, atol=1e-4)


# --- another image --------------------------------------------------------------------------------------------------


def test_another_image_is_read_as_the_input_is(tmp_path: Path) -> None:
    path = tmp_path / "Other.PNG"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)).save(path)
    w, x = weights_of(3, 12, 12), some(1, 3, 12, 12)
    model = linear(w)
    model.preprocess = analyzer.load(model.proto, "cpu", preprocess="imagenet").preprocess
    other = read_input(path, "x", np.dtype(np.float32), (None, 3, 12, 12), model.preprocess).array
    for method, more in (("occlusion", {"window": 6, "stride": 6}), ("feature-ablation", {"segments": "grid:6"})):
        done = model.explain(x, method=method, fill=f"image:{path}", **more)
        drop = (w * (x - other)[0]).sum(axis=0).reshape(2, 6, 2, 6).sum(axis=(1, 3))
        np.testing.assert_allclose(done.attribution[0, 0, ::6, ::6], drop, rtol=1e-4, atol=1e-4)
        as_array = model.explain(x, method=method, fill=other, **more)
        np.testing.assert_array_equal(as_array.attribution, done.attribution)
    for method in ("rise", "bubbles", "meaningful-perturbation", "lime", "kernel-shap"):
        more = {"steps": 3} if method == "meaningful-perturbation" else {"masks" if method == "rise" else "samples": 20}
        one = model.explain(x, method=method, **named(method, f"image:{path}"), **more)
        np.testing.assert_allclose(
            one.attribution, model.explain(x, method=method, **named(method, other), **more).attribution, atol=1e-6
        )
        assert one.record["fills"][0]["sha256"]


# --- inpainting -----------------------------------------------------------------------------------------------------


def test_windows_are_inpainted_one_by_one() -> None:
    x, w = some(2, 2, 9, 8), weights_of(2, 9, 8)
    done = linear(w).explain(x, method="occlusion", window=4, stride=3, fill="inpaint")
    total, count = np.zeros((2, 9, 8)), np.zeros((9, 8))
    for top in range(0, 9 - 4 + 3, 3):
        for left in range(0, 8 - 4 + 3, 3):
            hole = np.zeros((9, 8), bool)
            hole[top : top + 4, left : left + 4] = True
            filled = np.array([[dense(channel, hole) for channel in sample] for sample in x])
            total[:, hole] += (w * (x - filled)).sum(axis=(1, 2, 3))[:, None]
            count += hole
    np.testing.assert_allclose(done.attribution[:, 0], total / np.maximum(count, 1), atol=1e-4)
    assert "incremental" in done.record


def test_coalitions_are_inpainted_as_a_whole() -> None:
    """What neighbours of a removed segment lend it must not be removed themselves."""
    x, w = some(1, 1, 6, 6), weights_of(1, 6, 6)
    ids = np.arange(36).reshape(6, 6) // 6 // 2 * 2 + np.arange(6) // 3

    def value(present: Array) -> Array:
        filled = []
        for one in present:
            hole = ~one[ids]
            whole = np.full((6, 6), x.mean()) if hole.all() else dense(x[0, 0], hole)
            filled.append((w[0] * whole).sum() + 0.5)
        return np.array(filled)

    done = linear(w).explain(x, method="kernel-shap", samples=64, segments=ids, baseline="inpaint")
    truth = shapley(value, 6)
    np.testing.assert_allclose(done.attribution[0, 0], truth[ids], atol=1e-4)
    drops = linear(w).explain(x, method="feature-ablation", segments=ids, fill="inpaint")
    everything = np.ones((1, 6), bool)
    expected = value(everything) - value(~np.eye(6, dtype=bool))
    np.testing.assert_allclose(drops.attribution[0, 0], expected[ids], atol=1e-4)


def test_a_straight_series_misses_nothing() -> None:
    x = np.linspace(1, 5, 40, dtype=np.float32).reshape(1, 1, 40)
    done = linear(weights_of(1, 40)).explain(x, method="occlusion", window=5, stride=5, fill="inpaint")
    np.testing.assert_allclose(done.attribution[0, 0, 5:35], 0, atol=1e-5)
    assert np.abs(done.attribution[0, 0, :5]).min() > 1e-3


# --- what doesn't fit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "shape", "fill", "code"),
    [
        ("rise", (3, 8, 8), "inpaint", "fill.unsuitable"),
        ("bubbles", (3, 8, 8), "inpaint", "fill.unsuitable"),
        ("meaningful-perturbation", (3, 8, 8), "inpaint", "fill.unsuitable"),
        ("kernel-shap", (5,), "inpaint", "fill.unsuitable"),
        ("occlusion", (5,), "inpaint", "fill.unsuitable"),
        ("meaningful-perturbation", (5,), np.zeros((4, 5)), "fill.unsuitable"),
        ("occlusion", (5,), np.zeros((4, 6)), "fill.bad_shape"),
        ("kernel-shap", (5,), np.full((4, 5), np.nan), "params.nonfinite"),
        ("lime", (3, 8, 8), np.zeros((2, 7)), "fill.bad_shape"),
        ("lime", (3, 8, 8), "image:", "fill.unknown"),
        ("lime", (3, 8, 8), "samples", "fill.unknown"),
        ("occlusion", (3, 8, 8), "inpainted", "fill.unknown"),
        ("occlusion", (3, 8, 8), "image:/nowhere/cat.png", "data."),
        ("kernel-shap", (5,), "samples:/nowhere/train.csv", "data."),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(method: str, shape: tuple[int, ...], fill: Any, code: str) -> None:
    with pytest.raises(AnalyzerError) as caught:
        linear(weights_of(*shape)).explain(some(1, *shape), method=method, **named(method, fill))
    assert caught.value.code.startswith(code)
    assert "\n" not in caught.value.message


def test_a_file_of_another_shape_is_refused(tmp_path: Path) -> None:
    wrong, two = tmp_path / "wrong.csv", tmp_path / "two.npy"
    wrong.write_text("1,2,3\n4,5,6\n")
    np.save(two, np.zeros((2, 3, 8, 8), np.float32))
    with pytest.raises(AnalyzerError, match="shape"):
        linear(weights_of(5)).explain(some(1, 5), method="kernel-shap", baseline=f"samples:{wrong}")
    with pytest.raises(AnalyzerError, match="2 samples, not one"):
        linear(weights_of(3, 8, 8)).explain(some(1, 3, 8, 8), method="occlusion", fill=f"image:{two}")
    with pytest.raises(AnalyzerError, match="whole numbers"):
        model = linear(weights_of(4), dtype=TensorProto.INT64)
        model.explain(np.array([[1, 2, 3, 4]]), method="occlusion", fill=0.5)
