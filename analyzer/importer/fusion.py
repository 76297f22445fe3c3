"""Normalisations and softmax that an exporter wrote out, put back together.

Belongs here: patterns of several nodes that are one layer. Not here: folding constants into layers (``passes``).

Values stay the same up to rounding; rules see the layer that the model was built with, so that both spellings get the
same explanation. Elementwise functions written out (GELU as a chain around Erf, SiLU as x sigmoid(x)) need no pattern:
``graph_rules.kinds`` knows a product of a value with a function of itself.

Layer normalisation:  d = x - mean(x),  y = d / sqrt(mean(d d) + e) g + h,  over the last axes.
Softmax:              p = exp(x - max(x)) / sum(exp(x - max(x))),  over one axis.
"""

from __future__ import annotations

from operator import getitem

import torch
from torch import Tensor, fx

aten = torch.ops.aten
Done = tuple[fx.Node, fx.Node, str] | None


def fuse_layer_norm(module: fx.GraphModule, node: fx.Node) -> Done:
    """Mean, difference, square, mean, root, quotient, scale and shift -> one layer normalisation."""
    found = _normalised(module, node)
    if found is None:
        return None
    x, axes, epsilon = found
    shape = [int(size) for size in x.meta["shape"][len(x.meta["shape"]) - axes :]]
    last, weight = _then(module, node, aten.mul.Tensor, shape)
    last, bias = _then(module, last, aten.add.Tensor, shape)
    with module.graph.inserting_before(last):
        placed = [None if value is None else _constant_node(module, value, node) for value in (weight, bias)]
        norm = module.graph.call_function(aten.native_layer_norm.default, (x, shape, *placed, epsilon))
        result = module.graph.call_function(getitem, (norm, 0))
    norm.meta.update({k: v for k, v in last.meta.items() if k not in ("shape", "dtype")})
    result.meta.update(last.meta)
    last.replace_all_uses_with(result)
    return last, result, f"layer normalisation put together at {last.meta.get('onnx')!r}"


def fuse_softmax(module: fx.GraphModule, node: fx.Node) -> Done:
    """Exponential of the difference to the maximum over its sum -> softmax."""
    if node.target is not aten.div.Tensor or not _is(node.args[0], aten.exp.default):
        return None
    top, total = node.args
    if not _is(total, aten.sum.dim_IntList) or total.args[0] is not top or not _keeps(total):  # type: ignore[union-attr]
        return None
    shifted = top.args[0]  # type: ignore[union-attr]
    if not _is(shifted, aten.sub.Tensor) or shifted.kwargs.get("alpha", 1) != 1:  # type: ignore[union-attr]
        return None
    x, largest = shifted.args  # type: ignore[union-attr]
    if not _is(largest, aten.amax.default) or largest.args[0] is not x or not _keeps(largest):  # type: ignore[union-attr]
        return None
    dims = {_axes(x, n.args[1]) for n in (total, largest)}  # type: ignore[union-attr]
    if len(dims) != 1 or len(next(iter(dims))) != 1:
        return None
    with module.graph.inserting_before(node):
        result = module.graph.call_function(aten._softmax.default, (x, next(iter(dims))[0], False))
    result.meta.update(node.meta)
    node.replace_all_uses_with(result)
    return node, result, f"softmax put together at {node.meta.get('onnx')!r}"


def _normalised(module: fx.GraphModule, node: fx.Node) -> tuple[fx.Node, int, float] | None:
    """(x, number of axes, epsilon) where a node is (x - mean) / sqrt(var + epsilon)."""
    found = _quotient(module, node)
    if found is None:
        return None
    centred, inner = found
    difference = _difference(centred)
    if difference is None or not _is(inner, aten.add.Tensor, aten.add.Scalar):
        return None
    x, axes = difference
    mean, epsilon = inner.args[0], _number(module, inner.args[1])
    if epsilon is None:
        mean, epsilon = inner.args[1], _number(module, inner.args[0])
    if epsilon is None or not _is(mean, aten.mean.dim) or not _keeps(mean):
        return None
    squared = mean.args[0]  # type: ignore[union-attr]
    base = _root_of_square(squared)
    if base is None or _difference(base) != difference or _axes(base, mean.args[1]) != axes:  # type: ignore[union-attr]
        return None
    rank = len(x.meta["shape"])
    if axes != tuple(range(rank - len(axes), rank)):
        return None
    return x, len(axes), epsilon


def _quotient(module: fx.GraphModule, node: fx.Node) -> tuple[fx.Node, fx.Node] | None:
    """(d, v) where a node is d / sqrt(v)."""
    if node.target is aten.div.Tensor:
        d, v = node.args[0], _power(module, node.args[1], 0.5)
        return (d, v) if isinstance(d, fx.Node) and v is not None else None
    if node.target is aten.mul.Tensor:
        for d, other in (node.args[:2], node.args[1::-1]):
            v = _power(module, other, -0.5)
            if isinstance(d, fx.Node) and v is not None:
                return d, v
    return None


def _power(module: fx.GraphModule, node: object, exponent: float) -> fx.Node | None:
    """The value whose power a node is, written in any of the usual ways."""
    if not isinstance(node, fx.Node) or not node.args or not isinstance(node.args[0], fx.Node):
        return None
    inner = node.args[0]
    if node.target is aten.pow.Tensor_Scalar and node.args[1] == exponent:
        return inner
    if exponent == 0.5:
        return inner if node.target is aten.sqrt.default else None
    if node.target is aten.rsqrt.default:
        return inner
    if node.target is aten.reciprocal.default:
        return _power(module, inner, 0.5)
    if node.target is aten.div.Tensor and _number(module, node.args[0]) == 1:
        return _power(module, node.args[1], 0.5)
    return None


def _difference(node: object) -> tuple[fx.Node, tuple[int, ...]] | None:
    """(x, axes) where a node is x - mean(x)."""
    if not isinstance(node, fx.Node) or node.target is not aten.sub.Tensor or node.kwargs.get("alpha", 1) != 1:
        return None
    x, mean = node.args
    if not isinstance(x, fx.Node) or not _is(mean, aten.mean.dim) or mean.args[0] is not x or not _keeps(mean):  # type: ignore[union-attr]
        return None
    return x, _axes(x, mean.args[1])  # type: ignore[union-attr]


def _root_of_square(node: object) -> fx.Node | None:
    if not isinstance(node, fx.Node) or not node.args or not isinstance(node.args[0], fx.Node):
        return None
    if node.target is aten.pow.Tensor_Scalar and node.args[1] == 2:
        return node.args[0]
    if node.target is aten.mul.Tensor and _difference(node.args[0]) == _difference(node.args[1]) is not None:
        return node.args[0]
    return node.args[0] if node.target is aten.square.default else None


def _then(module: fx.GraphModule, node: fx.Node, target: object, shape: list[int]) -> tuple[fx.Node, Tensor | None]:
    """The only user of a node if it combines it with a constant of the normalised shape, and that constant."""
    if len(node.users) != 1:
        return node, None
    user = next(iter(node.users))
    if user.target is not target or user.kwargs or user.meta.get("dtype") != node.meta.get("dtype"):
        return node, None
    other = user.args[1] if user.args[0] is node else user.args[0]
    if not isinstance(other, fx.Node) or other.op != "get_attr":
        return node, None
    value: Tensor = getattr(module, str(other.target))
    lead = value.ndim - len(shape)
    if any(size != 1 for size in value.shape[: max(lead, 0)]) or tuple(user.meta["shape"]) != tuple(node.meta["shape"]):
        return node, None
    value = value.reshape(value.shape[lead:]) if lead > 0 else value
    try:
        return user, value.expand(shape).contiguous()
    except RuntimeError:
        return node, None


def _constant_node(module: fx.GraphModule, value: Tensor, like: fx.Node) -> fx.Node:
    label = f"fused_{len(module._buffers)}"
    module.register_buffer(label, value)
    node = module.graph.get_attr(label)
    node.meta.update(constant=like.meta.get("onnx", ""), shape=tuple(value.shape), dtype=value.dtype)
    return node


def _is(node: object, *targets: object) -> bool:
    return isinstance(node, fx.Node) and node.op == "call_function" and node.target in targets


def _keeps(node: object) -> bool:
    """Whether a reduction keeps its axes."""
    assert isinstance(node, fx.Node)
    return len(node.args) > 2 and node.args[2] is True


def _axes(node: object, dims: object) -> tuple[int, ...]:
    assert isinstance(node, fx.Node)
    rank = len(node.meta["shape"])
    listed = dims if isinstance(dims, (list, tuple)) else [dims]
    return tuple(sorted(int(str(d)) % rank for d in listed))


def _number(module: fx.GraphModule, value: object) -> float | None:
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, fx.Node) and value.op == "get_attr":
        tensor = getattr(module, str(value.target))
        return float(tensor.reshape(())) if tensor.numel() == 1 else None
    return None
