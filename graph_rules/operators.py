"""The table of ATen operators: one row for each, with everything that rules and proofs know about it.

Belongs here: facts about an operator, whatever its arguments are, and the sets that follow from them. Not here: what a node
is on a path from the explained input to the output (``kinds``), and what a rule does with it (``rules``).

An operator beside these is declared with :func:`register_operator`; one without a row is of kind ``other``, and nothing is
assumed about its values.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from enum import Enum
from operator import getitem
from typing import Any, Literal, get_args

import torch
from torch import fx

aten = torch.ops.aten

Group = Literal[
    "activation", "convolution", "linear", "addition", "product", "quotient", "average", "norm", "reduced-product",
    "scatter", "maximum", "batch-norm", "layer-norm", "rms-norm", "softmax", "sampler", "movement",
]  # fmt: skip


class Sign(Enum):
    """When an operator's values are never negative."""

    ANY = "nothing is known"
    NONNEGATIVE = "always"
    OF_INPUTS = "if no floating-point input and no scalar is negative"


class Unit(Enum):
    """What an operator is as the activation function of a network's units."""

    NONE = "it isn't one"
    RECTIFIER = "a rectifier: positive values pass, negative ones are cut off or damped"
    CLAMP = "a rectifier where its lower bound is 0"
    OTHER = "no rectifier"


@dataclass(frozen=True)
class Operator:
    """One row.

    Attributes
    ----------
    group
        What it is of; see the comments of the sets below.
    sign
        When its values are never negative; a function of the node where that depends on arguments.
    scalar
        The position of an argument that is a summand, a factor or a filling, for ``Sign.OF_INPUTS``.
    keeps_zero
        Elementwise, and zero where its input is.
    copies
        Every element of its output is an element of an input, or a constant.
    gate
        Its values open or close a gate: an operand of a product that comes from one is a gate, not a signal.
    addend
        A matrix product whose first argument is added to the product.
    unit
        Whether it is an activation function, and a rectifier.
    """

    group: Group
    sign: Sign | Callable[[fx.Node], bool] = Sign.ANY
    scalar: int | None = None
    keeps_zero: bool = False
    copies: bool = False
    gate: bool = False
    addend: bool = False
    unit: Unit = Unit.NONE


OPERATORS: dict[Any, Operator] = {}
_GROUPS: dict[str, set[Any]] = {group: set() for group in get_args(Group)}
#: Elementwise functions of one value.
ACTIVATIONS: Set[Any] = _GROUPS["activation"]
CONVOLUTIONS: Set[Any] = _GROUPS["convolution"]
#: Matrix products.
LINEAR: Set[Any] = _GROUPS["linear"]
ADDITIONS: Set[Any] = _GROUPS["addition"]
PRODUCTS: Set[Any] = _GROUPS["product"]
#: Numerator, then denominator.
QUOTIENTS: Set[Any] = _GROUPS["quotient"]
#: Sums with constant weights.
AVERAGES: Set[Any] = _GROUPS["average"]
#: Nonlinear functions over axes that scale with their input.
NORMS: Set[Any] = _GROUPS["norm"]
#: Homogeneous functions of a higher degree over axes.
REDUCED_PRODUCTS: Set[Any] = _GROUPS["reduced-product"]
#: Reductions into given indices; their argument ``reduce`` says which.
SCATTERED: Set[Any] = _GROUPS["scatter"]
MAXIMA: Set[Any] = _GROUPS["maximum"]
BATCH_NORMS: Set[Any] = _GROUPS["batch-norm"]
LAYER_NORMS: Set[Any] = _GROUPS["layer-norm"]
RMS_NORMS: Set[Any] = _GROUPS["rms-norm"]
SOFTMAXES: Set[Any] = _GROUPS["softmax"]
#: Values interpolated at computed coordinates: (values, coordinates).
SAMPLERS: Set[Any] = _GROUPS["sampler"]
#: Values copied, rearranged, resampled or padded.
MOVEMENTS: Set[Any] = _GROUPS["movement"]
#: Operators beside ATen that round values and let relevance pass, and those that nothing is attributed through.
ROUNDING = frozenset({"onnxplain::fake_quantize"})
INERT = frozenset({"onnxplain::dynamic_range"})


def register_operator(target: Any, row: Operator) -> None:
    """Declare an operator of a trace: an overload such as ``torch.ops.aten.relu.default``.

    Raises
    ------
    ValueError
        It has a row, or the group is unknown.
    """
    if target in OPERATORS:
        raise ValueError(f"{target} has a row already")
    if row.group not in _GROUPS:
        raise ValueError(f"{row.group!r} is no group of operators: {', '.join(_GROUPS)}")
    OPERATORS[target] = row
    _GROUPS[row.group].add(target)


def unregister_operator(target: Any) -> None:
    """Take a row back."""
    _GROUPS[OPERATORS.pop(target).group].remove(target)


def group_of(target: Any) -> str | None:
    """The group of an operator; None without a row."""
    row = OPERATORS.get(target)
    return None if row is None else row.group


def schema_name(target: Any) -> str:
    """``namespace::name`` of an operator, "" of anything else."""
    return str(getattr(getattr(target, "_schema", None), "name", ""))


def _rows(group: Group, names: str, **facts: Any) -> None:
    """Rows of operators with the same facts, ``name.overload`` or the default overload; those that torch lacks are left out."""
    for name, _, overload in (each.partition(".") for each in names.split()):
        target = getattr(getattr(aten, name, None), overload or "default", None)
        if target is not None:
            register_operator(target, Operator(group, **facts))


def _bounded(position: int, default: float | None) -> Callable[[fx.Node], bool]:
    """The sign of a clamp, whose lower bound is at a position and the upper one behind it."""

    def check(node: fx.Node) -> bool:
        value = node.args[position] if len(node.args) > position else default
        above = node.args[position + 1] if len(node.args) > position + 1 else None
        crossed = isinstance(above, (int, float)) and above < 0  # then everything is the upper bound
        return isinstance(value, (int, float)) and value >= 0 and not crossed

    return check


# --- the table --------------------------------------------------------------------------------------------------------

_rows("activation", "relu", sign=Sign.NONNEGATIVE, keeps_zero=True, unit=Unit.RECTIFIER)
_rows("activation", "relu6 rrelu_with_noise_functional _prelu_kernel threshold", unit=Unit.RECTIFIER)
_rows("activation", "leaky_relu", keeps_zero=True, unit=Unit.RECTIFIER)
_rows(
    "activation",
    """
    clamp_max clamp_max.Tensor erfc erfinv exp2 expm1 log log2 log10 log1p rsqrt reciprocal square
    pow.Tensor_Scalar pow.Scalar sin cos tan asin acos atan sinh cosh asinh acosh atanh sinc logit lgamma digamma
    round round.decimals floor ceil trunc frac sign sgn nan_to_num fmod.Scalar remainder.Scalar
""",
)
_rows("activation", "clamp.Tensor clamp_min.Tensor", unit=Unit.CLAMP)
_rows("activation", "hardtanh", sign=_bounded(1, -1.0), unit=Unit.CLAMP)
_rows("activation", "clamp", sign=_bounded(1, None), unit=Unit.CLAMP)
_rows("activation", "clamp_min", sign=_bounded(1, None), unit=Unit.CLAMP)
_rows("activation", "mish celu selu erf hardshrink softshrink log_sigmoid_forward", unit=Unit.OTHER)
_rows("activation", "sigmoid hardsigmoid", sign=Sign.NONNEGATIVE, gate=True, unit=Unit.OTHER)
_rows("activation", "tanh elu gelu silu hardswish", keeps_zero=True, unit=Unit.OTHER)
_rows("activation", "softplus", sign=Sign.NONNEGATIVE, unit=Unit.OTHER)
_rows("activation", "abs exp sqrt", sign=Sign.NONNEGATIVE)
_rows("convolution", "convolution")
_rows("linear", "mm bmm mv dot")
_rows("linear", "addmm baddbmm addmv", addend=True)
_rows("addition", "add.Tensor", sign=Sign.OF_INPUTS, scalar=1)
_rows("addition", "sub.Tensor rsub.Scalar rsub.Tensor add.Scalar sub.Scalar")
_rows("product", "mul.Tensor", sign=Sign.OF_INPUTS, scalar=1)
_rows("product", "mul.Scalar neg atan2 pow.Tensor_Tensor copysign.Tensor")
_rows(
    "quotient",
    """
    div.Tensor div.Scalar div.Tensor_mode div.Scalar_mode floor_divide fmod.Tensor remainder.Tensor
""",
)
_rows(
    "average",
    """
    mean.dim mean sum.dim_IntList avg_pool1d avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d
""",
    sign=Sign.OF_INPUTS,
)
_rows(
    "average",
    """
    sum cumsum col2im scatter_add index_add trace _upsample_bilinear2d_aa _upsample_bicubic2d_aa
    affine_grid_generator
""",
)
_rows("norm", "linalg_vector_norm std.correction")
_rows("reduced-product", "prod prod.dim_int cumprod var.correction")
_rows("scatter", "scatter_reduce.two scatter.reduce index_reduce")
_rows("maximum", "max_pool2d_with_indices max_pool3d_with_indices", sign=Sign.OF_INPUTS, copies=True)
_rows("maximum", "amax amin max.dim maximum minimum", sign=Sign.OF_INPUTS)
_rows(
    "maximum",
    """
    min.dim max min adaptive_max_pool2d adaptive_max_pool3d topk sort sort.stable logsumexp kthvalue median
    median.dim cummax cummin aminmax
""",
)
_rows(
    "batch-norm",
    """
    native_batch_norm _native_batch_norm_legit_no_training _native_batch_norm_legit cudnn_batch_norm
""",
)
_rows("layer-norm", "native_layer_norm native_group_norm")
_rows("rms-norm", "_fused_rms_norm rms_norm")
_rows("softmax", "_softmax", sign=Sign.NONNEGATIVE, gate=True)
_rows("softmax", "_safe_softmax", gate=True)
_rows("softmax", "_log_softmax")
_rows("sampler", "grid_sampler_2d grid_sampler_3d _grid_sampler_2d_cpu_fallback")
_rows(
    "movement",
    """
    view _unsafe_view reshape permute transpose.int t expand slice.Tensor select.int squeeze.dim squeeze.dims
    squeeze unsqueeze cat stack split.Tensor split_with_sizes unbind.int flip clone alias detach pixel_shuffle
    channel_shuffle upsample_nearest2d.vec upsample_nearest2d
""",
    sign=Sign.OF_INPUTS,
    copies=True,
)
_rows(
    "movement",
    """
    chunk reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d
    roll repeat repeat_interleave.self_int _to_copy index_select index.Tensor gather take embedding pixel_unshuffle
    as_strided upsample_nearest1d.vec upsample_nearest3d.vec upsample_nearest1d upsample_nearest3d
    _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d upsample_bilinear2d.vec
    upsample_bilinear2d upsample_linear1d.vec upsample_linear1d upsample_trilinear3d.vec upsample_trilinear3d
    where.self masked_fill.Tensor masked_select index_put _unsafe_index_put _unsafe_index.Tensor index_copy
    scatter.src masked_scatter slice_scatter select_scatter as_strided_scatter diagonal_scatter contiguous tril triu
    unfold im2col diagonal diag_embed lift_fresh_copy lift_fresh movedim.int max_unpool2d max_unpool3d
    nonzero_static real unflatten.int flatten.using_ints broadcast_to squeeze_copy unsqueeze_copy swapaxes
""",
    sign=Sign.OF_INPUTS,
)
_rows("movement", "constant_pad_nd", sign=Sign.OF_INPUTS, copies=True, scalar=2)
_rows("movement", "upsample_bicubic2d.vec upsample_bicubic2d")
_rows("movement", "masked_fill.Scalar", sign=Sign.OF_INPUTS, scalar=2)
_rows("movement", "index_fill.int_Scalar scatter.value", sign=Sign.OF_INPUTS, scalar=3)
register_operator(getitem, Operator("movement", Sign.OF_INPUTS))
