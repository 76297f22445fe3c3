"""Occlusion against what is known: linear models in closed form, a naive loop, captum."""

from __future__ import annotations

import io
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

import analyzer
from analyzer.errors import UsageError
from analyzer.inputs import Preprocess
from tests.analyzer.methods.linear import Array, linear, weights_of
from tests.common.models import assemble


def inputs(*shape: int, seed: int = 9) -> Array:
    """A batch of values."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def naive(drop: Array, axes: tuple[int, ...], window: tuple[int, ...], stride: tuple[int, ...]) -> Array:
    """Occlusion of a linear model, element by element.

    Parameters
    ----------
    drop
        w * (x - fill), batch first: how much of the score each element holds.
    axes
        The axes that windows move over; the others are replaced together.
    """
    others = tuple(a for a in range(1, drop.ndim) if a not in axes)
    amount = drop.sum(axis=others, keepdims=True)
    total, count = np.zeros(amount.shape), np.zeros(amount.shape)
    starts = []
    for axis, size, step in zip(axes, window, stride, strict=True):
        side, at = drop.shape[axis], [0]
        while at[-1] + size < side and at[-1] + step < side:
            at.append(at[-1] + step)
        starts.append(at)
    for corner in itertools.product(*starts):
        index: list[Any] = [slice(None)] * drop.ndim
        for axis, begin, size in zip(axes, corner, window, strict=True):
            index[axis] = slice(begin, begin + size)
        inside = amount[tuple(index)]
        total[tuple(index)] += inside.reshape(len(drop), -1).sum(axis=1).reshape(-1, *[1] * (drop.ndim - 1))
        count[tuple(index)] += 1
    return total / np.maximum(count, 1)


def check(x: Array, w: Array, axes: tuple[int, ...], window: Any, stride: Any, fill: float = 0.0) -> Array:
    """Assert that the method gives what the naive loop gives; returns the map."""
    done = linear(w).explain(x, method="occlusion", window=window, stride=stride, fill=fill)
    sizes, steps = (tuple([v] * len(axes)) if isinstance(v, int) else tuple(v) for v in (window, stride))
    expected = naive((x - fill).astype(np.float64) * w, axes, sizes, steps)
    np.testing.assert_allclose(done.attribution, expected, rtol=1e-4, atol=1e-4)
    return done.attribution


# --- linear models --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "stride"),
    [
        (1, 1),
        (2, 2),
        (3, 1),
        (3, 2),
        (4, 3),
        (8, 8),
        (20, 1),
        ((2, 3), (1, 2)),
        ([3, 1], [3, 1]),
        (2, 5),
        (1, 3),
        (7, 5),
    ],
)
def test_pictures(window: Any, stride: Any) -> None:
    found = check(inputs(2, 3, 8, 9), weights_of(3, 8, 9), (2, 3), window, stride)
    assert found.shape == (2, 1, 8, 9)


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (4, 2), (5, 3), (16, 4), (3, 7)])
def test_series(window: int, stride: int) -> None:
    assert check(inputs(2, 2, 16), weights_of(2, 16), (2,), window, stride).shape == (2, 1, 16)


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (2, 1), (3, 2), (6, 6)])
def test_table_columns(window: int, stride: int) -> None:
    assert check(inputs(3, 6), weights_of(6), (1,), window, stride).shape == (3, 6)


def columns_apart(count: int) -> analyzer.Model:
    """A linear table model, 2 a - 3 b + ..., whose columns are inputs of rank 1."""
    nodes = [
        *(helper.make_node("Mul", [f"c{i}", f"w{i}"], [f"p{i}"], name=f"times{i}") for i in range(count)),
        helper.make_node("Sum", [f"p{i}" for i in range(count)], ["sum"], name="sum"),
        helper.make_node("Unsqueeze", ["sum", "last"], ["y"], name="widen"),
    ]
    weights = {f"w{i}": np.float32((i + 2) * (-1) ** i) for i in range(count)}
    shapes: dict[str, Any] = {f"c{i}": (TensorProto.FLOAT, ["n"]) for i in range(count)}
    proto = assemble(nodes, shapes, {"y": (TensorProto.FLOAT, ["n", 1])}, {**weights, "last": np.array([1], np.int64)})
    return analyzer.load(proto)


@pytest.mark.parametrize("count", [1, 3])
def test_columns_that_are_inputs_of_rank_1(count: int) -> None:
    feed = {f"c{i}": inputs(4, seed=i) for i in range(count)}
    found = columns_apart(count).explain(feed, "occlusion")
    assert found.attributions.keys() == feed.keys()
    for i, value in enumerate(feed.values()):
        want = value * (i + 2) * (-1) ** i
        np.testing.assert_allclose(found.attributions[f"c{i}"], want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["rise", "bubbles"])
@pytest.mark.parametrize("count", [1, 3])
def test_masks_of_inputs_of_rank_1_are_refused_in_a_line(method: str, count: int) -> None:
    feed = {f"c{i}": inputs(2, seed=i) for i in range(count)}
    with pytest.raises(UsageError) as caught:
        columns_apart(count).explain(feed, method)
    assert caught.value.code == "input.no_axes"
    assert "\n" not in str(caught.value)


def test_a_window_of_two_axes_over_columns_is_refused() -> None:
    feed = {f"c{i}": inputs(2, seed=i) for i in range(3)}
    with pytest.raises(UsageError, match="window"):
        columns_apart(3).explain(feed, "occlusion", window=(2, 2))


def test_volumes() -> None:
    check(inputs(1, 2, 4, 5, 6), weights_of(2, 4, 5, 6), (2, 3, 4), (2, 3, 2), (2, 2, 1))


def test_channels_last() -> None:
    found = check(inputs(2, 8, 9, 3), weights_of(8, 9, 3), (1, 2), (3, 2), (2, 2))
    assert found.shape == (2, 8, 9, 1)


def test_long_series_with_few_channels_last() -> None:
    assert check(inputs(2, 16, 2), weights_of(16, 2), (1,), 4, 2).shape == (2, 16, 1)


def test_the_preprocessing_says_where_the_channels_are() -> None:
    """Five channels last aren't guessed; the preprocessing knows."""
    w, x = weights_of(8, 9, 5), inputs(1, 8, 9, 5)
    model = linear(w)
    model.layouts.clear()
    guessed = model.explain(x, method="occlusion", window=2, stride=2)
    assert guessed.attribution.shape == (1, 1, 9, 5)
    assert "guessed" in guessed.record["notes"][0]
    model.preprocess = Preprocess(layout="NHWC")
    declared = model.explain(x, method="occlusion", window=2, stride=2)
    np.testing.assert_allclose(declared.attribution, naive(x * w, (1, 2), (2, 2), (2, 2)), rtol=1e-4, atol=1e-4)


def test_windows_further_apart_than_wide_leave_zeros() -> None:
    found = check(inputs(1, 1, 9, 9), weights_of(1, 9, 9), (2, 3), 2, 4)
    covered = np.zeros((9, 9), bool)
    for row, column in itertools.product((0, 4, 8), (0, 4, 8)):
        covered[row : row + 2, column : column + 2] = True
    assert (found[0, 0][~covered] == 0).all()
    assert (found[0, 0][covered] != 0).all()


def test_no_window_lies_beyond_the_border() -> None:
    done = linear(weights_of(10)).explain(inputs(1, 10), method="occlusion", window=2, stride=5)
    assert done.record["windows"] == 2
    assert done.record["evaluations"] == 2


@given(
    st.integers(1, 9), st.integers(1, 9), st.tuples(st.integers(1, 10), st.integers(1, 10)),
    st.tuples(st.integers(1, 10), st.integers(1, 10)),
)  # fmt: skip
@settings(deadline=None, max_examples=25)
def test_any_window_and_stride(height: int, width: int, window: tuple[int, int], stride: tuple[int, int]) -> None:
    check(inputs(1, 3, height, width), weights_of(3, height, width), (2, 3), window, stride)


# --- fills ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fill", [0.0, 1.5, -2, "0.25"])
def test_a_number_replaces_the_window(fill: Any) -> None:
    x, w = inputs(2, 6), weights_of(6)
    done = linear(w).explain(x, method="occlusion", window=1, fill=fill)
    np.testing.assert_allclose(done.attribution, (x - float(fill)) * w, rtol=1e-4, atol=1e-5)


def test_the_mean_of_each_sample_and_channel_replaces_it() -> None:
    x, w = inputs(2, 3, 4, 4), weights_of(3, 4, 4)
    done = linear(w).explain(x, method="occlusion", window=1, stride=1, fill="mean")
    mean = x.mean(axis=(2, 3), keepdims=True)
    np.testing.assert_allclose(done.attribution, ((x - mean) * w).sum(axis=1, keepdims=True), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("fill", ["blur", "noise", "zero", "blur:0.2"])
def test_named_fills_are_those_of_the_inputs_room(fill: str) -> None:
    from analyzer.inputs import fill as filled

    x, w = inputs(2, 3, 4, 4), weights_of(3, 4, 4)
    done = linear(w).explain(x, method="occlusion", window=1, stride=1, fill=fill, seed=4)
    drop = (x - filled(x, fill, layout="CHW", seed=4)) * w
    np.testing.assert_allclose(done.attribution, drop.sum(axis=1, keepdims=True), rtol=1e-3, atol=1e-4)


def test_whole_numbers_are_replaced_by_whole_numbers() -> None:
    x, w = np.array([[3, 1, 4, 1, 5]]), weights_of(5)
    model = linear(w, dtype=TensorProto.INT64)
    done = model.explain(x, method="occlusion", fill=2)
    np.testing.assert_allclose(done.attribution, (x - 2) * w, rtol=1e-5)
    with pytest.raises(UsageError) as caught:
        model.explain(x, method="occlusion", fill="mean")
    assert caught.value.code == "params.invalid"


# --- defaults and faults --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "windows"),
    [((3, 16, 16), 15 * 15), ((3, 64, 32), 15 * 15), ((2, 32), 32), ((2, 160), 15), ((10,), 10), ((200,), 16)],
)
def test_windows_suit_the_input_by_default(shape: tuple[int, ...], windows: int) -> None:
    done = linear(weights_of(*shape)).explain(inputs(1, *shape), method="occlusion")
    assert done.record["windows"] == windows
    assert (done.attribution != 0).all()


@pytest.mark.parametrize(
    "params",
    [
        {"window": 0}, {"window": -1}, {"window": (1, 2, 3)}, {"window": []}, {"stride": 0}, {"stride": (1,)},
        {"window": (1, 0)}, {"window": "wide"}, {"window": 1.5}, {"fill": None}, {"fill": "chequered"},
        {"fill": float("nan")},
    ],
)  # fmt: skip
def test_wrong_parameters_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        linear(weights_of(3, 4, 4)).explain(inputs(1, 3, 4, 4), method="occlusion", **params)
    assert caught.value.code in ("params.invalid", "params.nonfinite", "fill.unknown", "fill.nonfinite")


def test_progress_counts_evaluations() -> None:
    steps: list[tuple[int, int]] = []
    done = linear(weights_of(1, 4, 4)).explain(
        inputs(2, 1, 4, 4), method="occlusion", window=2, progress=lambda at, of: steps.append((at, of))
    )
    total = done.record["evaluations"]
    assert steps == [(i, total) for i in range(1, total + 1)]


def test_many_windows_run_in_batches_of_bounded_size() -> None:
    w = weights_of(1, 12, 12)
    model = linear(w)
    check(inputs(1, 1, 12, 12), w, (2, 3), 1, 1)  # 144 windows: more than one batch
    for times in (1, 2):
        before = model.session().evaluations
        model.explain(inputs(1, 1, 12, 12), method="occlusion", window=1, stride=1)
        assert model.session_pool.evaluations == 144 * times
    assert model.session().evaluations == before + 1  # the first call has looked whether rows depend on each other


# --- captum ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "stride"), [((3, 3), (1, 1)), ((2, 4), (2, 2)), ((3, 3), (3, 3)), ((4, 4), (3, 2)), ((5, 1), (4, 1))]
)
def test_equals_captum_on_a_torch_network(window: tuple[int, int], stride: tuple[int, int]) -> None:
    pytest.importorskip("captum")
    import torch
    from captum.attr import Occlusion

    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(),
        torch.nn.Linear(6 * 5 * 4, 4),
    ).eval()  # fmt: skip
    x = torch.from_numpy(inputs(2, 3, 10, 8))
    file = io.BytesIO()
    torch.onnx.export(net, (x,), file, dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "n"}})
    model = analyzer.load(file.getvalue(), "cpu", threads=1)
    with torch.no_grad():
        expected = Occlusion(net).attribute(
            x, target=torch.tensor([1, 3]), sliding_window_shapes=(3, *window), strides=(3, *stride), baselines=0.3
        )
    done = model.explain(x.numpy(), method="occlusion", target=[1, 3], window=window, stride=stride, fill=0.3)
    wanted = expected[:, :1].numpy()
    np.testing.assert_allclose(done.attribution, wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())


def test_torch_stays_out() -> None:
    import subprocess
    import sys

    modules = "analyzer.executor.incremental, analyzer.methods.perturbation.occlusion"
    code = f"import sys, numpy as np, {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
