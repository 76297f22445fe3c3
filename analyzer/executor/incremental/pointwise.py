"""Pointwise operators: an output at a position depends on inputs at that position.

Belongs here: when an operator is pointwise. Not here: which operator is treated how (``operators``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnx import NodeProto

from analyzer.executor.incremental.locality import Local, Look, NotLocal, attribute, only_data, require_constant


def pointwise(node: NodeProto, look: Look, constants: Sequence[int] = (), *, joined: bool = False) -> Local:
    """A node whose outputs at a position depend on its inputs at that position.

    Parameters
    ----------
    constants
        Positions of inputs that belong to channels, whatever their shape.
    joined
        Whether every other input is a map.
    """
    if attribute(node, "broadcast", 0) or not attribute(node, "spatial", 1):
        raise NotLocal(f"{node.op_type} in its old form")
    changed = [name for name in node.input if name in look.layouts]
    layout = look.layouts[changed[0]]
    shape = look.shape(next(name for name in node.output if name))
    sides = [shape[axis] if axis < len(shape) else -1 for axis in layout]
    maps, non_spatial = [], []
    for position, name in enumerate(node.input):
        if not name:
            continue
        own = look.shape(name)
        if name in look.layouts:
            same = look.layouts[name] == layout and len(own) == len(shape) and own[0] == shape[0] == look.batch
            if not same or [own[axis] for axis in layout] != sides:
                raise NotLocal(f"{node.op_type} joins maps of different layouts")
            maps.append(name)
        elif position in constants:
            require_constant(name, node, look)
        else:
            aligned = (1,) * (len(shape) - len(own)) + own
            own_sides = [aligned[axis] for axis in layout]
            samples = name not in look.graph.constant and len(own) < len(shape) and own[:1] == (look.batch,)
            if len(aligned) != len(shape) or samples:
                raise NotLocal(f"{node.op_type} joins values of different ranks")
            if joined or (own_sides == sides and max(sides) > 1):
                maps.append(name)
            elif any(size != 1 for size in own_sides):
                raise NotLocal(f"{node.op_type} reads a value that varies along one spatial axis")
            elif name not in look.graph.constant:
                non_spatial.append(name)
    return Local((node,), layout, tuple(dict.fromkeys(maps)), tuple(dict.fromkeys(non_spatial)))


def channelwise(node: NodeProto, look: Look, axes: Sequence[int], **options: Any) -> Local:
    """A pointwise node that works along given axes, none of which may be a spatial axis."""
    layout, rank = look.layouts[_first(node, look)], len(look.shape(_first(node, look)))
    if any(axis % rank in layout or axis % rank == 0 for axis in axes):
        raise NotLocal(f"{node.op_type} mixes positions")
    return pointwise(node, look, **options)


def _first(node: NodeProto, look: Look) -> str:
    return next(str(name) for name in node.input if name in look.layouts)


def parameters(node: NodeProto) -> range:
    return range(1, len(node.input))


def normalisation(node: NodeProto, look: Look) -> Local:
    only_data(node, look)
    if len(node.output) > 1 or attribute(node, "training_mode", 0):
        raise NotLocal(f"{node.op_type} in training mode")
    return channelwise(node, look, [1], constants=parameters(node))


def layer_normalisation(node: NodeProto, look: Look) -> Local:
    only_data(node, look)
    rank = len(look.shape(node.input[0]))
    if len(node.output) > 1:
        raise NotLocal(f"{node.op_type} gives out its statistics")
    return channelwise(node, look, range(attribute(node, "axis", -1) % rank, rank), constants=parameters(node))


def softmax(node: NodeProto, look: Look) -> Local:
    if look.graph.opset < 13:
        raise NotLocal(f"{node.op_type} of opset {look.graph.opset} mixes positions")
    return channelwise(node, look, [attribute(node, "axis", -1)])


def concat(node: NodeProto, look: Look) -> Local:
    return channelwise(node, look, [attribute(node, "axis", 1)], joined=True)


def split(node: NodeProto, look: Look) -> Local:
    return channelwise(node, look, [attribute(node, "axis", 0)], constants=parameters(node))


def gather(node: NodeProto, look: Look) -> Local:
    only_data(node, look)
    if len(look.shape(node.input[1])) != 1:
        raise NotLocal("Gather changes the rank")
    return channelwise(node, look, [attribute(node, "axis", 0)], constants=(1,))


def slice_(node: NodeProto, look: Look) -> Local:
    only_data(node, look)
    axes: Any = attribute(node, "axes", None)
    if len(node.input) > 3 and node.input[3]:
        axes = look.graph.value(node.input[3])
    if axes is None:
        raise NotLocal("Slice along unknown axes")
    return channelwise(node, look, [int(axis) for axis in axes], constants=parameters(node))


def reduction(node: NodeProto, look: Look) -> Local:
    only_data(node, look)
    axes: Any = attribute(node, "axes", None)
    if len(node.input) > 1 and node.input[1]:
        axes = look.graph.value(node.input[1])
    if axes is None or not attribute(node, "keepdims", 1) or not len(axes):
        raise NotLocal(f"{node.op_type} mixes positions")
    return channelwise(node, look, [int(axis) for axis in axes], constants=(1,))


def dropout(node: NodeProto, look: Look) -> Local:
    only_data(node, look)
    training = look.graph.value(node.input[2]) if len(node.input) > 2 and node.input[2] else False
    if training is None or bool(training) or len(node.output) > 1:
        raise NotLocal("Dropout in training mode")
    return pointwise(node, look, parameters(node))


def matmul(node: NodeProto, look: Look) -> Local:
    only_data(node, look)
    require_constant(node.input[1], node, look)
    if len(look.shape(node.input[1])) != 2:
        raise NotLocal("MatMul with a stack of matrices")
    return channelwise(node, look, [-1], constants=(1,))


def transpose(node: NodeProto, look: Look) -> Local:
    name = node.input[0]
    rank = len(look.shape(name))
    order = list(attribute(node, "perm", range(rank - 1, -1, -1)))
    if order[0] != 0 or look.shape(name)[0] != look.batch:
        raise NotLocal("Transpose moves the batch axis")
    return Local((node,), tuple(order.index(axis) for axis in look.layouts[name]), (name,))
