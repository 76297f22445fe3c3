"""Shapes, order, slices, padding and tensors from nothing against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper

from analyzer.errors import AnalyzerError
from tests.analyzer.importer.oracle import check, node_model, runtime, table

rng = np.random.default_rng(0)
MANY = settings(max_examples=120, deadline=None, derandomize=True)


def numbers(*shape: int, dtype: str = "float32") -> np.ndarray:
    return (np.arange(np.prod(shape, dtype=int)) - 3).reshape(shape).astype(dtype)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    ("shape", "wanted", "allowzero"),
    [
        ((2, 3, 4), (4, 6), 0),
        ((2, 3, 4), (0, -1), 0),
        ((2, 3, 4), (-1,), 0),
        ((2, 3, 4), (0, 0, 2, -1), 0),
        ((0, 3), (3, 0), 1),
        ((0, 3), (0, 5), 1),
        ((), (1, 1), 0),
        ((1,), (), 0),
        ((0, 4), (0, 2, 2), 0),
        ((0, 4), (-1, 2), 0),
    ],
)
def test_reshape(shape: tuple[int, ...], wanted: tuple[int, ...], allowzero: int) -> None:
    x, s = numbers(*shape), ints(*wanted)
    model = node_model("Reshape", {"x": x, "s": s}, initializers=("s",) if wanted else (), allowzero=allowzero)
    check(model, {"x": x, "s": s})


def test_reshape_by_attribute() -> None:
    x = numbers(2, 6)
    got = table(node_model("Reshape", {"x": x}, opset=1, shape=[0, 3, -1]), {"x": x})[0]
    np.testing.assert_array_equal(got, x.reshape(2, 3, 2))


@pytest.mark.parametrize("axis", [-3, -1, 0, 1, 2, 3])
def test_flatten(axis: int) -> None:
    x = numbers(2, 3, 4)
    check(node_model("Flatten", {"x": x}, axis=axis), {"x": x})


def test_flatten_refuses_an_axis_out_of_range() -> None:
    with pytest.raises(AnalyzerError) as problem:
        table(node_model("Flatten", {"x": numbers(2, 3)}, axis=5), {"x": numbers(2, 3)})
    assert problem.value.code == "op.bad_attribute"


@pytest.mark.parametrize("perm", [None, [0, 1, 2], [2, 0, 1], [1, 0, 2]])
@pytest.mark.parametrize("dtype", ["float32", "uint16", "bool"])
def test_transpose(perm: list[int] | None, dtype: str) -> None:
    x = numbers(2, 3, 4, dtype=dtype)
    check(node_model("Transpose", {"x": x}, **({} if perm is None else {"perm": perm})), {"x": x})


@pytest.mark.parametrize("axes", [None, [0], [-1], [0, 2], [2, 0]])
@pytest.mark.parametrize("opset", [11, 13])
def test_squeeze(axes: list[int] | None, opset: int) -> None:
    x = numbers(1, 3, 1)
    if opset < 13:
        check(node_model("Squeeze", {"x": x}, opset=opset, **({} if axes is None else {"axes": axes})), {"x": x})
        return
    feed = {"x": x} if axes is None else {"x": x, "a": ints(*axes)}
    check(node_model("Squeeze", feed, opset=opset), feed)


def test_squeeze_refuses_a_longer_axis() -> None:
    with pytest.raises(AnalyzerError) as problem:
        table(node_model("Squeeze", {"x": numbers(2, 1)}, opset=11, axes=[0]), {"x": numbers(2, 1)})
    assert problem.value.code == "op.bad_attribute"


@pytest.mark.parametrize("axes", [[0], [-1], [0, 4], [3, 1], [-1, -3]])
@pytest.mark.parametrize("opset", [11, 13])
def test_unsqueeze(axes: list[int], opset: int) -> None:
    x = numbers(2, 3, 4)
    if opset < 13:
        check(node_model("Unsqueeze", {"x": x}, opset=opset, axes=axes), {"x": x})
    else:
        check(node_model("Unsqueeze", {"x": x, "a": ints(*axes)}, opset=opset), {"x": x, "a": ints(*axes)})


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "uint8", "uint32"])
def test_concat(axis: int, dtype: str) -> None:
    feed = {"a": numbers(2, 3, dtype=dtype), "b": numbers(2, 3, dtype=dtype), "c": numbers(2, 3, dtype=dtype)}
    check(node_model("Concat", feed, axis=axis), feed)
    check(node_model("Concat", {"a": feed["a"]}, axis=axis), {"a": feed["a"]})


@pytest.mark.parametrize(
    ("opset", "outputs", "sizes", "attributes"),
    [
        (11, 3, None, {}),
        (11, 2, [4, 2], {}),
        (13, 3, None, {"axis": 1}),
        (13, 2, [1, 5], {"axis": 1}),
        (13, 2, [0, 6], {"axis": 1}),
        (18, 2, None, {"axis": -1, "num_outputs": 2}),
        (18, 3, [1, 2, 3], {"axis": 1}),
    ],
)
def test_split(opset: int, outputs: int, sizes: list[int] | None, attributes: dict[str, int]) -> None:
    x = numbers(6, 6)
    if opset < 13 and sizes:
        check(node_model("Split", {"x": x}, outputs, opset, split=sizes, **attributes), {"x": x})
        return
    feed = {"x": x} if sizes is None else {"x": x, "s": ints(*sizes)}
    check(node_model("Split", feed, outputs, opset, **attributes), feed)


def test_split_with_a_smaller_last_part() -> None:
    x = numbers(2, 7)
    check(node_model("Split", {"x": x}, 4, 18, axis=1, num_outputs=4), {"x": x})


def test_split_refuses_uneven_parts_before_opset_18() -> None:
    with pytest.raises(AnalyzerError):
        table(node_model("Split", {"x": numbers(5)}, 2, 13), {"x": numbers(5)})


@pytest.mark.parametrize(("shape", "wanted"), [((3, 1), (2, 3, 4)), ((3, 1), (1, 4)), ((3, 4), (1,)), ((1,), (0,))])
def test_expand(shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    x, s = numbers(*shape), ints(*wanted)
    check(node_model("Expand", {"x": x, "s": s}, initializers=("s",)), {"x": x})


@pytest.mark.parametrize("repeats", [(1, 1), (2, 3), (0, 2)])
def test_tile(repeats: tuple[int, ...]) -> None:
    x, r = numbers(2, 3), ints(*repeats)
    check(node_model("Tile", {"x": x, "r": r}), {"x": x, "r": r})


@pytest.mark.parametrize(("start", "end"), [(0, None), (1, None), (-1, None), (0, -1), (1, 2), (-10, 10), (2, 1)])
def test_shape_of(start: int, end: int | None) -> None:
    x = numbers(2, 3, 4)
    check(node_model("Shape", {"x": x}, start=start, **({} if end is None else {"end": end})), {"x": x})
    check(node_model("Size", {"x": x}), {"x": x})


@st.composite
def slices(draw: st.DrawFn) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    shape = tuple(draw(st.lists(st.integers(0, 6), min_size=1, max_size=3)))
    axes = draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, max_size=len(shape), unique=True))
    bound = st.one_of(st.integers(-9, 9), st.sampled_from([2**31 - 1, -(2**31), 2**63 - 1, -(2**63)]))
    return numbers(*shape), {
        "starts": ints(*(draw(bound) for _ in axes)),
        "ends": ints(*(draw(bound) for _ in axes)),
        "axes": ints(*(a - len(shape) * draw(st.integers(0, 1)) for a in axes)),
        "steps": ints(*(draw(st.sampled_from([1, 1, 2, 3, -1, -2, -3, 7])) for _ in axes)),
    }


@MANY
@given(slices())
def test_slice(case: tuple[np.ndarray, dict[str, np.ndarray]]) -> None:
    x, arguments = case
    feed = {"x": x, **arguments}
    check(node_model("Slice", feed, opset=13, initializers=tuple(arguments)), feed)


@MANY
@given(slices())
def test_slice_by_attributes(case: tuple[np.ndarray, dict[str, np.ndarray]]) -> None:
    x, arguments = case
    attributes = {k: v.tolist() for k, v in arguments.items() if k != "steps"}
    check(node_model("Slice", {"x": x}, opset=9, **attributes), {"x": x})


@st.composite
def pads(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, str]:
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    mode = draw(st.sampled_from(["constant", "constant", "reflect", "edge", "wrap"]))
    axes = None
    if draw(st.booleans()):
        axes = draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, max_size=len(shape), unique=True))
    along = list(range(len(shape))) if axes is None else axes
    low = -1 if mode == "constant" else 0
    amount = [draw(st.integers(low, max(shape[a % len(shape)] - 1, 0))) for a in along * 2]
    return numbers(*shape), ints(*amount), None if axes is None else ints(*axes), mode


@MANY
@given(pads(), st.sampled_from(["float32", "float64", "int32", "int64", "uint8", "bool"]))
def test_pad(case: tuple[np.ndarray, np.ndarray, np.ndarray | None, str], dtype: str) -> None:
    x, amounts, axes, mode = case
    x = x.astype(dtype)
    final = np.array(x.shape)
    along = range(x.ndim) if axes is None else axes
    for i, axis in enumerate(along):
        final[axis] += amounts[i] + amounts[i + len(amounts) // 2]
    assume((final >= 0).all())
    feed = {"x": x, "p": amounts, "v": np.array(1, dtype)}
    if axes is not None:
        feed["axes"] = axes
    check(
        node_model("Pad", feed, opset=19, initializers=("p", "v", "axes") if "axes" in feed else ("p", "v"), mode=mode),
        feed,
    )


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
@pytest.mark.parametrize("amounts", [(-1, 2), (2, -1), (-2, 0)])
def test_pad_and_crop_at_once(mode: str, amounts: tuple[int, int]) -> None:
    x, p = numbers(2, 6), ints(0, amounts[0], 0, amounts[1])
    check(node_model("Pad", {"x": x, "p": p}, opset=19, mode=mode), {"x": x, "p": p})


@pytest.mark.parametrize("mode", ["reflect", "wrap"])
def test_pad_by_more_than_the_tensor_has(mode: str) -> None:
    x, p = numbers(3), ints(7, 8)
    expected = np.pad(x, (7, 8), mode=mode)  # type: ignore[call-overload]
    np.testing.assert_array_equal(table(node_model("Pad", {"x": x, "p": p}, mode=mode), {"x": x, "p": p})[0], expected)


@pytest.mark.parametrize("opset", [2, 10])
@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
def test_pad_by_attributes(opset: int, mode: str) -> None:
    x = numbers(2, 3, 4)
    model = node_model("Pad", {"x": x}, opset=opset, pads=[0, 1, 2, 0, 1, 1], mode=mode, value=1.5)
    if opset > 6:
        check(model, {"x": x})
    more = {"constant_values": 1.5} if mode == "constant" else {}
    expected = np.pad(x, [(0, 0), (1, 1), (2, 1)], mode, **more)  # type: ignore[call-overload]
    np.testing.assert_array_equal(table(model, {"x": x})[0], expected)


@pytest.mark.parametrize(("wanted", "axes"), [((5, 3), None), ((2, 7), None), ((4,), [1]), ((1, 1), [-1, 0])])
def test_center_crop_pad(wanted: tuple[int, ...], axes: list[int] | None) -> None:
    x, s = numbers(4, 5), ints(*wanted)
    model = node_model("CenterCropPad", {"x": x, "s": s}, **({} if axes is None else {"axes": axes}))
    check(model, {"x": x, "s": s})


@pytest.mark.parametrize(
    "value",
    [
        {"value": numpy_helper.from_array(numbers(2, 3))},
        {"value": numpy_helper.from_array(np.array(True))},
        {"value_float": 1.5},
        {"value_floats": [1.0, 2.0]},
        {"value_int": 3},
        {"value_ints": [1, 2, 3]},
    ],
    ids=lambda value: next(iter(value)),
)
def test_constant(value: dict[str, Any]) -> None:
    check(node_model("Constant", {}, **value), {})


@pytest.mark.parametrize(("indices", "shape"), [([1, 2], [4]), ([[0, 1], [1, 0]], [2, 2])])
def test_sparse_constant(indices: list[Any], shape: list[int]) -> None:
    """onnxruntime hands a sparse output out as it is; for the trace it is a dense tensor."""
    values = numpy_helper.from_array(np.array([1, 2], "f"), "s")
    sparse = onnx.helper.make_sparse_tensor(values, numpy_helper.from_array(np.array(indices)), shape)
    expected = np.zeros(shape, "f")
    expected[tuple(np.array(indices).reshape(2, len(shape)).T)] = [1, 2]
    np.testing.assert_array_equal(table(node_model("Constant", {}, sparse_value=sparse), {})[0], expected)


def test_a_constant_of_text_is_refused_by_name() -> None:
    with pytest.raises(AnalyzerError) as problem:
        table(node_model("Constant", {}, value_string="a"), {})
    assert problem.value.code == "op.unsupported"


@pytest.mark.parametrize(
    "value", [None, np.array([2], "f"), np.array([3], "i8"), np.array([True]), np.array([1], "u2")]
)
@pytest.mark.parametrize("shape", [(2, 3), (0,), ()])
def test_constant_of_shape(value: np.ndarray | None, shape: tuple[int, ...]) -> None:
    s = ints(*shape)
    attributes = {} if value is None else {"value": numpy_helper.from_array(value)}
    check(node_model("ConstantOfShape", {"s": s}, **attributes), {"s": s})


@pytest.mark.parametrize(
    ("start", "limit", "delta", "dtype"),
    [(0, 5, 1, "i8"), (10, 4, -2, "i4"), (1, 5, 2, "f4"), (0, 1, 0.1, "f4"), (3, 1, 1, "f8"), (5, 1, -0.5, "f4")],
)
def test_range(start: float, limit: float, delta: float, dtype: str) -> None:
    feed = {k: np.array(v, dtype) for k, v in (("s", start), ("l", limit), ("d", delta))}
    check(node_model("Range", feed), feed)


@pytest.mark.parametrize("dtype", [None, TensorProto.FLOAT, TensorProto.INT64, TensorProto.DOUBLE])
@pytest.mark.parametrize("k", [-5, -1, 0, 2, 9])
def test_eye(dtype: int | None, k: int) -> None:
    x = np.zeros((3, 4), np.float32)
    check(node_model("EyeLike", {"x": x}, k=k, **({} if dtype is None else {"dtype": dtype})), {"x": x})


@pytest.mark.parametrize("op", ["HannWindow", "HammingWindow", "BlackmanWindow"])
@pytest.mark.parametrize("periodic", [0, 1])
@pytest.mark.parametrize("size", [1, 2, 10])
def test_windows(op: str, periodic: int, size: int) -> None:
    n = np.array(size, np.int64)
    model = node_model(op, {"n": n}, periodic=periodic)
    assert runtime(model, {"n": n})[0].dtype == np.float32
    if size > 1 or periodic:
        check(model, {"n": n})
