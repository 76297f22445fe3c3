"""What is known about a trace's values without running it.

Belongs here: sign analysis. Not here: rules that use it, and anything that looks at numbers of one input.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import getitem
from typing import Any

from torch import fx

from graph_rules.operators import MOVEMENTS, aten
from graph_rules.sweep import Plan

#: Never negative, whatever comes in.
_ALWAYS = {
    aten.relu.default, aten.sigmoid.default, aten._softmax.default, aten.exp.default, aten.abs.default,
    aten.sqrt.default, aten.softplus.default, aten.hardsigmoid.default,
}  # fmt: skip
#: Not negative if no floating-point argument is. Padding counts apart.
_KEEPS = {
    aten.max_pool2d_with_indices.default, aten.max_pool3d_with_indices.default, aten.avg_pool1d.default,
    aten.avg_pool2d.default, aten.avg_pool3d.default, aten._adaptive_avg_pool2d.default,
    aten._adaptive_avg_pool3d.default, aten.mean.dim, aten.mean.default, aten.sum.dim_IntList, aten.amax.default,
    aten.amin.default, aten.max.dim, aten.add.Tensor, aten.mul.Tensor, aten.maximum.default, aten.minimum.default,
}  # fmt: skip
_CUBIC = {aten.upsample_bicubic2d.vec, aten.upsample_bicubic2d.default}


def nonnegative(node: Any, plan: Plan) -> bool:
    """Whether a node's values can be proven to be at least zero for every input."""
    if not isinstance(node, fx.Node):
        return isinstance(node, (int, float)) and node >= 0
    known: bool = plan.cached(("nonnegative", node), lambda: _prove(node, plan))
    return known


def _prove(node: fx.Node, plan: Plan) -> bool:
    if node.op == "get_attr":
        return bool((getattr(plan.module, str(node.target)) >= 0).all())
    if node.op != "call_function":
        return False
    target = node.target
    if target in _ALWAYS:
        return True
    if target in _BY_ARGUMENT:
        return _BY_ARGUMENT[target](node)
    if target is aten.constant_pad_nd.default and len(node.args) > 2 and float(node.args[2]) < 0:  # type: ignore[arg-type]
        return False
    if target is aten.masked_fill.Scalar and not nonnegative(node.args[2], plan):
        return False
    if target in (aten.scatter.value, aten.index_fill.int_Scalar) and not nonnegative(node.args[3], plan):
        return False
    if target is getitem or target in _KEEPS or (target in MOVEMENTS and target not in _CUBIC):
        if target is aten.add.Tensor and float(node.kwargs.get("alpha", 1)) < 0:  # type: ignore[arg-type]
            return False
        scalars = node.args[1:2] if target in (aten.add.Tensor, aten.mul.Tensor) else ()
        values = [a for a in node.all_input_nodes if _floating(a)]
        return bool(values) and all(nonnegative(value, plan) for value in (*values, *scalars))
    return False


def _floating(node: fx.Node) -> bool:
    dtype = node.meta.get("dtype")
    return dtype is None or dtype.is_floating_point


def _lower_bound(position: int, default: float | None) -> Callable[[fx.Node], bool]:
    def check(node: fx.Node) -> bool:
        value = node.args[position] if len(node.args) > position else default
        above = node.args[position + 1] if len(node.args) > position + 1 else None
        crossed = isinstance(above, (int, float)) and above < 0  # then everything is the upper bound
        return isinstance(value, (int, float)) and value >= 0 and not crossed

    return check


_BY_ARGUMENT: dict[Any, Callable[[fx.Node], bool]] = {
    aten.hardtanh.default: _lower_bound(1, -1.0),
    aten.clamp.default: _lower_bound(1, None),
    aten.clamp_min.default: _lower_bound(1, None),
}
