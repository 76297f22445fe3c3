"""Windowed operators: an output at a position depends on inputs near that position.

Belongs here: the reach of convolution, pooling, padding and enlargement, and what they become on crops. Not here: the
arithmetic of reaches (``reach``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from analyzer.executor.incremental.locality import (
    Array,
    Layout,
    Local,
    Look,
    NotLocal,
    attribute,
    only_data,
    require_constant,
)
from analyzer.executor.incremental.pointwise import parameters, pointwise
from analyzer.executor.incremental.reach import Reach


def _sides(node: NodeProto, look: Look) -> tuple[tuple[int, ...], tuple[int, ...], Layout]:
    """Input sides, output sides and the layout of a node whose spatial axes are those after the channels."""
    given, made = look.shape(node.input[0]), look.shape(node.output[0])
    layout = look.layouts[node.input[0]]
    if sorted(layout) != list(range(2, len(given))) or len(given) != len(made):
        raise NotLocal(f"{node.op_type} works along other axes than windows do")
    if given[0] != look.batch or made[0] != look.batch:
        raise NotLocal(f"{node.op_type} changes the batch")
    return given[2:], made[2:], layout


def windows(node: NodeProto, look: Look, kernel: Sequence[int], *, outside: bool = False) -> tuple[Reach, ...]:
    """The reach per spatial axis of a node with a kernel, its padding resolved.

    Parameters
    ----------
    outside
        Whether windows may lie wholly outside the map.
    """
    given, made, layout = _sides(node, look)
    steps = attribute(node, "strides", [1] * len(given))
    dilations = attribute(node, "dilations", [1] * len(given))
    pads = list(attribute(node, "pads", [0] * 2 * len(given)))
    spans = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    how = attribute(node, "auto_pad", b"NOTSET").decode()
    if how == "VALID":
        pads = [0] * len(pads)
    elif how.startswith("SAME"):
        short = [
            max(0, (out - 1) * step + span - side)
            for out, step, span, side in zip(made, steps, spans, given, strict=True)
        ]
        pads = [total // 2 if how == "SAME_UPPER" else -(-total // 2) for total in short]
    last = [(out - 1) * step - begin for out, step, begin in zip(made, steps, pads, strict=False)]
    beyond = attribute(node, "ceil_mode", 0) and any(start >= side for start, side in zip(last, given, strict=True))
    if beyond and not outside:
        raise NotLocal(f"{node.op_type} with windows outside the map")
    reaches = [Reach(span, step, begin) for span, step, begin in zip(spans, steps, pads, strict=False)]
    return tuple(reaches[axis - 2] for axis in layout)


def _without_padding(node: NodeProto, *without: str) -> NodeProto:
    """A copy of a node without padding and some other attributes."""
    made = NodeProto()
    made.CopyFrom(node)
    del made.attribute[:]
    made.attribute.extend(a for a in node.attribute if a.name not in ("pads", "auto_pad", "ceil_mode", *without))
    return made


def convolution(node: NodeProto, look: Look) -> Local:
    only_data(node, look)
    for name in node.input[1:]:
        if name:
            require_constant(name, node, look)
    kernel = attribute(node, "kernel_shape", look.shape(node.input[1])[2:])
    reach = windows(node, look, kernel)
    if all(axis == Reach() for axis in reach) and look.shape(node.input[0])[2:] == look.shape(node.output[0])[2:]:
        return pointwise(_without_padding(node), look, parameters(node))
    return Local((_without_padding(node),), look.layouts[node.input[0]], (node.input[0],), reach=reach)


def max_pool(node: NodeProto, look: Look) -> Local:
    if len(node.output) > 1:
        raise NotLocal("MaxPool gives out indices")
    reach = windows(node, look, attribute(node, "kernel_shape", None))
    kind = helper.tensor_dtype_to_np_dtype(look.graph.kinds[node.input[0]])
    lowest = np.finfo(kind).min if kind.kind == "f" else np.iinfo(kind).min
    return Local(
        (_without_padding(node),), look.layouts[node.input[0]], (node.input[0],), reach=reach, fill=float(lowest)
    )


def average_pool(node: NodeProto, look: Look) -> Local:
    """The mean of the crop's positions, zeros outside the map, times the share that the whole map's mean counts."""
    kernel = attribute(node, "kernel_shape", None)
    reach, (given, made, layout) = windows(node, look, kernel), _sides(node, look)
    unpadded = _without_padding(node, "count_include_pad")
    if any(dilation != 1 for dilation in attribute(node, "dilations", [1])):
        raise NotLocal("AveragePool with dilations")
    counts = np.ones((1, 1, *made))
    for axis, one in zip(layout, reach, strict=True):
        here = one.counted(given[axis - 2], made[axis - 2])
        counts *= here.reshape([-1 if a == axis else 1 for a in range(len(made) + 2)])
    with np.errstate(divide="ignore", invalid="ignore"):
        share = _of_ones(node, look, given) / (counts / math.prod(kernel))
    if not np.isfinite(share).all():
        raise NotLocal("AveragePool with windows outside the map")
    if np.allclose(share, 1, rtol=0, atol=1e-6):
        return Local((unpadded,), layout, (node.input[0],), reach=reach)
    plain, scale = f"{node.output[0]}/plain", f"{node.output[0]}/share"
    del unpadded.output[:]
    unpadded.output.append(plain)
    kind = helper.tensor_dtype_to_np_dtype(look.graph.kinds[node.input[0]])
    nodes = (unpadded, helper.make_node("Mul", [plain, scale], [node.output[0]]))
    return Local(nodes, layout, (node.input[0],), reach=reach, extra={scale: share.astype(kind)})


def _of_ones(node: NodeProto, look: Look, sides: Sequence[int]) -> Array:
    """What the runtime's average pooling makes of a map of ones: the share of its divisor that lies in the map."""
    from analyzer.executor.session import Session

    ones_model = onnx.ModelProto(ir_version=look.graph.source.proto.ir_version)
    ones_model.opset_import.extend(o for o in look.graph.source.proto.opset_import if o.domain in ("", "ai.onnx"))
    ones_model.graph.name = "ones"
    ones_model.graph.node.append(node)
    ones_model.graph.input.append(helper.make_tensor_value_info(node.input[0], onnx.TensorProto.FLOAT, [1, 1, *sides]))
    ones_model.graph.output.append(onnx.ValueInfoProto(name=node.output[0]))
    ones = np.ones((1, 1, *sides), np.float32)
    runner = Session(ones_model.SerializeToString(), threads=1)
    return np.asarray(runner.run({node.input[0]: ones})[node.output[0]], np.float64)


def pad(node: NodeProto, look: Look) -> Local:
    """Padding as the cut of a crop that reaches beyond the map; what is left of the node is the identity."""
    only_data(node, look)
    given, _, layout = _sides(node, look)
    held: list[Any] = [attribute(node, "pads", None), attribute(node, "value", 0.0), None]
    for position, name in enumerate(node.input[1:]):
        held[position] = look.graph.value(name) if name else held[position]
        if name and held[position] is None:
            raise NotLocal("Pad with computed sizes")
    rank = len(given) + 2
    axes = range(rank) if held[2] is None else [int(axis) % rank for axis in np.ravel(held[2])]
    pads = [int(size) for size in np.ravel(held[0])]
    begins = dict(zip(axes, pads, strict=False))
    ends = dict(zip(axes, pads[len(axes) :], strict=True))
    outside = [size for axis in (0, 1) for size in (begins.get(axis, 0), ends.get(axis, 0))]
    if attribute(node, "mode", b"constant") != b"constant" or any(outside) or min(pads) < 0:
        raise NotLocal("Pad that isn't a constant border")
    identity = helper.make_node("Identity", [node.input[0]], [node.output[0]], name=node.name)
    reach = tuple(Reach(begin=begins.get(axis, 0)) for axis in layout)
    return Local((identity,), layout, (node.input[0],), reach=reach, fill=float(np.ravel(held[1])[0]))


def resize(node: NodeProto, look: Look) -> Local:
    """Enlargement by integer factors that repeats positions."""
    only_data(node, look)
    given, made, layout = _sides(node, look)
    shapes = look.shape(node.input[0]), look.shape(node.output[0])
    factors = [out // side for side, out in zip(given, made, strict=True)]
    exact = all(f > 0 and f * side == out for f, side, out in zip(factors, given, made, strict=True))
    old = node.op_type == "Upsample" or look.graph.opset < 11
    how = "asymmetric" if old else attribute(node, "coordinate_transformation_mode", b"half_pixel").decode()
    nearest = "floor" if old else attribute(node, "nearest_mode", b"round_prefer_floor").decode()
    repeats = (how == "asymmetric" and nearest == "floor") or (
        how in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric") and nearest.startswith("round_prefer")
    )
    repeats |= how == "asymmetric" and nearest == "round_prefer_floor" and max(factors) <= 2
    if attribute(node, "mode", b"nearest") != b"nearest" or not exact or not repeats or shapes[0][1] != shapes[1][1]:
        raise NotLocal(f"{node.op_type} that doesn't repeat positions")
    scales = numpy_helper.from_array(np.array([1, 1, *factors], np.float32), "")
    held = f"{node.output[0]}/scales"
    constant = helper.make_node("Constant", [], [held], value=scales)
    inputs = [node.input[0], held] if old else [node.input[0], "", held]
    made_node = helper.make_node(node.op_type, inputs, [node.output[0]], name=node.name)
    made_node.attribute.extend(
        a for a in node.attribute if a.name in ("mode", "coordinate_transformation_mode", "nearest_mode")
    )
    reach = tuple(Reach(repeat=factors[axis - 2]) for axis in layout)
    return Local((constant, made_node), layout, (node.input[0],), reach=reach)
