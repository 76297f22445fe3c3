"""If, Loop and Scan against onnxruntime, and what they leave in the trace."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper, parser

from analyzer.errors import InputError
from analyzer.importer.conversion import as_tensor
from analyzer.importer.graph import build
from analyzer.importer.interpreter import Interpreter, run_graph
from analyzer.importer.ops import control
from analyzer.importer.recorder import Recorder
from tests.analyzer.importer import oracle

RNG = np.random.default_rng(0)


def f32(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def parsed(text: str) -> onnx.ModelProto:
    return parser.parse_model(text)


def traced(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> tuple[Recorder, torch.fx.GraphModule]:
    recorder = Recorder()
    with torch.no_grad(), recorder:
        values = {k: recorder.placeholder(k, as_tensor(v)) for k, v in feed.items()}
        out = run_graph(build(model, numpy_helper.to_array), values, Interpreter(recorder))
    return recorder, recorder.finish(out)


HEAD = '<ir_version: 8, opset_import: ["" : 16]>\n'


def if_model(condition: str) -> onnx.ModelProto:
    return parsed(
        HEAD
        + f"""g (float[2, 3] x) => (float[2, 3] y) <bool flag = {{1}}> {{
            zero = Constant <value_float = 0.0> ()
            sum = ReduceSum <keepdims = 0> (x)
            seen = Greater (sum, zero)
            y = If ({condition}) <
                then_branch = a () => (float[2, 3] t) {{ t = Mul (x, x) }},
                else_branch = b () => (float[2, 3] e) {{ e = Neg (x) }}
            >
        }}"""
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_if_takes_the_branch_of_the_data_and_says_so(sign: int) -> None:
    x = np.abs(f32(2, 3)) * np.float32(sign)
    oracle.check(if_model("seen"), {"x": x})
    recorder, _ = traced(if_model("seen"), {"x": x})
    assert recorder.data_dependent


def test_if_on_a_constant_leaves_no_mark() -> None:
    oracle.check(if_model("flag"), {"x": f32(2, 3)})
    recorder, _ = traced(if_model("flag"), {"x": f32(2, 3)})
    assert recorder.data_dependent is None


def loop_model(trips: int, opset: int = 16, count: str = "m", condition: str = "true") -> onnx.ModelProto:
    return parsed(
        f"""<ir_version: 8, opset_import: ["" : {opset}]>
        g (float[2, 3] x) => (float[2, 3] last, float[n, 2, 3] all) <int64 m = {{{trips}}}, bool true = {{1}}> {{
            last, all = Loop ({count}, {condition}, x) <body = b (int64 i, bool c, float[2, 3] h) =>
                (bool again, float[2, 3] new, float[2, 3] seen) {{
                again = Identity (c)
                step = Cast <to = 1> (i)
                scaled = Add (h, step)
                new = Sub (scaled, x)
                seen = Mul (new, x)
            }}>
        }}"""
    )


@pytest.mark.parametrize("opset", [11, 13, 16, 21])
@pytest.mark.parametrize("trips", [0, 1, 4])
def test_loop_counts(opset: int, trips: int) -> None:
    model, feed = loop_model(trips, opset), {"x": f32(2, 3)}
    oracle.check(model, feed)
    recorder, module = traced(model, feed)
    assert recorder.data_dependent is None
    subtractions = [n for n in module.graph.nodes if n.target is torch.ops.aten.sub.Tensor]
    assert len(subtractions) == trips


def test_loop_ends_by_its_own_condition() -> None:
    model = parsed(
        HEAD
        + """g (float[3] x) => (float[3] last, int64 n) <bool true = {1}, float[1] limit = {20.0}, int64 zero = {0}> {
            last, n = Loop (, true, x, zero) <body = b (int64 i, bool c, float[3] h, int64 k) =>
                (bool again, float[3] new, int64 more) {
                one = Constant <value_int = 1> ()
                more = Add (k, one)
                new = Add (h, h)
                sum = ReduceSum <keepdims = 0> (new)
                size = Abs (sum)
                again0 = Less (size, limit)
                shape = Constant <value_ints = [0]> ()
                again = Squeeze (again0)
            }>
        }"""
    )
    feed = {"x": np.array([0.5, 1.0, 0.25], np.float32)}
    oracle.check(model, feed)
    recorder, _ = traced(model, feed)
    assert recorder.data_dependent


def test_endless_loop_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "MOST_ITERATIONS", 50)
    for model in (loop_model(51), loop_model(51, condition=""), loop_model(1, count="")):
        with pytest.raises(InputError) as stopped:
            oracle.table(model, {"x": f32(2, 3)})
        assert stopped.value.code == "limit.time"


def test_loop_in_a_loop_sees_the_outer_values() -> None:
    model = parsed(
        HEAD
        + """g (float[2] x) => (float[2] y, float[a, b, 2] all) <int64 m = {3}, int64 k = {2}, bool true = {1}> {
            y, all = Loop (m, true, x) <body = outer (int64 i, bool c, float[2] h) =>
                (bool c1, float[2] h1, float[b, 2] rows) {
                c1 = Identity (c)
                h1, rows = Loop (k, c, h) <body = inner (int64 j, bool d, float[2] g0) =>
                    (bool d1, float[2] g1, float[2] row) {
                    d1 = Identity (d)
                    ij = Add (i, j)
                    f = Cast <to = 1> (ij)
                    t = Mul (h, f)
                    g1 = Add (g0, t)
                    row = Sub (g1, x)
                }>
            }>
        }"""
    )
    oracle.check(model, {"x": f32(2)})


def scan_model(
    opset: int, directions: Sequence[int], axes: Sequence[int], out_axis: int, out_direction: int, x: np.ndarray
) -> onnx.ModelProto:
    """A running sum over two sequences, the second of which is the first in another direction."""
    step = [d for i, d in enumerate(x.shape) if i != axes[0] % x.ndim]
    nodes = [
        helper.make_node("Add", ["s", "a"], ["s1"]),
        helper.make_node("Mul", ["s1", "b"], ["o"]),
        helper.make_node("Identity", ["s1"], ["out_s"]),
    ]
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, step) for n in ("s", "a", "b", "out_s", "o")]
    body = helper.make_graph(nodes, "body", value[:3], value[3:])
    node = helper.make_node(
        "Scan",
        ["init", "x", "x"],
        ["final", "y"],
        body=body,
        num_scan_inputs=2,
        scan_input_directions=list(directions),
        scan_input_axes=list(axes),
        scan_output_axes=[out_axis],
        scan_output_directions=[out_direction],
    )
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [onnx.ValueInfoProto(name="final"), onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(f32(*step), "init")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.mark.parametrize("opset", [9, 11, 16, 21])
@pytest.mark.parametrize("directions", [(0, 0), (1, 0), (0, 1)])
@pytest.mark.parametrize(("axis", "out_axis", "out_direction"), [(0, 0, 0), (1, 1, 1), (-1, -1, 1)])
def test_scan(opset: int, directions: tuple[int, int], axis: int, out_axis: int, out_direction: int) -> None:
    if opset < 11 and axis < 0:
        pytest.skip("negative axes came with opset 11")
    x = f32(3, 4, 2)
    model = scan_model(opset, directions, (axis, axis), out_axis, out_direction, x)
    oracle.check(model, {"x": x})
    recorder, _ = traced(model, {"x": x})
    assert recorder.data_dependent is None


@pytest.mark.parametrize("lengths", [None, [3, 1], [2, 3]])
@pytest.mark.parametrize("back", [0, 1])
def test_scan_of_opset_8_with_lengths(lengths: list[int] | None, back: int) -> None:
    nodes = [
        helper.make_node("Add", ["s", "a"], ["s1"]),
        helper.make_node("Mul", ["s1", "a"], ["o"]),
    ]
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2]) for n in ("s", "a", "s1", "o")]
    body = helper.make_graph(nodes, "body", value[:2], value[2:])
    name = "" if lengths is None else "lengths"
    node = helper.make_node(
        "Scan", [name, "init", "x"], ["final", "y"], body=body, num_scan_inputs=1, directions=[back]
    )
    constants = [numpy_helper.from_array(f32(2, 2), "init")]
    if lengths is not None:
        constants.append(numpy_helper.from_array(np.array(lengths, np.int64), "lengths"))
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 2])],
        [onnx.ValueInfoProto(name="final"), onnx.ValueInfoProto(name="y")],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 8)], ir_version=8)
    oracle.check(model, {"x": f32(2, 3, 2)})


def test_what_a_loop_stacks_belongs_to_the_loop() -> None:
    _, module = traced(loop_model(2), {"x": f32(2, 3)})
    (stack,) = (n for n in module.graph.nodes if n.target is torch.ops.aten.stack.default)
    assert stack.meta["op"] == "Loop"
