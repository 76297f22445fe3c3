"""Traces: partial evaluation, validity, provenance after the passes, precision, caching in the model."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import analyzer
from analyzer.errors import UnsupportedError
from analyzer.importer.conversion import as_tensor
from analyzer.importer.graph import build
from analyzer.importer.trace import Trace, trace
from tests.common.models import assemble, cases, cnn

CASES = {case.name: case for case in cases()}


def traced(proto: onnx.ModelProto, feed: dict[str, np.ndarray], **options: object) -> Trace:
    """A model's trace."""
    return trace(build(proto, numpy_helper.to_array), feed, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", list(CASES))
def test_a_trace_replayed_on_other_values_equals_onnxruntime(name: str) -> None:
    case = CASES[name]
    made = traced(case.proto, case.feed)
    assert made.inputs == tuple(case.feed)
    assert made.outputs == ("scores",)
    assert made.data_dependent is None
    other = {
        k: np.roll(v, 1, axis=0)[:, ::-1].copy() if v.dtype.kind == "i" else (v[::-1] * 1.5).astype(v.dtype)
        for k, v in case.feed.items()
    }
    model = analyzer.load(case.proto, "cpu")
    for feed in (case.feed, other):
        expected = model.predict(feed)["scores"]
        got = made.run({k: as_tensor(v) for k, v in feed.items()})["scores"].numpy()
        tolerance = 2e-2 if name == "half" else 1e-5
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


def test_shape_arithmetic_is_not_in_the_graph() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["batch"], axis=0),
        helper.make_node("Concat", ["batch", "minus"], ["wanted"], axis=0),
        helper.make_node("Reshape", ["x", "wanted"], ["flat"], name="flatten"),
        helper.make_node("ReduceProd", ["shape"], ["size"], keepdims=1),
        helper.make_node("Cast", ["size"], ["count"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["flat", "count"], ["y"], name="divide"),
    ]
    weights = {"zero": np.array([0]), "minus": np.array([-1])}
    shapes = {"x": (TensorProto.FLOAT, ["n", 3, 4])}
    proto = assemble(nodes, shapes, {"y": (TensorProto.FLOAT, ["n", 12])}, weights)
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    made = traced(proto, {"x": x})
    assert made.data_dependent is None
    targets = [str(n.target) for n in made.module.graph.nodes if n.op == "call_function"]
    assert targets == ["aten.view.default", "aten.div.Tensor"]
    (got,) = made.run({"x": torch.ones(2, 3, 4)}).values()
    torch.testing.assert_close(got, torch.full((2, 12), 1 / 24))


def test_a_shape_read_from_data_makes_the_trace_valid_for_its_input_only() -> None:
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], name="most", keepdims=0),
        helper.make_node("Cast", ["most"], ["k"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["k", "one"], ["ks"]),
        helper.make_node("TopK", ["x", "ks"], ["top", "where"], name="choose", axis=1),
        helper.make_node("ReduceSum", ["top", "axis"], ["y"], keepdims=1),
    ]
    weights = {"one": np.array([1]), "axis": np.array([1])}
    shapes = {"x": (TensorProto.FLOAT, ["n", 4])}
    proto = assemble(nodes, shapes, {"y": (TensorProto.FLOAT, ["n", 1])}, weights)
    x = np.array([[1.0, 2.0, 0.5, 0.25]], np.float32)
    assert traced(proto, {"x": x}).data_dependent == "choose"
    model = analyzer.load(proto, "cpu")
    for feed in (x, x + 1, x):
        np.testing.assert_allclose(model.predict(feed, "torch")["y"], model.predict(feed)["y"], rtol=1e-6)


def test_values_and_nodes_are_found_by_their_onnx_names_after_the_passes() -> None:
    case = CASES["cnn"]
    made = traced(case.proto, case.feed)
    model = analyzer.load(case.proto, "cpu")
    names = ["a1", "z2", "pooled", "flat", "scores"]
    expected = model.values(case.feed, names)
    nodes = {name: made.find(name) for name in names}
    for node in nodes.values():
        assert node is not None

    seen: dict[str, np.ndarray] = {}

    class Watch(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> object:
            out = super().run_node(n)
            for name, node in nodes.items():
                if n is node:
                    seen[name] = out.numpy()
            return out

    with torch.no_grad():
        Watch(made.module).run(as_tensor(case.x))
    for name in names:
        np.testing.assert_allclose(seen[name], expected[name], rtol=1e-4, atol=1e-5)
    assert made.find("relu1") is made.values["a1"]
    assert made.find("x") is made.values["x"]
    assert made.find("nowhere") is None


def test_every_recorded_node_names_an_onnx_node() -> None:
    for case in CASES.values():
        known = {node.name for node in case.proto.graph.node} | {
            f"{node.op_type}_{i}" for i, node in enumerate(case.proto.graph.node)
        }
        for node in traced(case.proto, case.feed).module.graph.nodes:
            if node.op == "call_function":
                assert node.meta["onnx"] in known
                assert node.meta["shape"] is not None


def test_double_precision_is_double_throughout() -> None:
    case = CASES["cnn"]
    made = traced(case.proto, case.feed, precision=torch.float64)
    kinds = {n.meta["dtype"] for n in made.module.graph.nodes if n.op == "call_function"}
    assert kinds == {torch.float64}
    (got,) = made.run({"x": torch.from_numpy(case.x).double()}).values()
    assert got.dtype == torch.float64


def test_without_passes_the_trace_is_the_same_function() -> None:
    case = CASES["cnn"]
    plain, passed = traced(case.proto, case.feed, optimize=False), traced(case.proto, case.feed)
    assert plain.changes == ()
    x = {"x": as_tensor(case.x)}
    torch.testing.assert_close(plain.run(x)["scores"], passed.run(x)["scores"], rtol=1e-5, atol=1e-6)


def test_a_model_that_cannot_be_traced_says_so_before_anything_runs() -> None:
    nodes = [helper.make_node("Nothing", ["x"], ["scores"], name="culprit", domain="made.up")]
    shapes = {"x": (TensorProto.FLOAT, ["n", 6])}
    proto = assemble(nodes, shapes, {"scores": (TensorProto.FLOAT, ["n", 6])}, {}, domains={"made.up": 1})
    with pytest.raises(UnsupportedError, match="culprit"):
        traced(proto, {"x": np.ones((1, 6), np.float32)})


def test_a_model_keeps_one_trace_per_signature_and_not_too_many() -> None:
    model = analyzer.load(cnn(), "cpu")
    x = CASES["cnn"].x
    first = model.trace({"x": x})
    assert model.trace({"x": x * 2}) is first
    assert model.trace({"x": x[:1]}) is not first
    assert model.trace({"x": x}, torch.float64) is not first
    for size in range(1, 13):
        model.trace({"x": np.ones((size, 3, 8, 8), np.float32)})
    assert len(model.backends.tracer._traces) <= 8
    assert model.trace({"x": x}) is not first, "the oldest went"


def sampled(scale: float = 1.0) -> onnx.ModelProto:
    """An encoder with the mean of its code and a code drawn around it, in a branch of an If; the draw comes first."""
    draw = helper.make_graph(
        [
            helper.make_node("RandomNormalLike", ["mean"], ["noise"], name="draw", scale=scale),
            helper.make_node("Add", ["mean", "noise"], ["drawn"]),
        ],
        "draw",
        [],
        [helper.make_tensor_value_info("drawn", TensorProto.FLOAT, None)],
    )
    keep = helper.make_graph(
        [helper.make_node("Identity", ["mean"], ["kept"])],
        "keep",
        [],
        [helper.make_tensor_value_info("kept", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["mean"]),
        helper.make_node("If", ["yes"], ["code"], then_branch=draw, else_branch=keep),
        helper.make_node("Mul", ["code", "code"], ["squares"], name="square"),
    ]
    return helper.make_model(
        helper.make_graph(
            nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("squares", "mean")],
            [numpy_helper.from_array(W, "w"), numpy_helper.from_array(np.array(True), "yes")],
        ),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=9,
    )  # fmt: skip


W = np.random.default_rng(3).standard_normal((4, 3)).astype(np.float32)


def test_what_draws_at_random_is_in_the_way_of_what_follows_from_it_alone() -> None:
    model, x = analyzer.load(sampled(), "cpu"), np.ones((1, 4), np.float32)
    made = model.trace(x)
    assert (made.outputs, [node.name for node in made.lacking]) == (("mean",), ["draw"])
    for backend in ("torch", "onnxruntime"):
        found = model.explain(x, "gradient", target="mean[:,1]", backend=backend)
        np.testing.assert_allclose(found.attribution[0], W[:, 1], rtol=1e-6)
    for target in ("top1", "squares[:,0]"):
        with pytest.raises(UnsupportedError, match="'draw' draws at random") as caught:
            model.explain(x, "gradient", target=target)
        assert caught.value.code == "op.random"
    assert model.explain(x, "occlusion").attribution.any()


def test_a_trace_beside_what_has_no_function_is_still_held_against_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    from analyzer.importer import table

    model, x = analyzer.load(sampled(), "cpu"), np.ones((1, 4), np.float32)
    real = table.lookup

    def wrong(domain: str, op_type: str, version: int) -> object:
        return (lambda node, a, b: a @ b + 1) if op_type == "MatMul" else real(domain, op_type, version)

    monkeypatch.setattr(table, "lookup", wrong)
    parity = model.verify(x)
    assert not parity.ok
    assert parity.first_difference is not None and "MatMul" in parity.first_difference
