"""The model: what it is, running it whole and in pieces, faults of inputs, verifying, caches."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import analyzer
from analyzer.errors import InputError, UsageError
from tests.common.models import LABELS, assemble, cases, cnn, mlp, two_inputs

CASES = {case.name: case for case in cases()}
BACKENDS = ("onnxruntime", "torch")


def load(proto: onnx.ModelProto, **options: Any) -> analyzer.Model:
    """The model on the CPU."""
    return analyzer.load(proto, "cpu", threads=1, **options)


# --- what it is -----------------------------------------------------------------------------------------------------


def test_a_file_its_bytes_and_its_proto_are_the_same_model(tmp_path: Path) -> None:
    proto = cnn()
    path = tmp_path / "model.onnx"
    onnx.save(proto, path)
    models = [analyzer.load(source, "cpu") for source in (path, str(path), path.read_bytes(), proto)]
    assert models[0].sha256 == models[1].sha256 == models[2].sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert models[0].size == path.stat().st_size
    assert models[0].path == path
    assert models[2].path is None
    expected = models[0].predict(CASES["cnn"].x)["scores"]
    for model in models[1:]:
        np.testing.assert_array_equal(model.predict(CASES["cnn"].x)["scores"], expected)
    assert "model.onnx" in repr(models[0])
    assert "float32 [n, 3, 8, 8]" in repr(models[0])


def test_inputs_and_outputs_have_names_types_and_shapes() -> None:
    model = load(two_inputs())
    assert {k: str(v) for k, v in model.inputs.items()} == {"picture": "float32 [n, 3, 8, 8]", "row": "float32 [n, 4]"}
    assert {k: str(v) for k, v in model.outputs.items()} == {"scores": "float32 [n, 3]"}


@pytest.mark.parametrize(("batch", "fixed"), [("n", None), (1, 1), (4, 4)])
def test_a_fixed_batch_is_known(batch: int | str, fixed: int | None) -> None:
    assert load(mlp(batch)).fixed_batch == fixed
    assert load(two_inputs(batch)).fixed_batch == fixed


def test_inputs_of_different_first_dimensions_have_no_common_batch() -> None:
    nodes = [helper.make_node("MatMul", ["a", "b"], ["y"])]
    proto = assemble(nodes, {"a": (1, [2, 3]), "b": (1, [3, 4])}, {"y": (1, [2, 4])}, {})
    model = load(proto)
    assert model.fixed_batch is None
    a, b = np.ones((2, 3), np.float32), np.ones((3, 4), np.float32)
    for backend in BACKENDS:
        np.testing.assert_allclose(model.predict({"a": a, "b": b}, backend)["y"], a @ b)


def test_metadata_gives_labels() -> None:
    proto = mlp()
    proto.metadata_props.add(key="labels", value='["ant", "bee", "cat"]')
    assert load(proto).metadata["labels"].startswith("[")
    assert load(mlp(), labels=LABELS).explain(CASES["mlp"].x, target="bee").classes == (1, 1, 1)


# --- running --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("backend", BACKENDS)
def test_predictions_equal_the_reference_implementation(name: str, backend: str) -> None:
    case = CASES[name]
    (expected,) = ReferenceEvaluator(case.proto).run(None, case.feed)
    got = load(case.proto).predict(case.feed, backend)["scores"]
    assert got.dtype == expected.dtype
    tolerance = 2e-2 if name == "half" else 1e-4
    np.testing.assert_allclose(got.astype(float), expected.astype(float), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("batch", [1, 2])
def test_a_fixed_batch_is_run_piece_by_piece(batch: int, backend: str) -> None:
    x = np.concatenate([CASES["mlp"].x, CASES["mlp"].x[:1]])
    expected = load(mlp()).predict(x)["scores"]
    np.testing.assert_allclose(load(mlp(batch)).predict(x, backend)["scores"], expected, rtol=1e-4, atol=1e-6)


def test_an_array_is_the_first_input_and_a_dictionary_names_them() -> None:
    model, x = load(mlp()), CASES["mlp"].x
    np.testing.assert_array_equal(model.predict(x)["scores"], model.predict({"x": x})["scores"])
    np.testing.assert_array_equal(model.predict(x.tolist())["scores"], model.predict(x)["scores"])
    np.testing.assert_allclose(model.predict(x.astype(np.float64))["scores"], model.predict(x)["scores"])


@pytest.mark.parametrize(
    ("feed", "code"),
    [
        (np.zeros((2, 7), np.float32), "data.bad_shape"),
        (np.zeros(6, np.float32), "data.bad_shape"),
        (np.float32(1), "data.bad_shape"),
        (np.array([["a"] * 6]), "data.bad_type"),
        (np.zeros((2, 6), np.complex64), "data.bad_type"),
        ({}, "data.missing_input"),
        ({"z": np.zeros((2, 6))}, "data.unknown_input"),
        ({"x": np.zeros((2, 6)), "z": 1}, "data.unknown_input"),
        ({"x": None}, "data.bad_type"),
    ],
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_inputs_that_do_not_fit_have_their_code(feed: Any, code: str, backend: str) -> None:
    with pytest.raises(InputError) as caught:
        load(mlp()).predict(feed, backend)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)


def test_a_second_input_must_be_given() -> None:
    with pytest.raises(InputError, match="'row'") as caught:
        load(two_inputs()).predict(CASES["two"].x)
    assert caught.value.code == "data.missing_input"


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        load(mlp()).predict(CASES["mlp"].x, backend="tensorrt")
    assert caught.value.code == "backend.unknown"


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        analyzer.load(mlp(), "tpu")
    assert caught.value.code == "device.unknown"


def test_inner_values_inputs_and_outputs_are_given_by_name() -> None:
    case = CASES["mlp"]
    model = load(case.proto)
    got = model.values(case.feed, ["a1", "x", "scores"])
    assert list(got) == ["a1", "x", "scores"]
    np.testing.assert_array_equal(got["x"], case.x)
    assert (got["a1"] >= 0).all()
    with pytest.raises(InputError):
        model.values(case.feed, ["nowhere"])


def test_sessions_are_made_once_and_larger_ones_serve_smaller_wishes() -> None:
    case = CASES["cnn"]
    model = load(case.proto)
    model.values(case.feed, ["a1", "a2"])
    assert len(model._sessions) == 1
    model.predict(case.x)
    model.values(case.feed, ["a1"])
    assert len(model._sessions) == 1


# --- verifying ------------------------------------------------------------------------------------------------------


def test_verifying_is_done_once_per_input() -> None:
    model, x = load(mlp()), CASES["mlp"].x
    first = model.verify(x)
    assert model.verify(x.copy()) is first
    assert model.verify(x + 1) is not first
    for shift in range(12):
        model.verify(x + shift)
    assert len(model.backends.tracer._verdicts) <= 8


def test_a_fixed_batch_is_verified_too() -> None:
    assert load(cnn(1)).verify(CASES["cnn"].x).ok


def test_what_cannot_be_compared_is_left_out() -> None:
    """Text outputs have no relative error."""
    nodes = [
        helper.make_node("Relu", ["x"], ["scores"]),
        helper.make_node("Identity", ["names"], ["words"]),
    ]
    shapes = {"x": (TensorProto.FLOAT, ["n", 3])}
    outputs = {"scores": (TensorProto.FLOAT, ["n", 3]), "words": (TensorProto.STRING, [2])}
    proto = assemble(nodes, shapes, outputs, {})
    proto.graph.initializer.append(helper.make_tensor("names", TensorProto.STRING, [2], [b"a", b"b"]))
    parity = load(proto).verify(np.ones((1, 3), np.float32))
    assert parity.ok
    assert list(parity.outputs) == ["scores"]


# --- the public package ---------------------------------------------------------------------------------------------


def test_every_public_name_is_there() -> None:
    for name in analyzer.__all__:
        assert getattr(analyzer, name) is not None
    assert set(analyzer.__all__) <= set(dir(analyzer))
    with pytest.raises(AttributeError, match="'nonsense'"):
        analyzer.nonsense  # noqa: B018


@pytest.mark.parametrize("backend", ["onnxruntime", "torch"])
def test_a_model_without_inputs_still_runs(backend: str) -> None:
    value = numpy_helper.from_array(np.array([1.0, 2.0], np.float32))
    nodes = [helper.make_node("Constant", [], ["y"], value=value)]
    model = analyzer.load(assemble(nodes, {}, {"y": (TensorProto.FLOAT, [2])}, {}), "cpu")
    np.testing.assert_array_equal(model.predict({}, backend=backend)["y"], [1.0, 2.0])
    with pytest.raises(InputError) as caught:
        model.explain({}, "gradient")
    assert caught.value.code == "model.no_inputs"
