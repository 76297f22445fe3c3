"""Incremental inference equals whole runs, on random networks and on constructed hard cases."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from analyzer.executor.incremental import Graph, Plan, Runner, Sample, Source, Span, chain, planned
from analyzer.executor.session import Session
from analyzer.importer.checked_files import CheckedFiles
from tests.analyzer.executor.incremental.graphs import Builder, random_network

Array = NDArray[Any]


def draw(seed: int, *shape: int) -> Array:
    """Values of one sample."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def grid(sides: Sequence[int], window: Sequence[int], stride: Sequence[int]) -> list[Span]:
    """Windows at multiples of the stride, cut at the border."""
    low = [np.arange(0, side, step) for side, step in zip(sides, stride, strict=True)]
    return [Span(a, np.minimum(a + size, side)) for a, size, side in zip(low, window, sides, strict=True)]


def full_plan(
    proto: onnx.ModelProto, shapes: dict[str, tuple[int, ...]], spans: list[Span], wanted: Sequence[str],
    axes: tuple[int, ...] | None = None, root: str = "x", threads: int = 1,
) -> Plan:  # fmt: skip
    """A plan that computes all that is local incrementally, whatever that costs."""
    axes = axes or tuple(range(2, len(shapes[root])))
    plan = planned(chain(Graph(Source(proto, threads=threads), shapes), root, axes, wanted), spans)
    plan.cut = len(plan.chain.stages)
    return plan


def whole_runs(
    proto: onnx.ModelProto, x: Array, gone: Array, spans: list[Span], wanted: str, axes: tuple[int, ...],
    others: dict[str, Array] | None = None, root: str = "x",
) -> tuple[Array, Array]:  # fmt: skip
    """Every window run whole and by itself; and the clean run."""
    session = Session(
        proto.SerializeToString(), expose=() if wanted in {o.name for o in proto.graph.output} else [wanted]
    )
    found = []
    for corner in itertools.product(*(range(len(span.low)) for span in spans)):
        copy, index = x.copy(), [slice(None)] * x.ndim
        for axis, i, span in zip(axes, corner, spans, strict=True):
            index[axis - 1] = slice(int(span.low[i]), int(span.high[i]))
        copy[tuple(index)] = gone[tuple(index)]
        found.append(session.run({root: copy[None], **(others or {})}, [wanted])[wanted][0])
    return np.stack(found), session.run({root: x[None], **(others or {})}, [wanted])[wanted][0]


def check(
    proto: onnx.ModelProto, x: Array, spans: list[Span], wanted: str, *, axes: tuple[int, ...] | None = None,
    others: dict[str, tuple[Array, int | None]] | None = None, fixed: int | None = None, threads: int = 1,
    plan: Plan | None = None, gone: Array | None = None,
) -> Plan:  # fmt: skip
    """Assert that all windows' values are those of whole runs."""
    others, axes = others or {}, axes or tuple(range(2, x.ndim + 1))
    shapes = {"x": (fixed or 1, *x.shape), **{name: value.shape for name, (value, _) in others.items()}}
    plan = plan or full_plan(proto, shapes, spans, [wanted], axes, threads=threads)
    gone = draw(99, *x.shape) if gone is None else gone
    assert plan.cut, plan.chain.ends
    expected, clean = whole_runs(proto, x, gone, spans, wanted, axes, {k: v for k, (v, _) in others.items()})
    got = np.full(expected.shape, np.nan)
    counts = [len(span.low) for span in spans]
    for corners, values in Runner(plan, fixed).run(Sample(x, gone, others)):
        for corner, value in zip(corners, values[wanted], strict=True):
            got[np.ravel_multi_index(corner, counts)] = value
    scale = max(np.abs(expected).max(), np.abs(clean).max())
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * scale)
    assert np.abs(expected - clean).max() > 1e-4 * scale, "the windows change nothing: the test shows nothing"
    return plan


WINDOWS = [((5, 5), (5, 5)), ((3, 4), (2, 3)), ((1, 1), (4, 3)), ((7, 2), (3, 7)), ((40, 6), (4, 6))]


@pytest.mark.parametrize("seed", range(60))
def test_random_networks(seed: int) -> None:
    made = random_network(seed)
    window, stride = WINDOWS[seed % len(WINDOWS)]
    check(made.model([made.value]), draw(seed, *made.first), grid(made.first[1:], window, stride), made.value)


@pytest.mark.parametrize("seed", range(100, 115))
def test_random_series(seed: int) -> None:
    made = random_network(seed, rank=1)
    check(made.model([made.value]), draw(seed, *made.first), grid(made.first[1:], (4,), (3,)), made.value)


@pytest.mark.parametrize("seed", range(200, 204))
def test_random_volumes(seed: int) -> None:
    made = Builder(seed, 2, (7, 6, 8))
    made.conv(3, 3, strides=[1, 1, 1])
    made.pool()
    made.conv()
    made.head("flat")
    check(made.model([made.value]), draw(seed, *made.first), grid(made.first[1:], (3, 3, 3), (3, 2, 3)), made.value)


@pytest.mark.parametrize("seed", range(300, 312))
def test_maps_as_outputs(seed: int) -> None:
    """Nothing follows the incremental part: what is wanted is laid into the clean map."""
    made = random_network(seed, head="map")
    plan = check(made.model([made.value]), draw(seed, *made.first), grid(made.first[1:], (4, 4), (4, 4)), made.value)
    assert not plan.chain.ends


@pytest.mark.parametrize("seed", [400, 401, 402, 403])
def test_wherever_the_incremental_part_ends(seed: int) -> None:
    made = random_network(seed)
    proto, x = made.model([made.value]), draw(seed, *made.first)
    spans = grid(made.first[1:], (4, 5), (3, 4))
    stages = len(full_plan(proto, {"x": (1, *made.first)}, spans, [made.value]).chain.stages)
    for cut in range(1, stages + 1):
        plan = full_plan(proto, {"x": (1, *made.first)}, spans, [made.value])
        plan.cut = cut
        check(proto, x, spans, made.value, plan=plan)


def network(*layers: str, sides: tuple[int, ...] = (16, 15), channels: int = 3) -> Builder:
    """Padded convolutions around what is looked at."""
    made = Builder(7, channels, sides)
    made.conv(4, 3, strides=[1, 1], dilations=[1, 1], pads=[1, 1, 1, 1], auto_pad="pads")
    return made


@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize("ceil", [0, 1])
@pytest.mark.parametrize("pads", [[1, 1, 1, 1], [0, 1, 1, 0], [1, 0, 2, 1]])
def test_average_pooling_counts_what_it_counts_on_the_whole_map(include: int, ceil: int, pads: list[int]) -> None:
    made = network()
    made.settle(
        "AveragePool", [made.value], 4, kernel_shape=[3, 3], strides=[2, 2], pads=pads, ceil_mode=ceil,
        count_include_pad=include,
    )  # fmt: skip
    assert made.nodes[-1].op_type == "AveragePool"
    made.conv(2, 3, strides=[1, 1], auto_pad="SAME_UPPER")
    made.head("flat")
    plan = check(made.model([made.value]), draw(1, *made.first), grid((16, 15), (3, 3), (2, 3)), made.value)
    assert plan.cut == 3


def test_a_window_that_ends_outside_the_map_is_left_to_whole_runs() -> None:
    """ONNX and onnxruntime disagree on whether such a position exists."""
    made = Builder(0, 1, (4, 4))
    made.conv(2, 1, strides=[1, 1], auto_pad="VALID")
    made.add("MaxPool", [made.value], kernel_shape=[2, 2], strides=[3, 3], pads=[1, 1, 1, 1], ceil_mode=1)
    links = chain(Graph(Source(made.model([made.value])), {"x": (1, 1, 4, 4)}), "x", (2, 3), [made.value])
    assert "outside the map" in links.ends["MaxPool_1"]


def test_channels_last_at_the_entry_and_inside() -> None:
    """Scaled and transposed at the entry; a channel-wise part as in ConvNeXt."""
    made = Builder(3, 3, (12, 13))
    made.first = (12, 13, 3)
    made.add("Sub", ["x", made.random(3)])
    made.add("Transpose", [made.value], perm=[0, 3, 1, 2])
    start = made.value
    made.conv(4, 5, strides=[1, 1], dilations=[1, 1], auto_pad="SAME_UPPER")
    made.add("Transpose", [made.value], perm=[0, 2, 3, 1])
    made.add("LayerNormalization", [made.value, made.random(4), made.random(4)], axis=-1)
    made.add("MatMul", [made.value, made.random(4, 6)])
    made.add("Tanh", [made.value])
    made.add("MatMul", [made.value, made.random(6, 3)])
    made.add("Transpose", [made.value], perm=[0, 3, 1, 2])
    made.add("Add", [made.value, start])
    made.channels = 3
    made.conv(2, 3, strides=[2, 1], auto_pad="SAME_LOWER")
    made.head("mean")
    x, spans = draw(2, 12, 13, 3), grid((12, 13), (4, 3), (4, 2))
    plan = check(made.model([made.value]), x, spans, made.value, axes=(1, 2))
    assert plan.cut == 3
    assert [len(stage.indices) for stage in plan.chain.stages] == [2, 8, 1]


def test_channel_means_splits_slices_and_gathers() -> None:
    made = network()
    mean = made.add("ReduceMean", [made.value], axes=[1], keepdims=1)
    made.add("Sub", ["v0", mean])
    order = made.constant(np.array([2, 0, 3, 1]))
    made.add("Gather", [made.value, order], axis=1)
    made.nodes.append(helper.make_node("Split", [made.value], ["left", "right"], axis=1))
    begin, end, axes = (made.constant(np.array([i])) for i in (0, 1, 1))
    made.nodes.append(helper.make_node("Slice", ["left", begin, end, axes], ["one"]))
    made.add("Concat", ["one", "right", "left"], axis=1)
    made.channels = 5
    made.conv(3, 3, strides=[1, 1], auto_pad="SAME_UPPER", dilations=[1, 1])
    made.head("flat")
    plan = check(made.model([made.value]), draw(3, *made.first), grid((16, 15), (5, 4), (5, 4)), made.value)
    assert plan.cut == 2


def test_a_mean_over_places_ends_the_part() -> None:
    """A squeeze-and-excite gate depends on all places: the values before it are laid into whole maps."""
    made = network()
    trunk = made.value
    made.add("GlobalAveragePool", [trunk])
    made.add("Sigmoid", [made.value])
    made.add("Mul", [trunk, made.value])
    made.conv(2, 3, strides=[1, 1], auto_pad="VALID", dilations=[1, 1])
    made.head("flat")
    plan = check(made.model([made.value]), draw(4, *made.first), grid((16, 15), (5, 4), (5, 4)), made.value)
    assert plan.cut == 1
    assert list(plan.chain.ends) == ["GlobalAveragePool_1"]


def with_inputs(made: Builder, **shapes: tuple[int | str, ...]) -> onnx.ModelProto:
    """The model with further inputs."""
    proto = made.model([made.value])
    for name, shape in shapes.items():
        proto.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    return proto


def test_other_inputs() -> None:
    """A map and a vector per sample, a map that is the same for all, and a gate computed from another input."""
    made = network()
    made.add("Add", [made.value, "map"])
    gate = made.add("Sigmoid", ["vector"])
    made.add("Mul", ["v1", gate])
    made.add("Add", [made.value, "shared"])
    made.add("Conv", [made.value, made.random(2, 4, 3, 3)], pads=[1, 1, 1, 1])
    made.channels = 2
    made.head("flat")
    proto = with_inputs(made, map=("n", 4, 16, 15), vector=("n", 4, 1, 1), shared=(16, 15))
    others = {"map": (draw(5, 1, 4, 16, 15), 0), "vector": (draw(6, 1, 4, 1, 1), 0), "shared": (draw(7, 16, 15), None)}
    plan = check(proto, draw(4, *made.first), grid((16, 15), (5, 4), (5, 4)), made.value, others=others)
    assert plan.cut == 2


def test_another_input_in_the_rest() -> None:
    made = network()
    made.add("Flatten", [made.value])
    made.add("Gemm", [made.value, made.random(4 * 16 * 15, 3, scale=0.05)])
    made.add("Mul", [made.value, "vector"])
    proto = with_inputs(made, vector=("n", 3))
    check(
        proto, draw(4, *made.first), grid((16, 15), (5, 4), (5, 4)), made.value, others={"vector": (draw(6, 1, 3), 0)}
    )


@pytest.mark.parametrize("batch", [1, 3])
def test_a_fixed_batch(batch: int) -> None:
    """A reshape that holds the batch: the rest runs so many windows at once, the last filled up."""
    made = network()
    made.add("Reshape", [made.value, made.constant(np.array([batch, 4 * 16 * 15]))])
    made.add("Gemm", [made.value, made.random(4 * 16 * 15, 3, scale=0.05)])
    proto, x = made.model([made.value], batch), draw(4, *made.first)
    spans, gone = grid((16, 15), (5, 4), (5, 4)), draw(9, *made.first)
    plan = full_plan(proto, {"x": (batch, *x.shape)}, spans, [made.value])
    session, counts = Session(proto.SerializeToString(), threads=1), [len(span.low) for span in spans]
    seen = 0
    for corners, got in Runner(plan, batch).run(Sample(x, gone, {})):
        for corner, value in zip(corners, got[made.value], strict=True):
            copy = x.copy()
            box = tuple(slice(int(s.low[i]), int(s.high[i])) for s, i in zip(spans, corner, strict=True))
            copy[(..., *box)] = gone[(..., *box)]
            whole = session.run({"x": np.repeat(copy[None], batch, 0)})[made.value][0]
            np.testing.assert_allclose(value, whole, rtol=0, atol=1e-5 * np.abs(whole).max())
            seen += 1
    assert seen == np.prod(counts)


def test_whole_numbers_are_cast_inside() -> None:
    made = network()
    made.nodes.insert(0, helper.make_node("Cast", ["pixels"], ["x"], to=TensorProto.FLOAT))
    made.head("flat")
    proto = made.model([made.value])
    proto.graph.input[0].name, proto.graph.input[0].type.tensor_type.elem_type = "pixels", TensorProto.UINT8
    draws = np.random.default_rng(0)
    x, gone = (draws.integers(0, 255, made.first).astype(np.uint8) for _ in range(2))
    spans = grid((16, 15), (5, 4), (5, 4))
    plan = full_plan(proto, {"pixels": (1, *x.shape)}, spans, [made.value], root="pixels")
    assert plan.cut == 2
    expected, _ = whole_runs(proto, x, gone, spans, made.value, (2, 3), root="pixels")
    for corners, got in Runner(plan).run(Sample(x, gone, {})):
        for corner, value in zip(corners, got[made.value], strict=True):
            whole = expected[np.ravel_multi_index(corner, [len(s.low) for s in spans])]
            np.testing.assert_allclose(value, whole, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_several_threads_give_what_one_gives() -> None:
    made = random_network(2)
    check(made.model([made.value]), draw(2, *made.first), grid(made.first[1:], (2, 2), (1, 2)), made.value, threads=3)


def test_weights_outside_the_file(tmp_path: Any) -> None:
    made = network()
    made.head("flat")
    spans, x, gone = grid((16, 15), (5, 4), (5, 4)), draw(1, *made.first), draw(2, *made.first)
    expected, _ = whole_runs(made.model([made.value]), x, gone, spans, made.value, (2, 3))
    path = tmp_path / "model.onnx"
    onnx.save(made.model([made.value]), path, save_as_external_data=True, location="weights", size_threshold=0)
    proto = onnx.load(path, load_external_data=False)
    links = chain(
        Graph(Source(proto, CheckedFiles(tmp_path), threads=1), {"x": (1, *x.shape)}), "x", (2, 3), [made.value]
    )
    plan = planned(links, spans)
    plan.cut = 1
    for corners, got in Runner(plan).run(Sample(x, gone, {})):
        for corner, value in zip(corners, got[made.value], strict=True):
            whole = expected[np.ravel_multi_index(corner, [len(s.low) for s in spans])]
            np.testing.assert_allclose(value, whole, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_a_subgraph_in_the_rest_takes_values_from_outside() -> None:
    """An If behind the incremental part reads a value of it and another input."""
    made = network()
    trunk = made.value
    branches = [
        helper.make_graph(
            [helper.make_node(op, [trunk, "vector"], ["joined"])], op, [],
            [helper.make_tensor_value_info("joined", TensorProto.FLOAT, None)],
        )
        for op in ("Mul", "Add")
    ]  # fmt: skip
    made.add("ReduceSum", ["vector"], keepdims=0)
    made.add("Greater", [made.value, made.constant(np.float32(0))])
    made.add("If", [made.value], then_branch=branches[0], else_branch=branches[1])
    made.head("mean")
    proto = with_inputs(made, vector=("n", 4, 1, 1))
    plan = check(
        proto,
        draw(4, *made.first),
        grid((16, 15), (5, 4), (5, 4)),
        made.value,
        others={"vector": (draw(6, 1, 4, 1, 1), 0)},
    )
    assert plan.cut == 1


def test_arithmetic_in_its_old_form_is_left_to_whole_runs() -> None:
    """Before opset 7 an attribute said along which axis a vector lies."""
    made = network(sides=(4, 4))
    made.add("Add", [made.value, made.random(4)], broadcast=1, axis=1)
    links = chain(Graph(Source(made.model([made.value], opset=6)), {"x": (1, 3, 4, 4)}), "x", (2, 3), [made.value])
    assert links.ends == {"Add_1": "Add in its old form"}
