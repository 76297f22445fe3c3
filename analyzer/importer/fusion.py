"""Normalisations and softmax that an exporter wrote out, put back together.

Belongs here: patterns of several nodes that are one layer. Not here: folding constants into layers (``folding``).

Values stay the same up to rounding; rules see the layer that the model was built with, so that both spellings get the
same explanation. Elementwise functions written out (GELU as a chain around Erf, SiLU as x sigmoid(x)) need no pattern:
``graph_rules.kinds`` knows a product of a value with a function of itself.

Layer normalisation:  d = x - mean(x),  y = d / sqrt(mean(d d) + e) g + h,  over the last axes.
Softmax:              p = exp(x - max(x)) / sum(exp(x - max(x))),  over one axis.
"""

from __future__ import annotations

from operator import getitem
from typing import TypeGuard

import torch
from torch import Tensor, fx

from analyzer.importer.rewriting import Refusal, Rewrite, add_constant, constant_of

aten = torch.ops.aten

NOT_CENTRED = Refusal("what is divided isn't a value less its mean, as in a root mean square normalisation")
NO_EPSILON = Refusal("nothing constant is added to the variance")
NOT_A_MEAN = Refusal("what the root is taken of isn't a mean that keeps its axes")
NOT_SQUARED = Refusal("the mean isn't one of squares")
OTHER_VALUE = Refusal("the squares are of another value than what is divided")
OTHER_AXES = Refusal("its two reductions run over different axes")
INNER_AXES = Refusal("it runs over other axes than the last ones")
AXIS_DROPPED = Refusal("a reduction doesn't keep its axis")
NO_MAXIMUM = Refusal("the value's own maximum isn't subtracted first")
SEVERAL_AXES = Refusal("it runs over several axes")


def fuse_layer_norm(module: fx.GraphModule, node: fx.Node) -> Rewrite | Refusal | None:
    """Mean, difference, square, mean, root, quotient, scale and shift -> one layer normalisation."""
    quotient = _quotient(module, node)
    found = None if quotient is None else _normalised(module, *quotient)
    if found is None or isinstance(found, Refusal):
        return found
    x, axes, epsilon = found
    shape = [int(size) for size in x.meta["shape"][len(x.meta["shape"]) - axes :]]
    last, weight = _then(module, node, aten.mul.Tensor, shape)
    last, bias = _then(module, last, aten.add.Tensor, shape)
    with module.graph.inserting_before(last):
        placed = [None if value is None else add_constant(module, value, node) for value in (weight, bias)]
        norm = module.graph.call_function(aten.native_layer_norm.default, (x, shape, *placed, epsilon))
        result = module.graph.call_function(getitem, (norm, 0))
    norm.meta.update({k: v for k, v in last.meta.items() if k not in ("shape", "dtype")})
    result.meta.update(last.meta)
    last.replace_all_uses_with(result)
    return Rewrite(last, result, f"layer normalisation put together at {last.meta.get('onnx')!r}")


def fuse_softmax(module: fx.GraphModule, node: fx.Node) -> Rewrite | Refusal | None:
    """Exponential of the difference to the maximum over its sum -> softmax."""
    exponential, total = node.args
    if not _is(exponential, aten.exp.default) or not _is(total, aten.sum.dim_IntList):
        return None
    if total.args[0] is not exponential:
        return None
    shifted = exponential.args[0]
    if not _is(shifted, aten.sub.Tensor) or shifted.kwargs.get("alpha", 1) != 1:
        return NO_MAXIMUM
    x, largest = shifted.args
    if _is(largest, getitem) and largest.args[1] == 0:
        largest = largest.args[0]
    if not isinstance(x, fx.Node) or not _is(largest, aten.amax.default, aten.max.dim) or largest.args[0] is not x:
        return NO_MAXIMUM
    if not _keeps_axes(total) or not _keeps_axes(largest):
        return AXIS_DROPPED
    axes = _axes(x, total.args[1])
    if axes != _axes(x, largest.args[1]):
        return OTHER_AXES
    if len(axes) != 1:
        return SEVERAL_AXES
    with module.graph.inserting_before(node):
        result = module.graph.call_function(aten._softmax.default, (x, axes[0], False))
    result.meta.update(node.meta)
    node.replace_all_uses_with(result)
    return Rewrite(node, result, f"softmax put together at {node.meta.get('onnx')!r}")


def _normalised(module: fx.GraphModule, centred: fx.Node, inner: fx.Node) -> tuple[fx.Node, int, float] | Refusal:
    """(x, number of axes, epsilon) where a quotient is (x - mean) / sqrt(var + epsilon)."""
    difference = _difference(centred)
    if difference is None:
        return NOT_CENTRED
    if not _is(inner, aten.add.Tensor, aten.add.Scalar):
        return NO_EPSILON
    x, axes = difference
    mean, epsilon = inner.args[0], _number(module, inner.args[1])
    if epsilon is None:
        mean, epsilon = inner.args[1], _number(module, inner.args[0])
    if epsilon is None:
        return NO_EPSILON
    if not _is(mean, aten.mean.dim) or not _keeps_axes(mean):
        return NOT_A_MEAN
    base = _root_of_square(mean.args[0])
    if base is None:
        return NOT_SQUARED
    if _difference(base) != difference:
        return OTHER_VALUE
    if _axes(base, mean.args[1]) != axes:
        return OTHER_AXES
    rank = len(x.meta["shape"])
    return (x, len(axes), epsilon) if axes == tuple(range(rank - len(axes), rank)) else INNER_AXES


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
    if not isinstance(x, fx.Node) or not _is(mean, aten.mean.dim) or mean.args[0] is not x or not _keeps_axes(mean):
        return None
    return x, _axes(x, mean.args[1])


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
    value = constant_of(module, user.args[1] if user.args[0] is node else user.args[0])
    if value is None:
        return node, None
    lead = value.ndim - len(shape)
    if any(size != 1 for size in value.shape[: max(lead, 0)]) or tuple(user.meta["shape"]) != tuple(node.meta["shape"]):
        return node, None
    value = value.reshape(value.shape[lead:]) if lead > 0 else value
    try:
        return user, value.expand(shape).contiguous()
    except RuntimeError:
        return node, None


def _is(node: object, *targets: object) -> TypeGuard[fx.Node]:
    return isinstance(node, fx.Node) and node.op == "call_function" and node.target in targets


def _keeps_axes(node: fx.Node) -> bool:
    """Whether a reduction keeps its axes, with size 1."""
    return len(node.args) > 2 and node.args[2] is True


def _axes(node: fx.Node, dims: object) -> tuple[int, ...]:
    rank = len(node.meta["shape"])
    listed = dims if isinstance(dims, (list, tuple)) else [dims]
    return tuple(sorted(int(str(d)) % rank for d in listed))


def _number(module: fx.GraphModule, value: object) -> float | None:
    if isinstance(value, (int, float)):
        return float(value)
    tensor = constant_of(module, value)
    return float(tensor.reshape(())) if tensor is not None and tensor.numel() == 1 else None
