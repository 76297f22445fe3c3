"""Reductions, running sums, ArgMax and TopK against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.analyzer.importer.oracle import check, node_model, table

MANY = settings(max_examples=150, deadline=None, derandomize=True)
rng = np.random.default_rng(0)

REDUCTIONS = [
    "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum",
    "ReduceLogSumExp", "ReduceSumSquare",
]  # fmt: skip


@st.composite
def reductions(draw: st.DrawFn) -> tuple[str, np.ndarray, list[int] | None, dict[str, Any]]:
    shape = tuple(draw(st.lists(st.integers(1, 4), max_size=4)))
    axes = None
    if draw(st.booleans()):
        chosen = draw(st.lists(st.integers(0, max(len(shape) - 1, 0)), max_size=len(shape), unique=True))
        axes = [a - len(shape) * draw(st.integers(0, 1)) for a in chosen]
    x = np.asarray(np.random.default_rng(draw(st.integers(0, 99))).uniform(0.5, 2, shape), np.float32)
    attributes: dict[str, Any] = {"keepdims": draw(st.integers(0, 1))}
    if draw(st.booleans()):
        attributes["noop_with_empty_axes"] = draw(st.integers(0, 1))
    return draw(st.sampled_from(REDUCTIONS)), x, axes, attributes


@MANY
@given(reductions(), st.sampled_from(["float32", "float64", "int32"]))
def test_reduction_with_axes_as_input(
    case: tuple[str, np.ndarray, list[int] | None, dict[str, Any]], dtype: str
) -> None:
    op, x, axes, attributes = case
    if dtype == "int32" and op in ("ReduceLogSum", "ReduceLogSumExp", "ReduceL2", "ReduceMean"):
        dtype = "float32"
    feed = {"x": np.asarray(x * 2).astype(dtype)}
    if axes is not None:
        feed["axes"] = np.array(axes, np.int64)
    check(node_model(op, feed, opset=18, initializers=("axes",) if axes is not None else (), **attributes), feed)


@MANY
@given(reductions())
def test_reduction_with_axes_as_attribute(case: tuple[str, np.ndarray, list[int] | None, dict[str, Any]]) -> None:
    op, x, axes, attributes = case
    attributes = {"keepdims": attributes["keepdims"]} | ({"axes": axes} if axes else {})
    check(node_model(op, {"x": x}, opset=11, **attributes), {"x": x})


@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axis", [1, 2])
def test_reduction_of_nothing(op: str, keepdims: int, axis: int) -> None:
    x, axes = np.zeros((2, 0, 3), np.float32), np.array([axis])
    empty = {
        "ReduceSum": 0, "ReduceMean": np.nan, "ReduceMax": -np.inf, "ReduceMin": np.inf, "ReduceProd": 1, "ReduceL1": 0,
        "ReduceL2": 0, "ReduceLogSum": -np.inf, "ReduceLogSumExp": -np.inf, "ReduceSumSquare": 0,
    }  # fmt: skip
    shape = np.zeros((2, 0, 3)).sum(axis=axis, keepdims=bool(keepdims)).shape
    for record in (False, True):
        got = table(node_model(op, {"x": x, "a": axes}, opset=20, keepdims=keepdims), {"x": x, "a": axes}, record)[0]
        np.testing.assert_array_equal(got, np.full(shape, empty[op], np.float32))


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "bool"])
def test_extremes_of_other_types(op: str, dtype: str) -> None:
    x, axes = rng.integers(0, 100, (3, 4)).astype(dtype), np.array([1])
    if dtype == "bool":
        x[0], x[1] = True, False
    check(node_model(op, {"x": x, "a": axes}, opset=20), {"x": x, "a": axes})


def test_mean_of_integers_is_cut() -> None:
    x, axes = np.array([[-3, -4], [3, 4]], np.int32), np.array([1])
    check(node_model("ReduceMean", {"x": x, "a": axes}, opset=18), {"x": x, "a": axes})


@pytest.mark.parametrize("op", ["ReduceL2", "ReduceMean", "ReduceSum"])
@pytest.mark.parametrize("dtype", ["int32"])
def test_integer_reductions(op: str, dtype: str) -> None:
    x = rng.integers(-9, 9, (3, 5)).astype(dtype)
    check(node_model(op, {"x": x}, opset=18), {"x": x})


@st.composite
def running(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    dtype = draw(st.sampled_from(["float32", "float64", "int32", "int64"]))
    x = rng.integers(-5, 5, shape).astype(dtype)
    kind = draw(st.sampled_from([np.int32, np.int64]))
    return x, np.array(axis, kind), {k: draw(st.integers(0, 1)) for k in ("exclusive", "reverse")}


@MANY
@given(running())
def test_running_sum(case: tuple[np.ndarray, np.ndarray, dict[str, int]]) -> None:
    x, axis, attributes = case
    check(node_model("CumSum", {"x": x, "axis": axis}, opset=14, **attributes), {"x": x, "axis": axis})


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("axis", [0, -1])
def test_running_product(exclusive: int, reverse: int, axis: int) -> None:
    x, a = rng.uniform(0.5, 2, (3, 4)).astype("f"), np.array(axis)
    model = node_model("CumProd", {"x": x, "a": a}, opset=26, exclusive=exclusive, reverse=reverse)
    ordered = np.flip(x, axis) if reverse else x
    if exclusive:
        ordered = np.insert(np.delete(ordered, -1, axis), 0, 1, axis)
    expected = np.cumprod(ordered, axis)
    expected = np.flip(expected, axis) if reverse else expected
    for record in (False, True):
        np.testing.assert_allclose(table(model, {"x": x, "a": a}, record)[0], expected, rtol=1e-5)


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int8", "uint8"])
def test_position_of_the_extreme(op: str, last: int, axis: int, keepdims: int, dtype: str) -> None:
    x = rng.integers(0, 3, (4, 5, 6)).astype(dtype)
    check(node_model(op, {"x": x}, axis=axis, keepdims=keepdims, select_last_index=last), {"x": x})


def test_position_of_the_extreme_of_large_unsigned_numbers() -> None:
    x = np.array([[2**63 + 5, 3, 2**63 + 5, 7]], np.uint64)
    got = table(node_model("ArgMax", {"x": x}, axis=1), {"x": x})[0]
    np.testing.assert_array_equal(got, [[0]])
    assert got.dtype == np.int64


@st.composite
def top(draw: st.DrawFn) -> tuple[np.ndarray, int, dict[str, int]]:
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=3)))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    dtype = draw(st.sampled_from(["float32", "float64", "int32", "int64"]))
    x = np.random.default_rng(draw(st.integers(0, 99))).integers(-3, 4, shape).astype(dtype)
    return x, draw(st.integers(0, shape[axis])), {"axis": axis, "largest": draw(st.integers(0, 1))}


@MANY
@given(top())
def test_top_k_takes_equal_numbers_by_index(case: tuple[np.ndarray, int, dict[str, int]]) -> None:
    x, k, attributes = case
    feed = {"x": x, "k": np.array([k])}
    check(node_model("TopK", feed, 2, 11, initializers=("k",), **attributes), feed)


def test_top_k_of_older_opsets() -> None:
    x = rng.normal(size=(3, 5)).astype("f")
    check(node_model("TopK", {"x": x}, 2, 9, k=2, axis=1), {"x": x})
    feed = {"x": x, "k": np.array([2])}
    check(node_model("TopK", feed, 2, 10, axis=0), feed)


def test_top_k_of_large_unsigned_numbers() -> None:
    x = np.array([1, 2**63 + 1, 2**64 - 1, 2**62], np.uint64)
    values, indices = table(node_model("TopK", {"x": x, "k": np.array([3])}, 2, 24), {"x": x, "k": np.array([3])})
    np.testing.assert_array_equal(values, x[[2, 1, 3]])
    np.testing.assert_array_equal(indices, [2, 1, 3])


@pytest.mark.parametrize("largest", [0, 1])
def test_unsorted_top_k_has_the_same_members(largest: int) -> None:
    x = rng.permutation(20).astype("f")
    feed = {"x": x, "k": np.array([7])}
    got = table(node_model("TopK", feed, 2, 11, sorted=0, largest=largest), feed)
    assert set(got[0]) == set(np.sort(x)[-7:] if largest else np.sort(x)[:7])
    np.testing.assert_array_equal(x[got[1]], got[0])
