"""Taking and writing elements by index, and choices that depend on the data, against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from analyzer.importer.conversion import as_tensor
from analyzer.importer.graph import build
from analyzer.importer.interpreter import Interpreter, run_graph
from analyzer.importer.recorder import Recorder
from tests.analyzer.importer.oracle import check, node_model, runtime, table

MANY = settings(max_examples=120, deadline=None, derandomize=True)
DTYPES = ["float32", "float64", "int32", "int64", "uint8"]


def numbers(shape: tuple[int, ...], dtype: str = "float32") -> np.ndarray:
    return (np.arange(np.prod(shape, dtype=int)) % 100).reshape(shape).astype(dtype)


def drawn_indices(draw: st.DrawFn, shape: tuple[int, ...], size: int, signed: bool = True) -> np.ndarray:
    seed = draw(st.integers(0, 9999))
    low = -size if signed and draw(st.booleans()) else 0
    return np.random.default_rng(seed).integers(low, size, shape).astype(draw(st.sampled_from([np.int32, np.int64])))


@st.composite
def gathers(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    wanted = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    return numbers(shape, draw(st.sampled_from(DTYPES))), drawn_indices(draw, wanted, shape[axis]), axis


@MANY
@given(gathers(), st.booleans(), st.booleans())
def test_gather(case: tuple[np.ndarray, np.ndarray, int], baked_data: bool, baked_indices: bool) -> None:
    x, indices, axis = case
    baked = ("x",) * baked_data + ("i",) * baked_indices
    check(node_model("Gather", {"x": x, "i": indices}, initializers=baked, axis=axis), {"x": x, "i": indices})


@st.composite
def element_gathers(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    wanted = [draw(st.integers(1, n)) for n in shape]
    wanted[axis] = draw(st.integers(1, 6))
    return numbers(shape, draw(st.sampled_from(DTYPES))), drawn_indices(draw, tuple(wanted), shape[axis]), axis


@MANY
@given(element_gathers())
def test_gather_elements(case: tuple[np.ndarray, np.ndarray, int]) -> None:
    x, indices, axis = case
    check(node_model("GatherElements", {"x": x, "i": indices}, axis=axis), {"x": x, "i": indices})


@st.composite
def tuple_gathers(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    batch = draw(st.integers(0, len(shape) - 1))
    depth = draw(st.integers(1, len(shape) - batch))
    places = shape[:batch] + tuple(draw(st.lists(st.integers(1, 3), max_size=2)))
    columns = [drawn_indices(draw, places, n).astype(np.int64) for n in shape[batch : batch + depth]]
    return numbers(shape, draw(st.sampled_from(DTYPES))), np.stack(columns, -1), batch


@MANY
@given(tuple_gathers())
def test_gather_nd(case: tuple[np.ndarray, np.ndarray, int]) -> None:
    x, indices, batch = case
    check(node_model("GatherND", {"x": x, "i": indices}, batch_dims=batch), {"x": x, "i": indices})


REDUCTIONS = ["none", "add", "mul", "max", "min"]


@st.composite
def element_scatters(draw: st.DrawFn) -> tuple[dict[str, np.ndarray], int, str]:
    x, indices, axis = draw(element_gathers())
    reduction = draw(st.sampled_from(REDUCTIONS))
    if reduction == "none":  # equal targets have no defined order: keep those of a permutation
        size = x.shape[axis]
        shape = list(indices.shape)
        shape[axis] = min(shape[axis], size)
        order = np.random.default_rng(draw(st.integers(0, 99))).permuted(
            np.broadcast_to(np.expand_dims(np.arange(size), tuple(range(1, x.ndim))).swapaxes(0, axis), x.shape),
            axis=axis,
        )
        indices = order[tuple(slice(n) for n in shape)].astype(indices.dtype)
    updates = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 9, indices.shape).astype(x.dtype)
    return {"x": x, "i": indices, "u": updates}, axis, reduction


@MANY
@given(element_scatters())
def test_scatter_elements(case: tuple[dict[str, np.ndarray], int, str]) -> None:
    feed, axis, reduction = case
    check(node_model("ScatterElements", feed, opset=18, axis=axis, reduction=reduction), feed)


def test_scatter_of_older_opsets() -> None:
    feed = {"x": numbers((3, 4)), "i": np.array([[0, 2]]), "u": np.array([[7, 8]], "f")}
    check(node_model("Scatter", feed, opset=9, axis=1), feed)
    check(node_model("ScatterElements", feed, opset=11, axis=0), feed)


@st.composite
def tuple_scatters(draw: st.DrawFn) -> tuple[dict[str, np.ndarray], str]:
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    depth = draw(st.integers(1, len(shape)))
    reduction = draw(st.sampled_from(REDUCTIONS))
    generator = np.random.default_rng(draw(st.integers(0, 999)))
    cells = int(np.prod(shape[:depth]))
    count = draw(st.integers(1, min(cells, 5)))
    flat = generator.choice(cells, count, replace=reduction != "none")
    indices = np.stack(np.unravel_index(flat, shape[:depth]), -1)
    if draw(st.booleans()):
        indices = indices - np.array(shape[:depth])
    x = numbers(shape, draw(st.sampled_from(["float32", "float64", "int32", "int64"])))
    updates = generator.integers(0, 9, (count, *shape[depth:])).astype(x.dtype)
    return {"x": x, "i": indices.astype(np.int64), "u": updates}, reduction


@MANY
@given(tuple_scatters())
def test_scatter_nd(case: tuple[dict[str, np.ndarray], str]) -> None:
    feed, reduction = case
    check(node_model("ScatterND", feed, opset=18, reduction=reduction), feed)


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64"])
def test_large_unsigned_numbers_move_unchanged(dtype: str) -> None:
    top = np.iinfo(dtype).max
    x, i = np.array([top, 1, top - 1], dtype), np.array([2, 0, -1])
    np.testing.assert_array_equal(table(node_model("Gather", {"x": x, "i": i}), {"x": x, "i": i})[0], x[i])
    np.testing.assert_array_equal(table(node_model("GatherElements", {"x": x, "i": i}), {"x": x, "i": i})[0], x[i])
    feed = {"x": x, "i": np.array([[1]]), "u": np.array([top], dtype)}
    got = table(node_model("ScatterND", feed, reduction="max"), feed)[0]
    np.testing.assert_array_equal(got, [top, top, top - 1])
    assert got.dtype == dtype


@pytest.mark.parametrize("op", ["ScatterElements", "ScatterND"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64"])
def test_scatter_of_unsigned_numbers(op: str, reduction: str, dtype: str) -> None:
    """Against numpy, as onnxruntime has few of these."""
    top = int(np.iinfo(dtype).max)
    x, updates = np.array([top - 3, 5, 7], dtype), np.array([top - 1, 3], dtype)
    places = np.array([0, 2])
    feed = {"x": x, "i": places if op == "ScatterElements" else places[:, None], "u": updates}
    function = {"none": lambda a, b: b, "add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}[
        reduction
    ]
    expected = x.copy()
    with np.errstate(over="ignore"):
        expected[places] = function(x[places], updates)
    got = table(node_model(op, feed, opset=18, reduction=reduction), feed)[0]
    np.testing.assert_array_equal(got, expected)
    assert got.dtype == expected.dtype


@pytest.mark.parametrize(("start", "mode"), [((0, 2), "linear"), ((3, 1), "circular"), (None, "linear")])
@pytest.mark.parametrize("axis", [-2, 1])
def test_tensor_scatter(start: tuple[int, int] | None, mode: str, axis: int) -> None:
    cache, update = np.zeros((2, 4, 3), "f"), numbers((2, 2, 3)) + 1
    feed = {"c": cache, "u": update} | ({} if start is None else {"s": np.array(start)})
    expected = cache.copy()
    for batch in range(2):
        for step in range(2):
            expected[batch, ((start or (0, 0))[batch] + step) % 4] = update[batch, step]
    for record in (False, True):
        got = table(node_model("TensorScatter", feed, opset=24, mode=mode, axis=axis), feed, record)[0]
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_compress(axis: int | None) -> None:
    feed = {"x": numbers((3, 4)), "c": np.array([False, True, True])}
    check(node_model("Compress", feed, **({} if axis is None else {"axis": axis})), feed)


@pytest.mark.parametrize("axis", [-1, 0, 1, -2])
@pytest.mark.parametrize(("kind", "out"), [("int64", "int64"), ("int64", "f4"), ("int32", "f4"), ("f4", "f4")])
def test_one_hot(axis: int, kind: str, out: str) -> None:
    feed = {"i": np.array([[0, 3, -1], [-4, 4, 9]], kind), "d": np.array(4, kind), "v": np.array([2, 5], out)}
    check(node_model("OneHot", feed, opset=11, initializers=("d",), axis=axis), feed)


@pytest.mark.parametrize(("time", "batch"), [(0, 1), (1, 0)])
def test_reverse_sequence(time: int, batch: int) -> None:
    feed = {"x": numbers((4, 4, 2)), "n": np.array([1, 2, 3, 4])}
    check(node_model("ReverseSequence", feed, time_axis=time, batch_axis=batch), feed)


@pytest.mark.parametrize("k", [None, -9, -1, 0, 2, 9])
@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_trilu(k: int | None, upper: int, dtype: str) -> None:
    feed = {"x": numbers((2, 3, 4)).astype(dtype)} | ({} if k is None else {"k": np.array(k)})
    check(node_model("Trilu", feed, upper=upper), feed)


@pytest.mark.parametrize("x", [np.array([[0, 2], [3, 0]], "f"), np.zeros(3, "i8"), np.array(5, "f"), np.array([True])])
def test_non_zero(x: np.ndarray) -> None:
    check(node_model("NonZero", {"x": x}), {"x": x})


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("in_order", [0, 1])
def test_unique(axis: int | None, in_order: int) -> None:
    x = np.array([[2, 1, 1], [0, 3, 3], [2, 1, 1]], np.float32)
    more = {} if axis is None else {"axis": axis}
    check(node_model("Unique", {"x": x}, 4, 11, sorted=in_order, **more), {"x": x})


@MANY
@given(
    seed=st.integers(0, 9999),
    centred=st.integers(0, 1),
    limit=st.integers(0, 6),
    overlap=st.sampled_from([0.0, 0.3, 0.5, 0.9]),
    least=st.sampled_from([None, 0.0, 0.4]),
)
def test_non_max_suppression(seed: int, centred: int, limit: int, overlap: float, least: float | None) -> None:
    generator = np.random.default_rng(seed)
    boxes = generator.uniform(0, 1, (2, 12, 4)).astype("f")
    scores = np.round(generator.uniform(0, 1, (2, 3, 12)), 1).astype("f")  # many equal scores
    feed = {"b": boxes, "s": scores, "m": np.array([limit]), "o": np.array([overlap], "f")}
    if least is not None:
        feed["l"] = np.array([least], "f")
    check(node_model("NonMaxSuppression", feed, opset=11, center_point_box=centred), feed)


def test_non_max_suppression_without_its_optional_inputs_keeps_nothing() -> None:
    feed = {"b": np.zeros((1, 2, 4), "f"), "s": np.ones((1, 1, 2), "f")}
    model = node_model("NonMaxSuppression", feed, opset=11)
    assert runtime(model, feed)[0].shape == table(model, feed)[0].shape == (0, 3)


@pytest.mark.parametrize("op", ["NonZero", "Unique", "NonMaxSuppression", "Compress", "Gather"])
def test_the_trace_says_whether_it_depends_on_the_data(op: str) -> None:
    feed = {
        "NonZero": {"x": numbers((3,))},
        "Unique": {"x": numbers((3,))},
        "NonMaxSuppression": {"b": np.zeros((1, 2, 4), "f"), "s": np.ones((1, 1, 2), "f")},
        "Compress": {"x": numbers((2,)), "c": np.array([True, False])},
        "Gather": {"x": numbers((3,)), "i": np.array([1])},
    }[op]
    graph = build(node_model(op, feed), numpy_helper.to_array)
    with torch.no_grad(), Recorder() as recorder:
        run_graph(graph, {k: recorder.placeholder(k, as_tensor(v)) for k, v in feed.items()}, Interpreter(recorder))
    assert recorder.data_dependent == (None if op == "Gather" else f"{op}_0")
