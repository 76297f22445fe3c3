"""What an ATen operator is to a rule table: convolution, activation, addition, movement, …

Belongs here: the one list that sorts ATen operators into kinds, and finding a node's weights. Not here: what a rule
does with a node (``rules``) or which rule it gets (``tables``).

The kind depends on which arguments depend on the explained input ("active"): ``mul`` by a constant is a ``scale``, of
two active tensors a ``product``; ``mm`` with a constant matrix is ``linear``, of two active ones a ``matmul``.
"""

from __future__ import annotations

from collections.abc import Container
from operator import getitem

import torch
from torch import fx

aten = torch.ops.aten

ACTIVATIONS = {
    aten.relu.default, aten.hardtanh.default, aten.clamp.default, aten.clamp_min.default, aten.clamp_max.default,
    aten.sigmoid.default, aten.tanh.default, aten.elu.default, aten.leaky_relu.default, aten.gelu.default,
    aten.silu.default, aten.hardswish.default, aten.hardsigmoid.default, aten.softplus.default, aten.mish.default,
    aten._prelu_kernel.default, aten.celu.default, aten.selu.default, aten.hardshrink.default,
    aten.softshrink.default, aten.threshold.default, aten.log_sigmoid_forward.default, aten.erf.default,
}  # fmt: skip
#: Activations that open or close a gate: an operand of a product that comes from one is a gate, not a signal.
GATES = {aten.sigmoid.default, aten.hardsigmoid.default, aten._softmax.default}
CONVOLUTIONS = {aten.convolution.default}
LINEAR = {aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default, aten.mv.default,
          aten.addmv.default, aten.dot.default}  # fmt: skip
ADDITIONS = {aten.add.Tensor, aten.sub.Tensor, aten.rsub.Scalar, aten.add.Scalar, aten.sub.Scalar}
PRODUCTS = {aten.mul.Tensor, aten.div.Tensor, aten.mul.Scalar, aten.div.Scalar}
AVERAGES = {
    aten.mean.dim, aten.mean.default, aten.sum.dim_IntList, aten.sum.default,
    aten.avg_pool1d.default, aten.avg_pool2d.default, aten.avg_pool3d.default,
    aten._adaptive_avg_pool2d.default, aten._adaptive_avg_pool3d.default,
}  # fmt: skip
MAXIMA = {
    aten.max_pool2d_with_indices.default, aten.max_pool3d_with_indices.default, aten.amax.default, aten.amin.default,
    aten.max.dim, aten.min.dim, aten.adaptive_max_pool2d.default, aten.adaptive_max_pool3d.default,
    aten.maximum.default, aten.minimum.default, aten.topk.default, aten.sort.default, aten.sort.stable,
}  # fmt: skip
BATCH_NORMS = {
    aten.native_batch_norm.default, aten._native_batch_norm_legit_no_training.default,
    aten._native_batch_norm_legit.default, aten.cudnn_batch_norm.default,
}  # fmt: skip
MOVEMENTS = {
    aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.permute.default, aten.transpose.int,
    aten.t.default, aten.expand.default, aten.slice.Tensor, aten.select.int, aten.squeeze.dim, aten.squeeze.dims,
    aten.squeeze.default, aten.unsqueeze.default, aten.cat.default, aten.stack.default, aten.split.Tensor,
    aten.split_with_sizes.default, aten.chunk.default, aten.unbind.int, aten.constant_pad_nd.default,
    aten.reflection_pad1d.default, aten.reflection_pad2d.default, aten.reflection_pad3d.default,
    aten.replication_pad1d.default, aten.replication_pad2d.default, aten.replication_pad3d.default,
    aten.flip.default, aten.roll.default, aten.repeat.default, aten.clone.default, aten.alias.default,
    aten.detach.default, aten._to_copy.default, aten.index_select.default, aten.index.Tensor, aten.gather.default,
    aten.embedding.default, aten.pixel_shuffle.default, aten.pixel_unshuffle.default, aten.as_strided.default,
    aten.upsample_nearest1d.vec, aten.upsample_nearest2d.vec, aten.upsample_nearest3d.vec,
    aten.upsample_nearest1d.default, aten.upsample_nearest2d.default, aten.upsample_nearest3d.default,
    aten.upsample_bilinear2d.vec, aten.upsample_bilinear2d.default, aten.upsample_linear1d.vec,
    aten.upsample_linear1d.default, aten.upsample_trilinear3d.vec, aten.upsample_trilinear3d.default,
    aten.upsample_bicubic2d.vec, aten.upsample_bicubic2d.default, aten.where.self, aten.masked_fill.Scalar,
    aten.index_put.default, aten.scatter.src, aten.slice_scatter.default, aten.select_scatter.default,
    aten.contiguous.default, aten.tril.default, aten.triu.default, aten.unfold.default, aten.diagonal.default,
    getitem,
}  # fmt: skip

#: Kind -> what it covers, for messages and the documentation.
KINDS = {
    "convolution": "convolution with constant weights",
    "linear": "matrix product with a constant matrix",
    "matmul": "matrix product of two computed matrices (attention)",
    "relu": "ReLU",
    "activation": "any other elementwise activation",
    "add": "sum of computed values (skip connection)",
    "shift": "sum with a constant",
    "scale": "product with a constant",
    "product": "product of two computed values",
    "gate": "product in which one operand comes from a sigmoid, hard-sigmoid or softmax",
    "average": "average pooling, mean or sum over axes",
    "maximum": "max pooling, maximum over axes, top-k",
    "batch-norm": "batch normalisation that could not be folded",
    "layer-norm": "layer, group or instance normalisation",
    "softmax": "softmax",
    "movement": "values moved, copied, resampled or padded, not changed",
    "other": "anything else",
}


def active_arguments(node: fx.Node, active: Container[fx.Node]) -> list[fx.Node]:
    """The node's floating-point arguments that depend on the explained input, each once, in order."""
    return [argument for argument in node.all_input_nodes if argument in active]


def weight_position(node: fx.Node, active: Container[fx.Node]) -> tuple[int, int] | None:
    """Positions of (input, weight) among a linear node's arguments where exactly one operand is active."""
    if node.target is aten.convolution.default:
        return (0, 1) if node.args[0] in active and not any(a in active for a in node.args[1:3]) else None
    if node.target not in LINEAR:
        return None
    first = 1 if node.target in (aten.addmm.default, aten.baddbmm.default, aten.addmv.default) else 0
    if first and node.args[0] in active:
        return None
    left, right = node.args[first] in active, node.args[first + 1] in active
    if left and not right:
        return first, first + 1
    if right and not left:
        return first + 1, first
    return None


def kind(node: fx.Node, active: Container[fx.Node]) -> str:
    """The node's kind: a key of :data:`KINDS`."""
    target = node.target
    if target in CONVOLUTIONS or target in LINEAR:
        name = "convolution" if target in CONVOLUTIONS else "linear"
        return name if weight_position(node, active) else "matmul"
    if target is aten.relu.default:
        return "relu"
    if target in ADDITIONS:
        return "add" if len(active_arguments(node, active)) > 1 else "shift"
    if target in PRODUCTS:
        operands = [a for a in node.args[:2] if isinstance(a, fx.Node) and a in active]  # x * x has two
        if len(operands) < 2:
            return "other" if target is aten.div.Tensor and node.args[0] not in active else "scale"
        if target is aten.mul.Tensor and sum(is_gate(operand) for operand in operands) == 1:
            return "gate"
        return "product"
    for name, group in _GROUPS:
        if target in group:
            return name
    return "other"


def is_gate(node: fx.Node) -> bool:
    """Whether a value comes from a gate activation, looking through movements."""
    if node.op == "call_function" and node.target in MOVEMENTS:
        values = [a for a in node.all_input_nodes if a.meta.get("dtype") is None or a.meta["dtype"].is_floating_point]
        return bool(values) and all(is_gate(value) for value in values)
    return node.op == "call_function" and node.target in GATES


_GROUPS = (
    ("activation", ACTIVATIONS),
    ("average", AVERAGES),
    ("maximum", MAXIMA),
    ("batch-norm", BATCH_NORMS),
    ("layer-norm", {aten.native_layer_norm.default, aten.native_group_norm.default}),
    ("softmax", {aten._softmax.default, aten._log_softmax.default}),
    ("movement", MOVEMENTS),
)
