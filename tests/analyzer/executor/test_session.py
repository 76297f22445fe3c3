"""Sessions: inner values, external data, faults with their codes, several threads, silence."""

from __future__ import annotations

import concurrent.futures
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import analyzer
from analyzer.errors import InputError
from analyzer.executor.session import Session
from analyzer.importer.checked_files import CheckedFiles
from tests.common.models import assemble, cases, cnn, mlp

CASES = {case.name: case for case in cases()}
INNER = ("z1", "a1", "a2", "pooled", "flat", "logits")


def session(proto: onnx.ModelProto, **options: Any) -> Session:
    """A session from bytes, one thread."""
    return Session(proto.SerializeToString(), threads=1, **options)


@pytest.mark.parametrize("optimize", [True, False])
def test_inner_values_equal_the_reference_implementation(optimize: bool) -> None:
    case = CASES["cnn"]
    runner = session(case.proto, expose=INNER, optimize=optimize)
    assert runner.outputs == ("scores", *INNER)
    got = runner.run(case.feed)
    for name in INNER:
        cut = onnx.ModelProto()
        cut.CopyFrom(case.proto)
        del cut.graph.output[:]
        cut.graph.output.append(onnx.ValueInfoProto(name=name))
        (expected,) = ReferenceEvaluator(cut).run([name], case.feed)
        np.testing.assert_allclose(got[name], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got["scores"], session(case.proto).run(case.feed)["scores"], rtol=1e-5)


def test_inner_values_that_optimisation_would_fuse_away() -> None:
    """Batch normalisation is folded into the convolution unless its input is asked for."""
    weights = {
        "w": np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32),
        "g": np.array([1, 2, 3, 4], np.float32), "h": np.ones(4, np.float32),
        "m": np.ones(4, np.float32), "v": np.full(4, 2.0, np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["z"]),
        helper.make_node("BatchNormalization", ["z", "g", "h", "m", "v"], ["b"]),
        helper.make_node("Relu", ["b"], ["y"]),
    ]
    shapes = {"x": (TensorProto.FLOAT, ["n", 3, 8, 8])}
    proto = assemble(nodes, shapes, {"y": (TensorProto.FLOAT, None)}, weights)
    got = session(proto, expose=["z", "b"]).run(CASES["cnn"].feed)
    np.testing.assert_allclose(np.maximum(got["b"], 0), got["y"], rtol=1e-6)
    k = weights["g"] / np.sqrt(weights["v"] + 1e-5)
    expected = k[:, None, None] * (got["z"] - 1) + 1
    np.testing.assert_allclose(got["b"], expected, rtol=1e-4, atol=1e-4)


def test_only_what_is_asked_for_comes_back() -> None:
    case = CASES["cnn"]
    runner = session(case.proto, expose=["a1", "a2"])
    assert list(runner.run(case.feed, ["a2"])) == ["a2"]
    assert list(runner.run(case.feed, ["scores", "a1"])) == ["scores", "a1"]


def test_integers_inside_can_be_given_out_too() -> None:
    nodes = [helper.make_node("Shape", ["x"], ["shape"]), helper.make_node("Cast", ["shape"], ["y"], to=1)]
    proto = assemble(nodes, {"x": (TensorProto.FLOAT, ["n", 3])}, {"y": (TensorProto.FLOAT, [2])}, {})
    runner = session(proto, expose=["shape"])
    assert runner.types()["shape"][0] == "tensor(int64)"
    np.testing.assert_array_equal(runner.run({"x": np.zeros((5, 3), np.float32)})["shape"], [5, 3])


def test_path_and_bytes_give_the_same(tmp_path: Path) -> None:
    case = CASES["cnn"]
    path = tmp_path / "model.onnx"
    onnx.save(case.proto, path)
    expected = session(case.proto).run(case.feed)["scores"]
    for expose in ((), ("a1",)):
        np.testing.assert_array_equal(Session(path, threads=1, expose=expose).run(case.feed)["scores"], expected)


def test_external_data_is_found_beside_the_file(tmp_path: Path) -> None:
    case = CASES["cnn"]
    path = tmp_path / "sub folder" / "model.onnx"
    path.parent.mkdir()
    onnx.save(cnn(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert path.with_name("weights.bin").stat().st_size > 0
    expected = session(case.proto, expose=INNER).run(case.feed)
    got = Session(path, threads=1, expose=INNER).run(case.feed)
    for name, value in expected.items():
        np.testing.assert_array_equal(got[name], value)
    from_bytes = Session(path.read_bytes(), threads=1, files=CheckedFiles(path.parent)).run(case.feed)
    np.testing.assert_array_equal(from_bytes["scores"], expected["scores"])


def test_a_model_with_external_data_is_explained(tmp_path: Path) -> None:
    case = CASES["cnn"]
    path = tmp_path / "model.onnx"
    onnx.save(cnn(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    inside, outside = analyzer.load(case.proto, "cpu"), analyzer.load(path, "cpu")
    for method in ("gradient", "occlusion"):
        a, b = (m.explain(case.x, method=method, target=1).attribution for m in (inside, outside))
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(outside.values(case.feed, ["a1"])["a1"], inside.values(case.feed, ["a1"])["a1"])


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (b"not a model", "load"),
        (b"", "load"),
        (cnn().SerializeToString()[:-40], "load"),
        (
            assemble(
                [helper.make_node("Nope", ["x"], ["y"])], {"x": (1, [1])}, {"y": (1, [1])}, {}
            ).SerializeToString(),
            "Nope",
        ),
    ],
)
def test_what_cannot_be_loaded_is_one_line(source: bytes, text: str) -> None:
    with pytest.raises(InputError, match=text) as caught:
        Session(source)
    assert caught.value.code == "runtime.load_failed"
    assert "\n" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_an_unknown_inner_value_cannot_be_exposed() -> None:
    with pytest.raises(InputError) as caught:
        session(cnn(), expose=["nowhere"])
    assert caught.value.code == "runtime.load_failed"
    assert "nowhere" in str(caught.value)


@pytest.mark.parametrize(
    ("feed", "code"),
    [
        ({"x": np.zeros((1, 3, 8, 7), np.float32)}, "data.bad_shape"),
        ({"x": np.zeros((1, 3, 8), np.float32)}, "data.bad_shape"),
        ({"x": np.zeros((1, 3, 8, 8), np.float64)}, "data.bad_type"),
        ({"x": np.zeros((1, 3, 8, 8), np.int64)}, "data.bad_type"),
        ({"x": np.array(["a"])}, "data.bad_type"),
        ({}, "data.bad_type"),
        ({"z": np.zeros((1, 3, 8, 8), np.float32)}, "data.bad_type"),
    ],
)
def test_feeds_that_do_not_fit_have_their_code(feed: dict[str, Any], code: str) -> None:
    runner = session(cnn())
    with pytest.raises(InputError) as caught:
        runner.run(feed)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)
    assert "ONNXRuntimeError" not in str(caught.value)
    assert runner.run(CASES["cnn"].feed)["scores"].shape == (3, 3), "a fault leaves the session usable"


def test_a_fault_while_running_is_not_the_inputs_shape() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64),
        helper.make_node("Gather", ["w", "i"], ["y"]),
    ]
    proto = assemble(nodes, {"x": (1, ["n"])}, {"y": (1, None)}, {"w": np.ones(3, np.float32)})
    with pytest.raises(InputError) as caught:
        session(proto).run({"x": np.array([7.0], np.float32)})
    assert caught.value.code in ("runtime.op_failed", "data.bad_type")
    assert "\n" not in str(caught.value)


def test_threads_share_a_session() -> None:
    runner = session(mlp())
    inputs = [np.full((2, 6), i, np.float32) for i in range(64)]
    expected = [session(mlp()).run({"x": x})["scores"] for x in inputs]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda x: runner.run({"x": x})["scores"], inputs))
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert runner.evaluations == 128


def test_evaluations_are_counted_in_samples() -> None:
    runner = session(mlp())
    assert runner.evaluations == 0
    runner.run({"x": np.zeros((5, 6), np.float32)})
    runner.run({"x": np.zeros((1, 6), np.float32)})
    assert runner.evaluations == 6


def test_loading_running_and_failing_print_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    weights = {"w": np.ones(6, np.float32), "unused": np.ones(3, np.float32)}
    shapes = {"x": (TensorProto.FLOAT, ["n", 6]), "w": (TensorProto.FLOAT, [6])}  # both would be warned about
    proto = assemble([helper.make_node("Mul", ["x", "w"], ["y"])], shapes, {"y": (1, ["n", 7])}, weights)
    runner = session(proto)
    runner.run({"x": np.zeros((1, 6), np.float32)})
    for bad in (b"not a model", cnn().SerializeToString()[:-40]):
        with pytest.raises(InputError):
            Session(bad)
    with pytest.raises(InputError):
        runner.run({"x": np.zeros((1, 5), np.float32)})
    assert capfd.readouterr() == ("", "")


def test_overridable_initializers_are_inputs() -> None:
    weights = {"w": np.ones(6, np.float32)}
    shapes = {"x": (TensorProto.FLOAT, ["n", 6]), "w": (TensorProto.FLOAT, [6])}
    proto = assemble([helper.make_node("Mul", ["x", "w"], ["y"])], shapes, {"y": (1, ["n", 6])}, weights)
    runner = session(proto)
    assert runner.inputs == ("x", "w")
    x = np.ones((1, 6), np.float32)
    np.testing.assert_array_equal(runner.run({"x": x})["y"], x)
    np.testing.assert_array_equal(runner.run({"x": x, "w": np.arange(6, dtype=np.float32)})["y"], [np.arange(6)])


def test_a_large_constant_survives_exposing(tmp_path: Path) -> None:
    """Outputs are added behind the serialized file, whatever it holds."""
    nodes = [
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.arange(5000, dtype=np.float32), "c")),
        helper.make_node("Add", ["x", "c"], ["y"]),
    ]
    proto = assemble(nodes, {"x": (1, ["n", 5000])}, {"y": (1, None)}, {})
    proto.metadata_props.add(key="k", value="v")
    got = session(proto, expose=["c"]).run({"x": np.zeros((1, 5000), np.float32)})
    np.testing.assert_array_equal(got["c"], np.arange(5000))
    np.testing.assert_array_equal(got["y"], [np.arange(5000)])
