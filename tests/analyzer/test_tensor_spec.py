"""Reading the types of inputs and outputs, and fitting arrays to them."""

from __future__ import annotations

import re
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from analyzer.errors import InputError
from analyzer.tensor_spec import TensorSpec, fitted, spec_of


def test_types_and_shapes_are_read() -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, None, 0, 224])
    assert spec_of(value) == TensorSpec("float32", ("n", 3, None, None, 224))
    assert str(spec_of(value)) == "float32 [n, 3, ?, ?, 224]"
    assert spec_of(helper.make_tensor_value_info("x", TensorProto.INT64, [])) == TensorSpec("int64", ())


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (TensorProto.FLOAT16, "float16"), (TensorProto.BFLOAT16, "bfloat16"), (TensorProto.DOUBLE, "float64"),
        (TensorProto.UINT8, "uint8"), (TensorProto.BOOL, "bool"), (TensorProto.STRING, "string"),
        (TensorProto.UNDEFINED, "unknown"), (9999, "unknown"),
    ],
)  # fmt: skip
def test_every_element_type_has_a_name(kind: int, name: str) -> None:
    value = onnx.ValueInfoProto(name="x")
    value.type.tensor_type.elem_type = kind
    assert spec_of(value).dtype == name


def test_sequences_and_maps_are_named_by_their_kind() -> None:
    sequence = helper.make_value_info("s", helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, None)))
    assert spec_of(sequence) == TensorSpec("sequence_type", ())
    assert spec_of(onnx.ValueInfoProto(name="nothing")) == TensorSpec("unknown", ())


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("float64", "float32"), ("float16", "float32"), ("int64", "float32"), ("uint8", "float32"), ("bool", "float32"),
        ("float32", "float16"), ("float32", "float64"), ("int32", "int64"), ("int64", "uint8"), ("bool", "int64"),
        ("float32", "bfloat16"), ("bfloat16", "float32"), ("bfloat16", "float16"), ("int64", "bool"),
    ],
)  # fmt: skip
def test_numbers_are_cast_to_what_the_model_takes(given: str, wanted: str) -> None:
    value = np.array([[0, 1, 1]]).astype(given)
    got = fitted("x", value, TensorSpec(wanted, ("n", 3)))
    assert got.dtype.name == wanted
    np.testing.assert_array_equal(got.astype(np.float64), [[0, 1, 1]])


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (np.array([[0.5]]), "int64"),
        (np.array([[1.0]], np.float16), "uint8"),
        (np.array([[1.0]], ml_dtypes.bfloat16), "int64"),
        (np.array([["a"]]), "float32"),
        (np.array([[None]], object), "float32"),
        (np.array([[1 + 2j]]), "float32"),
        (np.array([["2020-01-01"]], "datetime64[D]"), "int64"),
        (np.array([[300]]), "uint8"),
        (np.array([[-1]]), "uint64"),
        (np.array([[2**40]]), "int32"),
        (np.array([[2**63]], np.uint64), "int64"),
    ],
)
def test_what_would_lose_its_meaning_is_refused(value: np.ndarray, wanted: str) -> None:
    with pytest.raises(InputError, match="'x'") as caught:
        fitted("x", value, TensorSpec(wanted, ("n", 1)))
    assert caught.value.code == "data.bad_type"


@pytest.mark.parametrize(
    ("shape", "wanted", "fits"),
    [
        ((2, 3), ("n", 3), True),
        ((2, 3), (1, 3), True),  # the batch is cut into pieces elsewhere
        ((2, 3), ("n", None), True),
        ((2, 3), ("n", "m"), True),
        ((2, 4), ("n", 3), False),
        ((3,), ("n", 3), False),
        ((2, 3, 1), ("n", 3), False),
        ((), ("n",), False),
        ((2, 3), (), True),  # the model doesn't say
        ((), (), True),
        ((0, 3), ("n", 3), True),  # an empty list of axes, say; methods refuse to explain nothing
        ((2, 0), ("n", "words"), True),  # an empty cache of a decoder
    ],
)
def test_shapes_must_fit_but_for_the_batch(shape: tuple[int, ...], wanted: Any, fits: bool) -> None:
    value = np.zeros(shape, np.float32)
    spec = TensorSpec("float32", wanted)
    if fits:
        assert fitted("x", value, spec).shape == shape
        return
    with pytest.raises(InputError) as caught:
        fitted("x", value, spec)
    assert caught.value.code == "data.bad_shape"
    assert str(spec) in str(caught.value)


def test_arrays_come_out_contiguous_and_unchanged() -> None:
    value = np.arange(12, dtype=np.float32).reshape(4, 3).T
    got = fitted("x", value, TensorSpec("float32", (3, 4)))
    assert got.flags.c_contiguous
    np.testing.assert_array_equal(got, value)
    same = np.zeros((2, 3), np.float32)
    assert fitted("x", same, TensorSpec("float32", (2, 3))) is same


def test_inputs_of_unknown_type_pass() -> None:
    text = np.array([["a"]])
    assert fitted("x", text, None) is text
    assert fitted("x", text, TensorSpec("unknown", ())) is text


@pytest.mark.parametrize(
    "text", [np.array([["a"], ["bcd"]]), np.array([["a"], ["bcd"]], object), np.array([["a"], ["bcd"]], "T")]
)
def test_text_of_every_type_becomes_python_strings(text: np.ndarray) -> None:
    got = fitted("x", text, TensorSpec("string", ("n", 1)))
    assert got.dtype == object and got.tolist() == [["a"], ["bcd"]]
    assert all(type(each) is str for each in got.ravel())


@pytest.mark.parametrize(
    ("value", "code", "words"),
    [
        (np.array([[1]]), "data.bad_type", "not int at [0, 0]"),
        (np.array([["a"], [None]], object), "data.bad_type", "not NoneType at [1, 0]"),
        (np.array([["a"], [np.nan]], object), "data.bad_type", "not float at [1, 0]"),
        (np.array([[b"a"]]), "data.bad_type", "not bytes at [0, 0]"),
        (np.array(["a"]), "data.bad_shape", "not shape [1]"),
        (np.array([["a", "b"]]), "data.bad_shape", "not shape [1, 2]"),
    ],
)
def test_what_is_no_text_is_refused(value: np.ndarray, code: str, words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        fitted("x", value, TensorSpec("string", ("n", 1)))
    assert caught.value.code == code


def test_narrow_floats_are_taken_as_they_are() -> None:
    value = np.ones((1, 2), ml_dtypes.bfloat16)
    assert fitted("x", value, TensorSpec("bfloat16", (1, 2))) is value
