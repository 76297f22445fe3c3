"""Masks made in the graph, on the host and by plain loops are the same; models of all kinds take them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

import analyzer
from analyzer.errors import InputError
from analyzer.executor.io_binding import BoundSession
from analyzer.executor.mask_ops import Grid, MaskOps, Masks, Rows, Segments, Windows, mixed
from analyzer.executor.masked_model import CannotMaskError, MaskedModelSpec, build_masked_model
from analyzer.executor.session import Session
from tests.common.models import assemble, cnn, two_inputs

Array = NDArray[Any]
KINDS = ("windows", "segments", "masks", "grid")
#: Sample shape and the axes that have places: series, channels first and last, no channels, a volume.
LAYOUTS = {
    "row": ((11,), (0,)),
    "series": ((3, 19), (1,)),
    "first": ((3, 9, 12), (1, 2)),
    "last": ((9, 12, 3), (0, 1)),
    "volume": ((2, 5, 6, 7), (1, 2, 3)),
}


def given(
    kind: str, shape: tuple[int, ...], axes: tuple[int, ...], n: int, seed: int = 0
) -> tuple[MaskOps, Rows, Rows]:
    """Mask operators of the kind with n rows and their fixed arrays."""
    rng, sides = np.random.default_rng(seed), tuple(shape[axis] for axis in axes)
    placed = tuple(size if axis in axes else 1 for axis, size in enumerate(shape))
    if kind == "windows":
        ends = np.sort(rng.integers(0, np.array(sides)[None, :, None] + 1, (n, len(axes), 2)), axis=2)
        return Windows(shape, axes), {"bounds": ends}, {}
    if kind == "segments":
        ids = rng.integers(0, 6, np.prod(placed))
        ids[0] = 5
        return Segments(placed), {"present": rng.random((n, 6)) < 0.5}, {"ids": ids}
    if kind == "masks":
        return Masks(sides, placed), {"mask": rng.random((n, *sides)).astype(np.float32)}, {}
    grid = Grid(tuple(min(4, side) for side in sides), sides, placed)
    cells = (rng.random((n, *grid.counts)) < 0.5).astype(np.float32)
    return grid, {"cells": cells, "shift": rng.integers(0, grid.steps, (n, len(axes)))}, {}


def looped(kind: str, shape: tuple[int, ...], axes: tuple[int, ...], rows: Rows, fixed: Rows, at: int) -> Array:
    """One mask, element by element."""
    mask = np.empty(shape)
    placed = tuple(size if axis in axes else 1 for axis, size in enumerate(shape))
    for index in itertools.product(*map(range, shape)):
        places = [index[axis] for axis in axes]
        if kind == "windows":
            bounds = rows["bounds"][at]
            mask[index] = not all(low <= place < high for place, (low, high) in zip(places, bounds, strict=True))
        elif kind == "segments":
            own = tuple(i if size > 1 else 0 for i, size in zip(index, placed, strict=True))
            mask[index] = rows["present"][at, fixed["ids"].reshape(placed)[own]]
        elif kind == "masks":
            mask[index] = rows["mask"][at][tuple(places)]
        else:
            mask[index] = between(rows["cells"][at], rows["shift"][at], places, [shape[axis] for axis in axes])
    return mask


def between(cells: Array, shift: Array, position: list[int], sides: list[int]) -> float:
    """Multilinear interpolation of a grid that covers one cell more than the sides."""
    value = cells.astype(np.float64)
    for index, move, side in zip(position, shift, sides, strict=True):
        count = len(value)
        step = -(-side // count)
        at = min(max((index + int(move) + 0.5) * count / ((count + 1) * step) - 0.5, 0.0), count - 1.0)
        low = int(at)
        value = value[low] + (at - low) * (value[min(low + 1, count - 1)] - value[low])
    return float(value)


def showing(shape: tuple[int, ...], dtype: str = "float32", batch: int | str = "n", opset: int = 17) -> onnx.ModelProto:
    """A model that gives out its input, so that what a mask makes of it is seen."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    proto = assemble(
        [helper.make_node("Identity", ["x"], ["y"])], {"x": (kind, [batch, *shape])}, {"y": (kind, [batch, *shape])}, {},
        opset,
    )  # fmt: skip
    proto.ir_version = 3 if opset < 9 else 8
    return proto


def in_graph(
    proto: onnx.ModelProto, ops: MaskOps, rows: Rows, fixed: Rows, x: Array, replacement: Array | None
) -> Array:
    """The model's first output behind the mask operators."""
    batch = proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value or None
    output = proto.graph.output[0].name
    name = proto.graph.input[0].name
    spec = MaskedModelSpec(ops, name, x.dtype.name, x.shape, (), (), (output,), batch, replacement is None)
    masked = build_masked_model(proto, spec)
    feed = {masked.rows[role]: value for role, value in rows.items()}
    feed |= {masked.fixed[role]: value for role, value in fixed.items()} | {masked.original: x[None]}
    if replacement is not None:
        feed[masked.replacement] = replacement[None]
    onnx.checker.check_model(onnx.ModelProto.FromString(masked.content))
    found: Array = Session(masked.content, threads=1).run(feed, [output])[output]
    return found


@pytest.mark.parametrize("opset", [7, 13, 21])
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_graph_host_and_loops_agree(kind: str, layout: str, zero: bool, opset: int) -> None:
    (shape, axes), rng = LAYOUTS[layout], np.random.default_rng(3)
    x, replacement = rng.standard_normal((2, *shape)).astype(np.float32)
    replacement = np.zeros_like(x) if zero else replacement
    ops, rows, fixed = given(kind, shape, axes, 5)
    got = in_graph(showing(shape, opset=opset), ops, rows, fixed, x, None if zero else replacement)
    host = mixed(x[None], replacement[None], ops.masks(rows, fixed))
    for at in range(5):
        mask = looped(kind, shape, axes, rows, fixed, at)
        expected = replacement + mask * (x.astype(np.float64) - replacement)
        np.testing.assert_allclose(got[at], expected, atol=2e-6)
        np.testing.assert_allclose(host[at], expected, atol=2e-6)
    if ops.binary:  # nothing is rounded where elements are kept or replaced
        np.testing.assert_array_equal(got, host)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int64", "int32", "uint8"])
@pytest.mark.parametrize("kind", KINDS)
def test_element_types(kind: str, dtype: str) -> None:
    shape, axes = LAYOUTS["first"]
    x, other = (np.random.default_rng(4).random((2, *shape)) * 9).astype(dtype)
    ops, rows, fixed = given(kind, shape, axes, 4)
    for replacement in (other, None):
        got = in_graph(showing(shape, dtype), ops, rows, fixed, x, replacement)
        away = np.zeros_like(x) if replacement is None else other
        host = mixed(x[None], away[None], ops.masks(rows, fixed))
        assert got.dtype == host.dtype == np.dtype(dtype)
        np.testing.assert_allclose(got, host, rtol=1e-3 if dtype == "float16" else 1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fixed_batch_keeps_its_shapes(kind: str) -> None:
    shape, axes = LAYOUTS["first"]
    x = np.random.default_rng(5).standard_normal(shape).astype(np.float32)
    ops, rows, fixed = given(kind, shape, axes, 3)
    got = in_graph(showing(shape, batch=3), ops, rows, fixed, x, x + 1)
    np.testing.assert_allclose(got, mixed(x[None], x[None] + 1, ops.masks(rows, fixed)), atol=1e-6)


def test_other_inputs_are_repeated_in_the_graph() -> None:
    proto = two_inputs()
    rng = np.random.default_rng(6)
    x, row = rng.standard_normal((3, 8, 8)).astype(np.float32), None
    spec = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in proto.graph.input}
    row = rng.standard_normal((1, *spec["row"][1:])).astype(np.float32)
    ops, rows, fixed = given("windows", (3, 8, 8), (1, 2), 4)
    along = (("row", "float32", row.shape, 0),)
    masked = build_masked_model(
        proto, MaskedModelSpec(ops, "picture", "float32", x.shape, along, (), ("scores",), None, True)
    )
    feed = {masked.rows["bounds"]: rows["bounds"], masked.original: x[None], masked.others["row"]: row}
    got = Session(masked.content, threads=1).run(feed)["scores"]
    copies = mixed(x[None], np.zeros_like(x)[None], ops.masks(rows, fixed))
    expected = analyzer.load(proto, "cpu", threads=1).predict({"picture": copies, "row": np.repeat(row, 4, axis=0)})
    np.testing.assert_allclose(got, expected["scores"], rtol=1e-5)


def test_inputs_held_on_a_device_give_the_same() -> None:
    """IO binding, on the host's own device."""
    ops, rows, fixed = given("segments", (3, 8, 8), (1, 2), 4)
    x = np.random.default_rng(6).standard_normal((3, 8, 8)).astype(np.float32)
    masked = build_masked_model(
        cnn(), MaskedModelSpec(ops, "x", "float32", x.shape, (), (), ("scores", "a2"), None, True)
    )
    session = Session(masked.content, threads=1)
    constant = {masked.original: x[None], masked.fixed["ids"]: fixed["ids"]}
    fed = {masked.rows["present"]: rows["present"]}
    bound = BoundSession(session, constant, ("scores", "a2"))
    expected = session.run({**fed, **constant}, ("scores", "a2"))
    for _ in range(2):
        got = bound.run(fed)
        for name in expected:
            np.testing.assert_array_equal(got[name], expected[name])
    with pytest.raises(InputError):
        bound.run({masked.rows["present"]: rows["present"][:, :2]})


def test_a_batch_of_one_needs_no_repeating() -> None:
    nodes = [helper.make_node("Add", ["x", "o"], ["y"])]
    proto = assemble(nodes, {"x": (1, [1, 4]), "o": (1, [1, 4])}, {"y": (1, [1, 4])}, {}, 7)
    ops, rows, _ = given("masks", (4,), (0,), 1)
    along = (("o", "float32", (1, 4), 0),)
    masked = build_masked_model(proto, MaskedModelSpec(ops, "x", "float32", (4,), along, (), ("y",), 1, True))
    x, other = np.ones((1, 4), np.float32), np.arange(4, dtype=np.float32)[None]
    feed = {masked.rows["mask"]: rows["mask"], masked.original: x, masked.others["o"]: other}
    np.testing.assert_allclose(Session(masked.content).run(feed)["y"], rows["mask"] + other, rtol=1e-6)


def test_a_batch_axis_that_is_not_the_first_is_repeated() -> None:
    nodes = [helper.make_node("Transpose", ["o"], ["t"], perm=[1, 0]), helper.make_node("Add", ["x", "t"], ["y"])]
    proto = assemble(nodes, {"x": (1, ["n", 4]), "o": (1, [4, "n"])}, {"y": (1, ["n", 4])}, {})
    ops, rows, _ = given("masks", (4,), (0,), 3)
    x, other = np.ones(4, np.float32), np.arange(4, dtype=np.float32)[:, None]
    along = (("o", "float32", (4, 1), 1),)
    masked = build_masked_model(proto, MaskedModelSpec(ops, "x", "float32", (4,), along, (), ("y",), None, True))
    feed = {masked.rows["mask"]: rows["mask"], masked.original: x[None], masked.others["o"]: other}
    np.testing.assert_allclose(Session(masked.content).run(feed)["y"], rows["mask"] + other.T, rtol=1e-6)


def test_names_of_the_model_are_never_met() -> None:
    inner = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["_masking_7"])],
        "then",
        [],
        [helper.make_tensor_value_info("_masking_7", 1, None)],
    )
    nodes = [
        helper.make_node("If", ["masking_original"], ["masking_0"], then_branch=inner, else_branch=inner),
        helper.make_node("Identity", ["masking_0"], ["y"]),
    ]
    proto = assemble(nodes, {"x": (1, ["n", 4])}, {"y": (1, ["n", 4])}, {"masking_original": np.array(True)})
    ops, rows, fixed = given("masks", (4,), (0,), 3)
    x = np.arange(1, 5, dtype=np.float32)
    np.testing.assert_allclose(in_graph(proto, ops, rows, fixed, x, None), rows["mask"] * x, rtol=1e-6)


def test_old_models_list_weights_as_inputs() -> None:
    """They stay constants, for onnxruntime folds only those."""
    proto = cnn()
    del proto.opset_import[:]
    proto.opset_import.append(helper.make_opsetid("", 7))
    proto.ir_version = 3
    for tensor in proto.graph.initializer:
        proto.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    ops, rows, fixed = given("grid", (3, 8, 8), (1, 2), 4)
    x = np.random.default_rng(7).standard_normal((3, 8, 8)).astype(np.float32)
    got = in_graph(proto, ops, rows, fixed, x, x * 0 + 0.5)
    copies = mixed(x[None], np.full_like(x, 0.5)[None], ops.masks(rows, fixed))
    np.testing.assert_allclose(got, analyzer.load(proto, "cpu").predict(copies)["scores"], rtol=1e-4, atol=1e-6)
    masked = build_masked_model(proto, MaskedModelSpec(ops, "x", "float32", x.shape, (), (), ("scores",), None, True))
    assert {value.name for value in onnx.ModelProto.FromString(masked.content).graph.input}.isdisjoint({"w1", "w2"})


def test_what_no_wanted_value_needs_is_left_out() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("MatMul", ["a", "w"], ["y"])]
    proto = assemble(nodes, {"x": (1, ["n", 4])}, {"y": (1, ["n", 2])}, {"w": np.ones((4, 2), np.float32)})
    ops, rows, _ = given("masks", (4,), (0,), 3)
    masked = build_masked_model(proto, MaskedModelSpec(ops, "x", "float32", (4,), (), (), ("a",), None, True))
    graph = onnx.ModelProto.FromString(masked.content).graph
    assert not graph.initializer
    assert "MatMul" not in {node.op_type for node in graph.node}
    feed = {masked.rows["mask"]: rows["mask"], masked.original: np.array([[1, -2, 3, 4]], np.float32)}
    got = Session(masked.content).run(feed)["a"]
    np.testing.assert_allclose(got, np.maximum(rows["mask"] * [1, -2, 3, 4], 0), rtol=1e-6)


@pytest.mark.parametrize("inside", [True, False])
def test_weights_stay_where_they_lie(tmp_path: Path, inside: bool) -> None:
    """In the model's own file or beside it: the masked model refers to them."""
    w = np.random.default_rng(8).standard_normal((6 * 6, 500)).astype(np.float32)
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    proto = assemble(nodes, {"x": (1, ["n", 1, 6, 6])}, {"y": (1, ["n", 500])}, {"w": w})
    path = tmp_path / "model.onnx"
    onnx.save(proto, path, save_as_external_data=not inside, location="model.bin", size_threshold=0)
    model = analyzer.load(path, "cpu", threads=1)
    x = np.random.default_rng(9).standard_normal((1, 1, 6, 6)).astype(np.float32)
    done = model.explain(x, method="occlusion", window=2, stride=2, target=3)
    assert done.record["masks"] == "graph"
    ops = Masks((6, 6), (1, 6, 6))
    content = build_masked_model(
        model.proto, MaskedModelSpec(ops, "x", "float32", (1, 6, 6), (), (), ("y",), None, True)
    ).content
    assert len(content) < w.nbytes / 4
    drops = (x[0, 0] * w[:, 3].reshape(6, 6)).reshape(3, 2, 3, 2).sum(axis=(1, 3))
    np.testing.assert_allclose(done.attribution[0, 0, ::2, ::2], drops, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "opset", "reason"), [("float32", 6, "opset 6"), ("int8", 17, "int8"), ("int64", 8, "int64")]
)
def test_what_cannot_be_masked_says_why(dtype: str, opset: int, reason: str) -> None:
    ops, _, _ = given("masks", (4,), (0,), 1)
    with pytest.raises(CannotMaskError, match=reason):
        build_masked_model(
            showing((4,), dtype, opset=opset), MaskedModelSpec(ops, "x", dtype, (4,), (), (), ("y",), None, True)
        )


def test_a_model_too_large_to_be_written_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from analyzer.executor import masked_model

    monkeypatch.setattr(masked_model, "_LARGEST_BYTES", 100)
    ops, _, _ = given("masks", (4,), (0,), 1)
    with pytest.raises(CannotMaskError, match="too large"):
        build_masked_model(showing((4,)), MaskedModelSpec(ops, "x", "float32", (4,), (), (), ("y",), None, True))
