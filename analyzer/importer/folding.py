"""Constants folded into the layer before them: batch normalisation, a bias exported as an addition, a factor.

Belongs here: rewrites of a convolution or matrix product with what follows it. Not here: patterns of several nodes that are
one layer (``fusion``).

The algebra. A convolution or matrix product gives z = W x + b. Batch normalisation gives
y = g (z - m) / sqrt(v + e) + h, so with k = g / sqrt(v + e): y = (k W) x + (k (b - m) + h). A constant c added to z:
y = W x + (b + c). A constant factor k or divisor 1 / k: y = (k W) x + k b. All act per output channel. They are folded in the
order in which they run, so that whatever an exporter has folded itself, the same layers are left.

A value that something else reads too is never folded away. A weight that several layers share is: the folded layer gets its
own, the others keep theirs.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx

from analyzer.importer.rewriting import Refusal, Rewrite, add_constant, constant_of, erase_unread

aten = torch.ops.aten
BATCH_NORMS = (aten.native_batch_norm.default, aten._native_batch_norm_legit_no_training.default)
CONSTANTS = (aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor, aten.neg.default)
_LAYERS = (aten.convolution.default, aten.addmm.default, aten.mm.default)
_VIEWS = (aten.view.default, aten._unsafe_view.default)
_SQUEEZES = (aten.squeeze.dim, aten.squeeze.dims)

NO_LAYER = Refusal("what comes before it is no convolution or matrix product")
READ_ELSEWHERE = Refusal("the layer's value is read elsewhere too")
RESHAPED = Refusal("a reshape between the layer and it moves the channels to another axis")
NOT_CONSTANT = Refusal("it isn't linear in one computed operand beside a constant")
SCALED_OPERAND = Refusal("it scales one of its operands")
NOT_PER_CHANNEL = Refusal("the constant varies along other axes than the layer's channels")
OTHER_SHAPE = Refusal("the constant broadcasts the value to a larger shape")
OTHER_TYPE = Refusal("its result has another number type than the layer's")
BATCH_STATISTICS = Refusal("it normalises by the batch's own statistics (training mode)")
COMPUTED_PARAMETERS = Refusal("its parameters are computed from the input")
STATISTICS_READ = Refusal("its statistics are read too")
COMPUTED_WEIGHTS = Refusal("the layer's weights are computed from the input")
SCALED_PRODUCT = Refusal("the layer scales its matrix product")
BIAS_PER_ROW = Refusal("the layer has another bias for every row")


def fold(module: fx.GraphModule, node: fx.Node) -> Rewrite | Refusal:
    """Whatever is constant behind a layer, in the order in which it runs."""
    return fold_batch_norm(module, node) if node.target in BATCH_NORMS else fold_constant(module, node)


def fold_batch_norm(module: fx.GraphModule, node: fx.Node) -> Rewrite | Refusal:
    """Convolution or linear layer, then batch normalisation with constants -> one layer."""
    layer, *parameters = node.args[:5]
    if not isinstance(layer, fx.Node) or layer.target not in _LAYERS:
        return NO_LAYER
    if len(layer.users) > 1:
        return READ_ELSEWHERE
    values = [constant_of(module, argument) for argument in parameters]
    if any(value is None and argument is not None for value, argument in zip(values, parameters, strict=True)):
        return COMPUTED_PARAMETERS
    scale, shift, mean, var = values
    if mean is None or var is None:
        return BATCH_STATISTICS
    users = [user for user in node.users if user.args[1] == 0]
    if len(users) != len(node.users) or len(users) != 1:
        return STATISTICS_READ
    epsilon = float(node.args[-1])  # type: ignore[arg-type]
    k = torch.rsqrt(var.double() + epsilon) * (1 if scale is None else scale.double())
    offset = -mean.double() * k + (0 if shift is None else shift.double())
    replacement = _with_affine(module, layer, k, offset)
    if isinstance(replacement, Refusal):
        return replacement
    replacement.meta.update(shape=users[0].meta["shape"], dtype=users[0].meta["dtype"], folded=node.meta.get("onnx"))
    users[0].replace_all_uses_with(replacement)
    erase_unread(module, users[0], node, layer)
    change = f"batch normalisation {node.meta.get('onnx')!r} folded into {layer.meta.get('onnx')!r}"
    return Rewrite(users[0], replacement, change)


def fold_constant(module: fx.GraphModule, node: fx.Node) -> Rewrite | Refusal:
    """Layer, then a sum, difference, product or quotient with a per-channel constant -> the layer with other constants."""
    if node.kwargs.get("alpha", 1) != 1:
        return SCALED_OPERAND
    affine = _affine(module, node)
    if affine is None:
        return NOT_CONSTANT
    value, k, offset = affine
    chain = _chain_to_layer(value)
    if isinstance(chain, Refusal):
        return chain
    if tuple(node.meta["shape"]) != tuple(value.meta["shape"]):
        return OTHER_SHAPE
    if node.meta["dtype"] != value.meta["dtype"]:
        return OTHER_TYPE
    spread = [None if v is None else _per_channel(chain[-1], v.double(), node.meta["shape"]) for v in (k, offset)]
    if any(s is None and v is not None for s, v in zip(spread, (k, offset), strict=True)):
        return NOT_PER_CHANNEL
    replacement = _with_affine(module, chain[-1], *spread)
    if isinstance(replacement, Refusal):
        return replacement
    final = _replace(module, node, chain, replacement)
    change = f"constant of {node.meta.get('onnx')!r} folded into {replacement.meta.get('onnx')!r}"
    return Rewrite(node, final, change)


def _affine(module: fx.GraphModule, node: fx.Node) -> tuple[fx.Node, Tensor | None, Tensor | None] | None:
    """(z, k, c) where a node is k z + c of a computed z; None stands for k = 1 and for c = 0."""
    left, *rest = node.args
    if node.target is aten.neg.default:
        return (left, torch.tensor(-1.0), None) if isinstance(left, fx.Node) else None
    minus = node.target is aten.sub.Tensor
    constant = constant_of(module, rest[0])
    if constant is not None and isinstance(left, fx.Node):
        if node.target is aten.mul.Tensor:
            return left, constant, None
        if node.target is aten.div.Tensor:
            return (left, 1 / constant.double(), None) if bool((constant != 0).all()) else None
        return left, None, -constant if minus else constant
    constant, right = constant_of(module, left), rest[0]
    if constant is None or not isinstance(right, fx.Node) or node.target is aten.div.Tensor:
        return None
    if node.target is aten.mul.Tensor:
        return right, constant, None
    return right, torch.tensor(-1.0) if minus else None, constant


def _chain_to_layer(node: fx.Node) -> list[fx.Node] | Refusal:
    """From a value to the layer whose channels it holds, through reshapes that leave them: [value, …, layer], each read once."""
    chain = [node]
    while (
        len(chain[-1].users) == 1
        and chain[-1].target in (*_VIEWS, *_SQUEEZES)
        and isinstance(chain[-1].args[0], fx.Node)
    ):
        chain.append(chain[-1].args[0])
    layer, reshapes = chain[-1], chain[:-1]
    if layer.target not in _LAYERS:
        return NO_LAYER
    if len(layer.users) > 1:
        return READ_ELSEWHERE
    if layer.target is aten.convolution.default:
        preserved = all(each.target in _SQUEEZES and _squeezes_spatial_axes(each) for each in reshapes)
    else:
        preserved = all(
            each.target in _VIEWS and each.meta["shape"][-1] == layer.meta["shape"][-1] for each in reshapes
        )
    return chain if preserved else RESHAPED


def _squeezes_spatial_axes(squeeze: fx.Node) -> bool:
    """Whether only spatial axes are taken away."""
    listed = squeeze.args[1] if isinstance(squeeze.args[1], (list, tuple)) else [squeeze.args[1]]
    rank = len(squeeze.args[0].meta["shape"])  # type: ignore[union-attr]
    return all(int(str(axis)) % rank >= 2 for axis in listed)


def _replace(module: fx.GraphModule, node: fx.Node, chain: list[fx.Node], replacement: fx.Node) -> fx.Node:
    """Put the new layer and the same reshapes where a node is; gives the node that has its value now."""
    replacement.meta["folded"] = node.meta.get("onnx")
    final = replacement
    for reshape in chain[-2::-1]:
        with module.graph.inserting_before(node):
            final = module.graph.create_node(
                reshape.op, reshape.target, (final, *reshape.args[1:]), dict(reshape.kwargs)
            )
        final.meta.update(reshape.meta)
    node.replace_all_uses_with(final)
    erase_unread(module, node, *chain)
    return final


def _per_channel(layer: fx.Node, constant: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """The constant as one number per output channel of the layer, None where it varies otherwise."""
    axis = 1 if layer.target is aten.convolution.default else len(shape) - 1
    channels = shape[axis]
    full = constant.reshape((1,) * (len(shape) - constant.ndim) + tuple(constant.shape))
    if full.ndim > len(shape) or any(size != 1 for i, size in enumerate(full.shape) if i != axis):
        return None
    return full.reshape(-1).expand(channels) if full.shape[axis] in (1, channels) else None


def _with_affine(module: fx.GraphModule, layer: fx.Node, k: Tensor | None, offset: Tensor | None) -> fx.Node | Refusal:
    """The layer with output k z + offset, as a new node before it; None stands for k = 1 and for offset = 0."""
    if offset is None:
        assert k is not None
        offset = torch.zeros_like(k)
    if layer.target is aten.convolution.default:
        return _affine_convolution(module, layer, k, offset)
    return _affine_product(module, layer, k, offset)


def _affine_convolution(module: fx.GraphModule, layer: fx.Node, k: Tensor | None, offset: Tensor) -> fx.Node | Refusal:
    weight, bias = constant_of(module, layer.args[1]), constant_of(module, layer.args[2])
    if weight is None or (bias is None and layer.args[2] is not None):
        return COMPUTED_WEIGHTS
    transposed, groups = bool(layer.args[6]), int(str(layer.args[8]))
    scaled = weight if k is None else _scale_kernel(weight, k, transposed, groups)
    total = offset if bias is None else offset + bias.double() * (1 if k is None else k)
    with module.graph.inserting_before(layer):
        constants = [add_constant(module, value, layer) for value in (scaled, total.to(weight.dtype))]
        new = module.graph.call_function(aten.convolution.default, (layer.args[0], *constants, *layer.args[3:]))
    new.meta.update(layer.meta)
    return new


def _affine_product(module: fx.GraphModule, layer: fx.Node, k: Tensor | None, offset: Tensor) -> fx.Node | Refusal:
    first = 1 if layer.target is aten.addmm.default else 0
    weight = constant_of(module, layer.args[first + 1])
    bias = constant_of(module, layer.args[0]) if first else None
    if weight is None or (first and bias is None):
        return COMPUTED_WEIGHTS
    if layer.kwargs.get("alpha", 1) != 1:
        return SCALED_PRODUCT
    scaled = weight if k is None else (weight.double() * k).to(weight.dtype)
    total = offset
    if bias is not None:
        beta = float(str(layer.kwargs.get("beta", 1)))
        total = total + bias.double() * beta * (1 if k is None else k)
    if total.ndim > 1 and total.numel() != weight.shape[-1]:
        return BIAS_PER_ROW
    with module.graph.inserting_before(layer):
        added, factor = (add_constant(module, v, layer) for v in (total.reshape(-1).to(weight.dtype), scaled))
        new = module.graph.call_function(aten.addmm.default, (added, layer.args[first], factor))
    new.meta.update(layer.meta)
    return new


def _scale_kernel(weight: Tensor, k: Tensor, transposed: bool, groups: int) -> Tensor:
    if not transposed:
        return (weight.double() * k.reshape(-1, *[1] * (weight.ndim - 1))).to(weight.dtype)
    per_group = k.reshape(groups, 1, -1)  # kernel is (in, out / groups, …)
    spread = weight.double().reshape(groups, -1, *weight.shape[1:]) * per_group[(...,) + (None,) * (weight.ndim - 2)]
    return spread.reshape(weight.shape).to(weight.dtype)
