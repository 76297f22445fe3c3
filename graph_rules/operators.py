"""The lists that sort ATen operators into groups.

Belongs here: which operator is of which sort, whatever its arguments are. Not here: what a node is on a path from the
explained input to the output (``kinds``), and what a rule does with it (``rules``).
"""

from __future__ import annotations

from operator import getitem
from typing import Any

import torch

aten = torch.ops.aten


def _all(*names: str) -> set[Any]:
    """The operators ``name.overload``; those that this torch lacks are left out."""
    found = (
        getattr(getattr(aten, name, None), overload, None) for name, _, overload in (n.partition(".") for n in names)
    )
    return {operator for operator in found if operator is not None}


#: Elementwise functions of one value: an activation, as far as relevance is concerned.
ACTIVATIONS = _all(
    "relu.default", "relu6.default", "hardtanh.default", "clamp.default", "clamp.Tensor", "clamp_min.default",
    "clamp_min.Tensor", "clamp_max.default", "clamp_max.Tensor", "sigmoid.default", "tanh.default", "elu.default",
    "leaky_relu.default", "rrelu_with_noise_functional.default", "gelu.default", "silu.default", "hardswish.default",
    "hardsigmoid.default", "softplus.default", "mish.default", "_prelu_kernel.default", "celu.default", "selu.default",
    "hardshrink.default", "softshrink.default", "threshold.default", "log_sigmoid_forward.default", "erf.default",
    "erfc.default", "erfinv.default", "abs.default", "exp.default", "exp2.default", "expm1.default", "log.default",
    "log2.default", "log10.default", "log1p.default", "sqrt.default", "rsqrt.default", "reciprocal.default",
    "square.default", "pow.Tensor_Scalar", "pow.Scalar", "sin.default", "cos.default", "tan.default", "asin.default",
    "acos.default", "atan.default", "sinh.default", "cosh.default", "asinh.default", "acosh.default", "atanh.default",
    "sinc.default", "logit.default", "lgamma.default", "digamma.default", "round.default", "round.decimals",
    "floor.default", "ceil.default", "trunc.default", "frac.default", "sign.default", "sgn.default",
    "nan_to_num.default", "fmod.Scalar", "remainder.Scalar",
)  # fmt: skip
#: Activations that open or close a gate: an operand of a product that comes from one is a gate, not a signal.
GATES = _all("sigmoid.default", "hardsigmoid.default", "_softmax.default", "_safe_softmax.default")
CONVOLUTIONS = _all("convolution.default")
LINEAR = _all(
    "mm.default", "addmm.default", "bmm.default", "baddbmm.default", "mv.default", "addmv.default", "dot.default"
)
#: Linear operators whose first argument is added to the product.
WITH_ADDEND = _all("addmm.default", "baddbmm.default", "addmv.default")
ADDITIONS = _all("add.Tensor", "sub.Tensor", "rsub.Scalar", "rsub.Tensor", "add.Scalar", "sub.Scalar")
PRODUCTS = _all("mul.Tensor", "mul.Scalar", "neg.default", "atan2.default", "pow.Tensor_Tensor", "copysign.Tensor")
#: Numerator, then denominator.
QUOTIENTS = _all(
    "div.Tensor", "div.Scalar", "div.Tensor_mode", "div.Scalar_mode", "floor_divide.default", "fmod.Tensor",
    "remainder.Tensor",
)  # fmt: skip
#: Sums with constant weights.
AVERAGES = _all(
    "mean.dim", "mean.default", "sum.dim_IntList", "sum.default", "avg_pool1d.default", "avg_pool2d.default",
    "avg_pool3d.default", "_adaptive_avg_pool2d.default", "_adaptive_avg_pool3d.default", "cumsum.default",
    "col2im.default", "scatter_add.default", "index_add.default",
    "trace.default", "_upsample_bilinear2d_aa.default", "_upsample_bicubic2d_aa.default",
    "affine_grid_generator.default",
)  # fmt: skip
#: Nonlinear functions over axes that scale with their input.
NORMS = _all("linalg_vector_norm.default", "std.correction")
#: Homogeneous functions of a higher degree.
REDUCED_PRODUCTS = _all("prod.default", "prod.dim_int", "cumprod.default", "var.correction")
#: Reductions into places; their argument ``reduce`` says which.
SCATTERED = _all("scatter_reduce.two", "scatter.reduce", "index_reduce.default")
MAXIMA = _all(
    "max_pool2d_with_indices.default", "max_pool3d_with_indices.default", "amax.default", "amin.default", "max.dim",
    "min.dim", "max.default", "min.default", "adaptive_max_pool2d.default", "adaptive_max_pool3d.default",
    "maximum.default", "minimum.default", "topk.default", "sort.default", "sort.stable", "logsumexp.default",
    "kthvalue.default", "median.default", "median.dim", "cummax.default", "cummin.default", "aminmax.default",
)  # fmt: skip
BATCH_NORMS = _all(
    "native_batch_norm.default", "_native_batch_norm_legit_no_training.default",
    "_native_batch_norm_legit.default", "cudnn_batch_norm.default",
)  # fmt: skip
LAYER_NORMS = _all("native_layer_norm.default", "native_group_norm.default")
RMS_NORMS = _all("_fused_rms_norm.default", "rms_norm.default")
SOFTMAXES = _all("_softmax.default", "_safe_softmax.default", "_log_softmax.default")
#: Values interpolated at computed places: (values, places).
SAMPLERS = _all("grid_sampler_2d.default", "grid_sampler_3d.default", "_grid_sampler_2d_cpu_fallback.default")
MOVEMENTS = _all(
    "view.default", "_unsafe_view.default", "reshape.default", "permute.default", "transpose.int", "t.default",
    "expand.default", "slice.Tensor", "select.int", "squeeze.dim", "squeeze.dims", "squeeze.default",
    "unsqueeze.default", "cat.default", "stack.default", "split.Tensor", "split_with_sizes.default", "chunk.default",
    "unbind.int", "constant_pad_nd.default", "reflection_pad1d.default", "reflection_pad2d.default",
    "reflection_pad3d.default", "replication_pad1d.default", "replication_pad2d.default", "replication_pad3d.default",
    "flip.default", "roll.default", "repeat.default", "repeat_interleave.self_int", "clone.default", "alias.default",
    "detach.default", "_to_copy.default", "index_select.default", "index.Tensor", "gather.default", "take.default",
    "embedding.default", "pixel_shuffle.default", "pixel_unshuffle.default", "channel_shuffle.default",
    "as_strided.default", "upsample_nearest1d.vec", "upsample_nearest2d.vec", "upsample_nearest3d.vec",
    "upsample_nearest1d.default", "upsample_nearest2d.default", "upsample_nearest3d.default",
    "_upsample_nearest_exact1d.default", "_upsample_nearest_exact2d.default", "_upsample_nearest_exact3d.default",
    "upsample_bilinear2d.vec", "upsample_bilinear2d.default", "upsample_linear1d.vec", "upsample_linear1d.default",
    "upsample_trilinear3d.vec", "upsample_trilinear3d.default", "upsample_bicubic2d.vec",
    "upsample_bicubic2d.default", "where.self", "masked_fill.Scalar", "masked_fill.Tensor", "masked_select.default",
    "index_put.default", "_unsafe_index_put.default", "_unsafe_index.Tensor", "index_copy.default",
    "index_fill.int_Scalar", "scatter.src", "scatter.value", "masked_scatter.default", "slice_scatter.default",
    "select_scatter.default", "as_strided_scatter.default", "diagonal_scatter.default", "contiguous.default",
    "tril.default", "triu.default", "unfold.default", "im2col.default", "diagonal.default", "diag_embed.default",
    "lift_fresh_copy.default", "lift_fresh.default", "movedim.int", "max_unpool2d.default", "max_unpool3d.default",
    "nonzero_static.default", "real.default", "unflatten.int", "flatten.using_ints", "broadcast_to.default",
    "squeeze_copy.default", "unsqueeze_copy.default", "swapaxes.default",
) | {getitem}  # fmt: skip
#: Operators beside ATen that round values and let relevance pass, and those that nothing is attributed through.
ROUNDING = frozenset({"onnxplain::fake_quantize"})
INERT = frozenset({"onnxplain::dynamic_range"})


def schema_name(target: Any) -> str:
    """``namespace::name`` of an operator, "" of anything else."""
    return str(getattr(getattr(target, "_schema", None), "name", ""))
