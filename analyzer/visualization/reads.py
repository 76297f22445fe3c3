"""Which positions of its input each position of an operator's output reads.

Belongs here: operators that incremental inference can't compute in part but whose reach is known, as transposed convolutions.
Not here: those that it can (``analyzer.executor.incremental.operators``), what positions see of the input (``fields``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from onnx import NodeProto

from analyzer.executor.incremental.locality import Look, NotLocal, attribute
from analyzer.executor.incremental.operators import local
from analyzer.executor.incremental.reach import Reach
from analyzer.executor.incremental.windowed import windows
from analyzer.visualization.fields import Integers, Stretch

MIXED = "it mixes positions"


@dataclass(frozen=True, eq=False)
class Reads:
    """The positions that an output's positions read, for each axis of places.

    Attributes
    ----------
    layout
        Axis of places -> axis of the output.
    first, last
        For each of them: of every output position, the first and the last input position; outside the map is padding.
    stretch
        For each of them.
    """

    layout: tuple[int, ...]
    first: tuple[Integers, ...]
    last: tuple[Integers, ...]
    stretch: tuple[Stretch, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """The output's sizes along the axes of places."""
        return tuple(len(each) for each in self.first)


def positions_read(node: NodeProto, look: Look) -> Reads | str:
    """What a node's first output reads of its maps; or why every position may read all."""
    try:
        if node.op_type in _OWN and node.domain in ("", "ai.onnx", "com.microsoft"):
            return _OWN[node.op_type](node, look)
        found = local(node, look)
        sides = [look.shape(node.output[0])[axis] for axis in found.layout]
        return _of_reaches(found.layout, sides, found.reach or (Reach(),) * len(sides))
    except NotLocal as why:
        return str(why)


def _of_reaches(layout: tuple[int, ...], sides: list[int], reaches: tuple[Reach, ...]) -> Reads:
    first = tuple(reach.start(np.arange(side)) for reach, side in zip(reaches, sides, strict=True))
    last = tuple(each + reach.span - 1 for each, reach in zip(first, reaches, strict=True))
    stretch = tuple(Stretch(reach.span, reach.step / reach.repeat, reach.begin) for reach in reaches)
    return Reads(layout, first, last, stretch)


def _map(node: NodeProto, look: Look) -> str:
    """The only map that a node reads."""
    changed = [name for name in node.input if name in look.layouts]
    if len(changed) != 1:
        raise NotLocal(MIXED)
    return str(changed[0])


def _kernel(node: NodeProto, look: Look) -> list[int]:
    """The sides of a node's windows."""
    given = attribute(node, "kernel_shape", None)
    if given is None:
        weights = {"QLinearConv": 3}.get(node.op_type, 1)
        given = look.shape(node.input[weights])[2:]
    return list(given)


def _window(node: NodeProto, look: Look) -> Reads:
    """Convolutions and pooling, whatever their padding."""
    name = _map(node, look)
    if name != node.input[0]:
        raise NotLocal(f"{node.op_type} has computed parameters")
    reaches = windows(node, look, _kernel(node, look), outside=True)
    layout = look.layouts[name]
    sides = [look.shape(node.output[0])[axis] for axis in layout]
    found = _of_reaches(layout, sides, reaches)
    apart = attribute(node, "dilations", [1] * len(layout))
    dilated = (replace(each, dilation=apart[axis - 2]) for axis, each in zip(layout, found.stretch, strict=True))
    return replace(found, stretch=tuple(dilated))


def _transposed(node: NodeProto, look: Look) -> Reads:
    """Transposed convolution: output o gets input i where o = i·step - begin + k·dilation for a k of the kernel."""
    name = _map(node, look)
    layout, given, made = look.layouts[name], look.shape(node.input[0]), look.shape(node.output[0])
    if name != node.input[0] or sorted(layout) != list(range(2, len(given))):
        raise NotLocal(MIXED)
    rank = len(layout)
    steps, dilations = attribute(node, "strides", [1] * rank), attribute(node, "dilations", [1] * rank)
    extra, pads = attribute(node, "output_padding", [0] * rank), list(attribute(node, "pads", [0] * 2 * rank))
    how = attribute(node, "auto_pad", b"NOTSET").decode()
    kernel, first, last, stretch = _kernel(node, look), [], [], []
    for axis in layout:
        at = axis - 2
        span, step = (kernel[at] - 1) * dilations[at] + 1, steps[at]
        begin = pads[at]
        if how.startswith("SAME") or attribute(node, "output_shape", None) is not None:
            total = max(0, step * (given[axis] - 1) + extra[at] + span - made[axis])
            begin = total // 2 if how == "SAME_UPPER" else total - total // 2
        out = np.arange(made[axis], dtype=np.int64)
        first.append(-((span - 1 - begin - out) // step))
        last.append((out + begin) // step)
        stretch.append(Stretch(max(1, -(-span // step)), 1 / step, float(-first[-1][0])))
    return Reads(layout, tuple(first), tuple(last), tuple(stretch))


def _pointwise(node: NodeProto, look: Look) -> Reads:
    """Numbers changed one by one; maps of one layout and size."""
    maps = [name for name in node.input if name in look.layouts]
    layout, shape = look.layouts[maps[0]], look.shape(node.output[0])
    sides = [shape[axis] for axis in layout]
    for name in maps:
        if look.layouts[name] != layout or [look.shape(name)[axis] for axis in layout] != sides:
            raise NotLocal(MIXED)
    return _of_reaches(layout, sides, (Reach(),) * len(sides))


def _view(node: NodeProto, look: Look) -> Reads:
    """Axes of size one put in or taken out."""
    name = _map(node, look)
    axes: Any = attribute(node, "axes", None)
    if len(node.input) > 1 and node.input[1]:
        axes = look.graph.value(node.input[1])
    given, made = look.shape(name), look.shape(node.output[0])
    if axes is None:
        raise NotLocal(MIXED)
    changed = {int(axis) % max(len(given), len(made)) for axis in np.ravel(axes)}
    if node.op_type == "Unsqueeze":
        order = [axis for axis in range(len(made)) if axis not in changed]
        layout = tuple(order[axis] for axis in look.layouts[name])
    else:
        order = [axis for axis in range(len(given)) if axis not in changed]
        if not set(look.layouts[name]) <= set(order):
            raise NotLocal("it takes an axis of places out")
        layout = tuple(order.index(axis) for axis in look.layouts[name])
    return _of_reaches(layout, [made[axis] for axis in layout], (Reach(),) * len(layout))


def _reshape(node: NodeProto, look: Look) -> Reads:
    """Other axes split or joined: an axis of places stays one where its size and what lies behind it are the same."""
    name = _map(node, look)
    given, made = look.shape(name), look.shape(node.output[0])
    if name != node.input[0] or given[0] != made[0]:
        raise NotLocal(MIXED)
    steps = {(made[axis], math.prod(made[axis + 1 :])): axis for axis in range(1, len(made))}
    kept = [steps.get((given[axis], math.prod(given[axis + 1 :]))) for axis in look.layouts[name]]
    layout = tuple(axis for axis in kept if axis is not None)
    if len(set(layout)) != len(kept):
        raise NotLocal(MIXED)
    return _of_reaches(layout, [made[axis] for axis in layout], (Reach(),) * len(layout))


def _slice(node: NodeProto, look: Look) -> Reads:
    """A part of each axis."""
    name = _map(node, look)
    held: list[Any] = [attribute(node, "starts", None), None, attribute(node, "axes", None), None]
    for position, own in enumerate(node.input[1:]):
        held[position] = look.graph.value(own) if own else held[position]
    starts, axes, steps = held[0], held[2], held[3]
    given, made, layout = look.shape(name), look.shape(node.output[0]), look.layouts[name]
    if starts is None or name != node.input[0]:
        raise NotLocal("Slice of computed places")
    along = range(len(starts)) if axes is None else [int(axis) % len(given) for axis in axes]
    begins = dict(zip(along, (int(start) for start in starts), strict=False))
    by = dict(zip(along, [1] * len(begins) if steps is None else (int(step) for step in steps), strict=False))
    first, stretch = [], []
    for axis in layout:
        step, start = by.get(axis, 1), begins.get(axis, 0)
        if step < 1:
            raise NotLocal("Slice backwards")
        start = int(np.clip(start + (given[axis] if start < 0 else 0), 0, given[axis]))
        first.append(start + step * np.arange(made[axis], dtype=np.int64))
        stretch.append(Stretch(1, step, -start))
    return Reads(layout, tuple(first), tuple(first), tuple(stretch))


def _resize(node: NodeProto, look: Look) -> Reads:
    """Resampling: the neighbours of the point that an output position lies on."""
    name = _map(node, look)
    mode = attribute(node, "mode", b"nearest").decode()
    old = node.op_type == "Upsample" or look.graph.opset < 11
    how = "asymmetric" if old else attribute(node, "coordinate_transformation_mode", b"half_pixel").decode()
    rounding = "floor" if old else attribute(node, "nearest_mode", b"round_prefer_floor").decode()
    if how == "tf_crop_and_resize" or attribute(node, "antialias", 0) or name != node.input[0]:
        raise NotLocal(MIXED)
    given, made, layout = look.shape(name), look.shape(node.output[0]), look.layouts[name]
    first, last, stretch = [], [], []
    for axis in layout:
        scale = made[axis] / given[axis]
        at = _points(how, made[axis], given[axis], scale)
        before, after = _neighbours(mode, rounding, at)
        first.append(np.clip(before, 0, given[axis] - 1))
        last.append(np.clip(after, 0, given[axis] - 1))
        span = {"nearest": 1, "linear": 2, "cubic": 4}[mode] if scale != 1 else 1
        stretch.append(Stretch(span, 1 / scale, float(-before[0])))
    return Reads(layout, tuple(first), tuple(last), tuple(stretch))


def _points(how: str, made: int, given: int, scale: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Where output positions lie on the input's axis."""
    out = np.arange(made, dtype=np.float64)
    if how == "asymmetric":
        return out / scale
    if how == "align_corners":
        return out * (given - 1) / (made - 1) if made > 1 else out * 0
    if how == "pytorch_half_pixel" and made == 1:
        return out * 0
    if how in ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel"):
        return (out + 0.5) / scale - 0.5
    raise NotLocal(MIXED)


def _neighbours(mode: str, rounding: str, at: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[Integers, Integers]:
    if mode == "nearest":
        rounded = np.floor(at) if rounding == "floor" else np.ceil(at) if rounding == "ceil" else np.ceil(at - 0.5)
        if rounding == "round_prefer_ceil":
            rounded = np.floor(at + 0.5)
        return rounded.astype(np.int64), rounded.astype(np.int64)
    floor = np.floor(at).astype(np.int64)
    between = (at > floor).astype(np.int64)
    return (floor, floor + between) if mode == "linear" else (floor - between, floor + 2 * between)


_OWN: dict[str, Callable[[NodeProto, Look], Reads]] = {
    **dict.fromkeys(("Conv", "FusedConv", "QLinearConv", "ConvInteger", "MaxPool", "AveragePool", "LpPool",
                     "QLinearAveragePool"), _window),
    "ConvTranspose": _transposed,
    **dict.fromkeys(("Squeeze", "Unsqueeze"), _view),
    **dict.fromkeys(("Reshape", "Flatten"), _reshape),
    "Slice": _slice,
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear", "QLinearAdd", "QLinearMul", "QLinearSigmoid",
                     "QLinearLeakyRelu"), _pointwise),
}  # fmt: skip
