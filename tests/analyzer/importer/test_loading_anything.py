"""Loading whatever it is given: any bytes, damaged and almost valid models get an answer, never a crash."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from analyzer.errors import AnalyzerError, InputError
from analyzer.importer.loading import read_model, tensor_to_numpy
from tests.analyzer.importer import corpus
from tests.analyzer.importer.test_loading import every_tensor


def loads_or_says_why(data: bytes) -> None:
    try:
        loaded = read_model(data)
    except AnalyzerError as fault:
        assert fault.code
        assert fault.message
        assert str(fault).isprintable()
    else:
        for tensor in every_tensor(loaded.proto):
            tensor_to_numpy(tensor, loaded)


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    loads_or_says_why(data)
    loads_or_says_why(b"\x08\x08" + data)


SEEDS = [
    build().SerializeToString()
    for build in (
        corpus.conv_model,
        corpus.narrow_weights,
        corpus.loop_forever,
        corpus.unsorted,
        lambda: corpus.nested_if(2),
        lambda: corpus.sparse([0, 3]),
        lambda: corpus.functions({"g": ["Relu", "f"], "f": ["Relu"]}, "g"),
        lambda: corpus.external_model({"location": "w.bin"}),
    )
]


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 10**6), st.binary(max_size=3)), max_size=4), st.data())
def test_damaged_models(seed: bytes, edits: list[tuple[int, bytes]], data: st.DataObject) -> None:
    damaged = bytearray(seed)
    for place, patch in edits:
        start = place % (len(damaged) + 1)
        damaged[start : start + data.draw(st.integers(0, 3))] = patch
    loads_or_says_why(bytes(damaged))


@given(st.integers(1, 10**6))
def test_cut_models_are_truncated(length: int) -> None:
    """Any part of a model is called truncated, unless it ends between two fields."""
    whole = corpus.conv_model().SerializeToString()
    part = whole[: 1 + length % (len(whole) - 1)]
    with pytest.raises(InputError) as caught:
        read_model(part)
    assert caught.value.code in {"model.truncated", "model.no_graph", "model.invalid"}
    if len(part) > 10 and len(part) < len(whole) - 10:
        assert caught.value.code == "model.truncated"


NAMES = st.sampled_from(["x", "y", "w", "a", "b", ""])
NODES = st.builds(
    lambda op, inputs, outputs, ints: helper.make_node(op, inputs, outputs, **ints),
    st.sampled_from(["Relu", "Add", "Conv", "If", "Expand", "Constant", "Pad", "Nope", "Range"]),
    st.lists(NAMES, max_size=3),
    st.lists(NAMES, max_size=2),
    st.dictionaries(
        st.sampled_from(["group", "strides", "kernel_shape", "pads", "axis", "value_ints"]),
        st.one_of(st.integers(-(2**63), 2**63 - 1), st.lists(st.integers(-3, 2**40), min_size=1, max_size=3)),
        max_size=2,
    ),
)
TENSORS = st.builds(
    lambda name, dims, code, data: TensorProto(name=name, dims=dims, data_type=code, raw_data=data),
    NAMES,
    st.lists(st.one_of(st.integers(0, 4), st.sampled_from([-1, 2**40, 2**62])), max_size=3),
    st.integers(0, 30),
    st.binary(max_size=16),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(NODES, max_size=5), st.lists(TENSORS, max_size=3))
def test_almost_valid_models(nodes: list[onnx.NodeProto], tensors: list[TensorProto]) -> None:
    loads_or_says_why(corpus.model_of(nodes, tensors).SerializeToString())


@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan, 1e38])
def test_sizes_that_are_no_sizes(number: float) -> None:
    """Range and OneHot take floats as sizes; whatever they hold, the answer is an answer."""
    numbers = [numpy_helper.from_array(np.array(v, np.float32), n) for n, v in (("a", 0), ("b", number), ("c", 1))]
    loads_or_says_why(corpus.model_of([helper.make_node("Range", ["a", "b", "c"], ["y"])], numbers).SerializeToString())
    one_hot = helper.make_node("OneHot", ["x", "b", "v"], ["y"])
    numbers.append(numpy_helper.from_array(np.zeros(2, np.float32), "v"))
    loads_or_says_why(corpus.model_of([one_hot], numbers).SerializeToString())
