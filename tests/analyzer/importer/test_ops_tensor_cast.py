"""Conversions between element types against onnxruntime, and against the standard's tables where it has none."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from analyzer.errors import AnalyzerError
from tests.analyzer.importer.oracle import check, node_model, runtime, table

NUMERIC = [
    "bool",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "uint64",
    "int64",
    "float16",
    "float32",
    "float64",
]
FLOAT8 = {
    TensorProto.FLOAT8E4M3FN: 448.0,
    TensorProto.FLOAT8E4M3FNUZ: 240.0,
    TensorProto.FLOAT8E5M2: 57344.0,
    TensorProto.FLOAT8E5M2FNUZ: 57344.0,
}


def code_of(dtype: str) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def chain(x: np.ndarray, *steps: dict[str, Any], opset: int = 21) -> onnx.ModelProto:
    """A model of casts one after the other."""
    names = ["x", *(f"y{i}" for i in range(len(steps)))]
    nodes = [helper.make_node("Cast", [a], [b], **s) for a, b, s in zip(names, names[1:], steps, strict=False)]
    given = helper.make_tensor_value_info("x", code_of(str(x.dtype)), x.shape)
    graph = helper.make_graph(nodes, "g", [given], [onnx.ValueInfoProto(name=names[-1])])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


@pytest.mark.parametrize("source", NUMERIC)
@pytest.mark.parametrize("target", NUMERIC)
def test_cast_between_all_numeric_types(source: str, target: str) -> None:
    kind = np.dtype(source).kind
    numbers = {"b": [0, 1], "u": [0, 1, 2, 100], "i": [-100, -1, 0, 1, 100], "f": [0.0, 0.4, 1.6, 2.5, 100.7]}[kind]
    x = np.array(numbers, source)
    if np.dtype(target).kind in "if" and kind == "f":
        x = np.append(x, np.array([-1.5, -0.0], source))
    check(chain(x, {"to": code_of(target)}), {"x": x})


@pytest.mark.parametrize("source", ["int16", "int32", "int64", "uint16"])
@pytest.mark.parametrize("target", ["int8", "uint8", "int16", "uint16", "uint32"])
def test_integers_out_of_range_lose_their_high_bits(source: str, target: str) -> None:
    x = np.array([200, -200 if source != "uint16" else 65000, 300, 32767], source)
    check(chain(x, {"to": code_of(target)}), {"x": x})


@pytest.mark.parametrize("target", ["float16", "float64", "bool"])
def test_special_floats(target: str) -> None:
    x = np.array([np.inf, -np.inf, np.nan, 1e6, -1e-9, 0], np.float32)
    check(chain(x, {"to": code_of(target)}), {"x": x})


def test_bfloat16_rounds_to_even() -> None:
    x = np.array([1.00390625, 1.01171875, 3.14159, -2.71828, 1e38, np.nan], np.float32)
    check(chain(x, {"to": TensorProto.BFLOAT16}, {"to": TensorProto.FLOAT}), {"x": x})


def float8_numbers(code: int, source: str) -> np.ndarray:
    """Numbers in every region of the type: subnormal, normal, both sides of the last rounding boundary, beyond it."""
    top = FLOAT8[code]
    step = {TensorProto.FLOAT8E4M3FN: 32, TensorProto.FLOAT8E4M3FNUZ: 16}.get(code, 8192)
    edge = [top, top + step * 0.49, top + step * 0.5, top + step * 0.51, top + step]
    small = [0, 1e-9, 1e-3, 2**-10, 2**-11, 3 * 2**-11, 0.3, 1, 1.1, -2.7, 17, 3e4, -6e4, np.nan]
    with np.errstate(over="ignore"):
        return np.array([*edge, *small, np.inf, -np.inf], source)


@pytest.mark.parametrize("code", FLOAT8)
@pytest.mark.parametrize("source", ["float32", "float16"])
def test_float8_saturates(code: int, source: str) -> None:
    x = float8_numbers(code, source)
    check(chain(x, {"to": code}, {"to": TensorProto.FLOAT}), {"x": x})


@pytest.mark.parametrize("code", FLOAT8)
@pytest.mark.parametrize("source", ["float32", "float16"])
def test_float8_without_saturation(code: int, source: str) -> None:
    """Against the standard's table: onnxruntime gives 448 for 480 in E4M3FN, and NaN for a rounded infinity in E5M2."""
    x = float8_numbers(code, source)
    expected = x.astype(helper.tensor_dtype_to_np_dtype(code)).astype(np.float32)
    got = table(chain(x, {"to": code, "saturate": 0}, {"to": TensorProto.FLOAT}), {"x": x})[0]
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("code", [TensorProto.INT4, TensorProto.UINT4, TensorProto.INT2, TensorProto.UINT2])
@pytest.mark.parametrize("source", ["float32", "int32", "int8", "uint8"])
def test_integers_of_less_than_a_byte_keep_their_lowest_bits(code: int, source: str) -> None:
    numbers = [-100, -17, -9, -8, -3, -1, 0, 1, 2, 7, 8, 9, 15, 16, 17, 100]
    x = np.array([n for n in numbers if n >= 0 or source != "uint8"], source)
    check(chain(x, {"to": code}, {"to": TensorProto.INT32}, opset=25), {"x": x})


@pytest.mark.parametrize("code", [TensorProto.INT4, TensorProto.UINT4, TensorProto.INT2, TensorProto.UINT2])
def test_floats_round_away_from_zero_to_integers_of_less_than_a_byte(code: int) -> None:
    x = np.array([-9.6, -8.5, -2.5, -1.5, -0.6, -0.4, 0.5, 0.6, 1.5, 2.5, 3.5, 7.4, 7.6, 8.5, 15.7, 16.5], np.float32)
    check(chain(x, {"to": code}, {"to": TensorProto.INT32}, opset=25), {"x": x})


def test_four_bit_floats_lie_on_their_grid() -> None:
    x = np.linspace(-8, 8, 65, dtype=np.float32)
    expected = x.astype(ml_dtypes.float4_e2m1fn).astype(np.float32)
    got = table(chain(x, {"to": TensorProto.FLOAT4E2M1}, {"to": TensorProto.FLOAT}, opset=23), {"x": x})[0]
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("mode", ["up", "down", "nearest"])
def test_powers_of_two(mode: str) -> None:
    """float8e8m0 holds an exponent only; ``nearest`` rounds ties up."""
    x = np.array([1, 1.1, 1.5, 1.49, 2, 3, 3.9, 0.3, 1e-3, 2.0**127], np.float32)
    exponent = np.log2(x.astype(np.float64))
    low = 2.0 ** np.floor(exponent)
    high = 2.0 ** np.ceil(exponent)
    expected = {"up": high, "down": low, "nearest": np.where(x < 1.5 * low, low, high)}[mode]
    steps = {"to": 24, "round_mode": mode}, {"to": TensorProto.FLOAT}
    np.testing.assert_array_equal(table(chain(x, *steps, opset=24), {"x": x})[0], expected.astype(np.float32))


@pytest.mark.parametrize("like", ["float32", "float64", "int32", "bool", "uint8", "float16"])
def test_cast_like(like: str) -> None:
    feed = {"x": np.array([0, 1.7, 2], np.float32), "like": np.zeros(1, like)}
    check(node_model("CastLike", feed), feed)


@pytest.mark.parametrize(
    ("source", "target"), [("float32", "int32"), ("int64", "float64"), ("float32", "uint32"), ("uint8", "int8")]
)
def test_bits_are_kept(source: str, target: str) -> None:
    x = np.array([1, 2, 200], source)
    got = table(node_model("BitCast", {"x": x}, opset=26, to=code_of(target)), {"x": x})[0]
    np.testing.assert_array_equal(got, x.view(target))
    assert got.dtype == target


def test_bits_of_another_width_are_refused() -> None:
    with pytest.raises(AnalyzerError):
        table(node_model("BitCast", {"x": np.zeros(2, "f")}, opset=26, to=code_of("int64")), {"x": np.zeros(2, "f")})


def test_opset_1_spells_the_type_out() -> None:
    x = np.array([1.5, -2.5], np.float32)
    np.testing.assert_array_equal(table(node_model("Cast", {"x": x}, opset=1, to="INT32"), {"x": x})[0], [1, -2])


def test_text_is_refused_by_name() -> None:
    with pytest.raises(AnalyzerError) as problem:
        table(chain(np.zeros(1, "f"), {"to": TensorProto.STRING}), {"x": np.zeros(1, "f")})
    assert problem.value.code == "op.unsupported"
    assert "Cast_0" in problem.value.message


def test_the_runtime_agrees_on_the_dtype_of_a_cast_to_half() -> None:
    x = np.array([1, 2], np.float32)
    model = chain(x, {"to": TensorProto.FLOAT16})
    assert runtime(model, {"x": x})[0].dtype == table(model, {"x": x})[0].dtype == np.float16
