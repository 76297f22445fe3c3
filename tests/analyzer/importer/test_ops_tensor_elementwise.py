"""Arithmetic, comparisons, logic and bits against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import numpy_helper

from analyzer.importer.conversion import as_tensor
from analyzer.importer.graph import build
from analyzer.importer.interpreter import Interpreter, run_graph
from analyzer.importer.recorder import Recorder
from tests.analyzer.importer.oracle import check, node_model, table

rng = np.random.default_rng(0)

UNARY = {
    "Sqrt": (0, 9), "Exp": (-3, 3), "Log": (0.1, 9), "Erf": (-3, 3), "Neg": (-3, 3), "Abs": (-3, 3), "Ceil": (-3, 3),
    "Floor": (-3, 3), "Reciprocal": (0.2, 3), "Sin": (-4, 4), "Cos": (-4, 4), "Tan": (-1, 1), "Asin": (-1, 1),
    "Acos": (-1, 1), "Atan": (-4, 4), "Sinh": (-2, 2), "Cosh": (-2, 2), "Asinh": (-4, 4), "Acosh": (1, 5),
    "Atanh": (-0.9, 0.9), "Sign": (-1, 1),
}  # fmt: skip


@pytest.mark.parametrize("op", UNARY)
@pytest.mark.parametrize("shape", [(3, 4), (), (0, 2)])
def test_unary(op: str, shape: tuple[int, ...]) -> None:
    x = np.asarray(rng.uniform(*UNARY[op], shape), np.float32)
    check(node_model(op, {"x": x}), {"x": x})


@pytest.mark.parametrize("op", ["Neg", "Abs", "Sign"])
@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "float64"])
def test_unary_of_other_types(op: str, dtype: str) -> None:
    x = np.array([-5, -1, 0, 1, 7], dtype)
    check(node_model(op, {"x": x}), {"x": x})


@pytest.mark.parametrize("op", ["Abs", "Sign"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64"])
def test_unary_of_unsigned_types(op: str, dtype: str) -> None:
    x = np.array([0, 1, 7, np.iinfo(dtype).max], dtype)
    check(node_model(op, {"x": x}), {"x": x})


def test_round_goes_to_even() -> None:
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.4, 0.6], np.float32)
    check(node_model("Round", {"x": x}), {"x": x})


SHAPES = [((3, 4), (3, 4)), ((2, 3, 4), (4,)), ((1, 4), (3, 1)), ((), (2, 2)), ((2, 0), (1, 1))]


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
@pytest.mark.parametrize("shapes", SHAPES)
def test_arithmetic(op: str, dtype: str, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    a = rng.uniform(-9, 9, shapes[0]).astype(dtype)
    b = (rng.integers(1, 5, shapes[1]) * rng.choice([-1, 1], shapes[1])).astype(dtype)
    check(node_model(op, {"a": a, "b": b}), {"a": a, "b": b})


INTEGER_FUNCTIONS = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.floor_divide, "Mod": np.mod, "Max": np.maximum,
    "Min": np.minimum, "Greater": np.greater, "Less": np.less, "Equal": np.equal,
}  # fmt: skip


@pytest.mark.parametrize("op", INTEGER_FUNCTIONS)
@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "uint32", "uint64"])
def test_integers_of_every_width(op: str, dtype: str) -> None:
    high = int(np.iinfo(dtype).max)
    a = np.array([high, 0, 5, high - 1, high // 2 + 1, 17, 5], dtype)
    b = np.array([2, high, 5, high, high // 2 + 3, 5, high - 3], dtype)
    model = node_model(op, {"a": a, "b": b})
    function = INTEGER_FUNCTIONS[op]
    for record in (False, True):
        got = table(model, {"a": a, "b": b}, record)[0]
        np.testing.assert_array_equal(got, function(a, b))
        assert got.dtype == function(a, b).dtype


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_integer_division_cuts_towards_zero(dtype: str) -> None:
    a, b = np.array([-7, 7, -7, 7, -1], dtype), np.array([2, 2, -2, -2, 3], dtype)
    check(node_model("Div", {"a": a, "b": b}), {"a": a, "b": b})


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Pow"])
@pytest.mark.parametrize(("axis", "shape"), [(0, (2,)), (1, (3, 4)), (1, (3,)), (-1, (4,)), (None, (4,))])
def test_broadcasting_before_opset_7(op: str, axis: int | None, shape: tuple[int, ...]) -> None:
    a, b = rng.uniform(1, 2, (2, 3, 4)).astype("f"), rng.uniform(1, 2, shape).astype("f")
    attributes = {} if axis is None else {"axis": axis}
    model = node_model(op, {"a": a, "b": b}, opset=6, broadcast=1, **attributes)
    start = 3 - len(shape) if axis is None else axis % 3
    wide = b.reshape(b.shape + (1,) * (3 - start - b.ndim))
    function = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Pow": np.power}[op]
    for record in (False, True):
        np.testing.assert_allclose(table(model, {"a": a, "b": b}, record)[0], function(a, wide), rtol=1e-6)


@pytest.mark.parametrize("base", ["float32", "float64", "int32", "int64"])
@pytest.mark.parametrize("exponent", ["float32", "float64", "int32", "int64"])
@pytest.mark.parametrize("baked", [True, False])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 1, 1), (2, 3)])
def test_power_of_mixed_types(base: str, exponent: str, baked: bool, shape: tuple[int, ...]) -> None:
    x = rng.integers(1, 5, (2, 3)).astype(base)
    e = rng.integers(0, 4, shape).astype(exponent)
    check(node_model("Pow", {"x": x, "e": e}, initializers=("e",) if baked else ()), {"x": x, "e": e})


@pytest.mark.parametrize("e", [2.0, -1.0, 0.5, 3.0, 0.0, 2.5])
def test_power_with_a_constant_exponent_keeps_negative_bases(e: float) -> None:
    x, power = np.array([-2.0, -0.5, 1.5, 3.0], np.float32), np.array(e, np.float32)
    check(node_model("Pow", {"x": x, "e": power}, initializers=("e",)), {"x": x})


@pytest.mark.parametrize(
    ("dtype", "fmod"),
    [
        (d, f)
        for d in ("float32", "float64", "int8", "int32", "int64", "uint8")
        for f in (0, 1)
        if f or "float" not in d
    ],
)
def test_mod(dtype: str, fmod: int) -> None:
    signed = np.dtype(dtype).kind != "u"
    a = np.array([-7, 7, -7, 7, 6, 0] if signed else [7, 9, 255, 3, 6, 0], dtype)
    b = np.array([3, -3, -3, 3, 3, 5] if signed else [3, 2, 7, 5, 3, 5], dtype)
    check(node_model("Mod", {"a": a, "b": b}, opset=13, fmod=fmod), {"a": a, "b": b})


@pytest.mark.parametrize("op", ["Sum", "Mean", "Max", "Min"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_variadic(op: str, count: int) -> None:
    shapes = [(2, 3), (3,), (2, 1), (1, 1)]
    feed = {f"x{i}": rng.normal(size=shapes[i]).astype("f") for i in range(count)}
    check(node_model(op, feed), feed)


@pytest.mark.parametrize("op", ["Max", "Min"])
def test_extremes_pass_nan_on(op: str) -> None:
    a, b = np.array([np.nan, 1, np.inf, -np.inf], "f"), np.array([1, np.nan, 0, 0], "f")
    check(node_model(op, {"a": a, "b": b}), {"a": a, "b": b})


@pytest.mark.parametrize("op", ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
def test_comparisons(op: str, dtype: str) -> None:
    a, b = rng.integers(-2, 3, (2, 3, 4)).astype(dtype), rng.integers(-2, 3, (3, 1)).astype(dtype)
    check(node_model(op, {"a": a, "b": b}, opset=16), {"a": a, "b": b})


@pytest.mark.parametrize("op", ["And", "Or", "Xor", "Equal"])
def test_logic(op: str) -> None:
    a, b = rng.random((2, 3)) < 0.5, rng.random((3,)) < 0.5
    check(node_model(op, {"a": a, "b": b}), {"a": a, "b": b})


def test_not() -> None:
    x = np.array([True, False])
    check(node_model("Not", {"x": x}), {"x": x})


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8"])
def test_where(dtype: str) -> None:
    c, a, b = rng.random((2, 1, 4)) < 0.5, np.ones((3, 4), dtype), np.zeros((1,), dtype)
    check(node_model("Where", {"c": c, "a": a, "b": b}), {"c": c, "a": a, "b": b})


@pytest.mark.parametrize("positive", [0, 1])
@pytest.mark.parametrize("negative", [0, 1])
def test_infinities(positive: int, negative: int) -> None:
    x = np.array([np.inf, -np.inf, np.nan, 1], np.float32)
    check(node_model("IsInf", {"x": x}, opset=20, detect_positive=positive, detect_negative=negative), {"x": x})
    check(node_model("IsNaN", {"x": x}), {"x": x})


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"])
@pytest.mark.parametrize("op", ["BitwiseAnd", "BitwiseOr", "BitwiseXor"])
def test_bits(op: str, dtype: str) -> None:
    a = np.array([0, 1, np.iinfo(dtype).max, np.iinfo(dtype).min, 12], dtype)
    b = np.array([3, 1, 170 % np.iinfo(dtype).max, 15, 10], dtype)
    check(node_model(op, {"a": a, "b": b}), {"a": a, "b": b})
    check(node_model("BitwiseNot", {"a": a}), {"a": a})


@pytest.mark.parametrize("dtype", ["uint8", "uint32", "uint64"])
@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_shifts(dtype: str, direction: str) -> None:
    a = np.array([16, 4, 1, np.iinfo(dtype).max, np.iinfo(dtype).max], dtype)
    b = np.array([1, 2, 3, 1, 0], dtype)
    check(node_model("BitShift", {"a": a, "b": b}, direction=direction), {"a": a, "b": b})


@pytest.mark.parametrize("op", ["Add", "Mul", "Sqrt", "Exp", "MatMul", "ReduceMean", "Max"])
def test_half_precision(op: str) -> None:
    feed = {"a": rng.uniform(0.5, 2, (2, 2)).astype(np.float16), "b": rng.uniform(0.5, 2, (2, 2)).astype(np.float16)}
    feed = feed if op in ("Add", "Mul", "MatMul", "Max") else {"a": feed["a"]}
    check(node_model(op, feed), feed, rtol=2e-3)


def test_a_constant_power_is_one_scalar_operator() -> None:
    """A square must not become a logarithm of negative numbers: the trace holds ``pow.Tensor_Scalar``."""
    model = node_model("Pow", {"x": np.ones(3, "f"), "e": np.array(2, "f")}, initializers=("e",))
    with torch.no_grad(), Recorder() as recorder:
        x = recorder.placeholder("x", as_tensor(np.ones(3, "f")))
        out = run_graph(build(model, numpy_helper.to_array), {"x": x}, Interpreter(recorder))
    targets = [n.target for n in recorder.finish(out).graph.nodes if n.op == "call_function"]
    assert targets == [torch.ops.aten.pow.Tensor_Scalar]
