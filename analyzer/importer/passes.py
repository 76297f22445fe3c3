"""Passes over a trace: small rewrites that keep the values and make rules see the layers that they are written for.

Belongs here: folding batch normalisation and constant factors into the layer before them, merging a bias that was
exported as an addition, and the order of all passes. Not here: patterns of several nodes (``fusion``), and anything
that changes what the model computes; every pass keeps the trace equal to onnxruntime, and tests hold it to that.

Each pass has the form ``pattern -> check -> rewrite`` and reports what it did. A value that something else reads too is
never folded away.

The algebra. A convolution or matrix product gives z = W x + b. Batch normalisation gives
y = g (z - m) / sqrt(v + e) + h, so with k = g / sqrt(v + e): y = (k W) x + (k (b - m) + h). A constant c added to z:
y = W x + (b + c). A constant factor: y = (k W) x + k b. All act per output channel.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx

from analyzer.importer.fusion import fuse_layer_norm, fuse_softmax

aten = torch.ops.aten
Renamed = dict[fx.Node, fx.Node]
_VIEWS = (aten.view.default, aten._unsafe_view.default)
_SQUEEZES = (aten.squeeze.dim, aten.squeeze.dims)
_BATCH_NORM = (aten.native_batch_norm.default, aten._native_batch_norm_legit_no_training.default)


def run_passes(module: fx.GraphModule) -> tuple[Renamed, list[str]]:
    """Run all passes in place; gives replaced node -> its replacement, and a line per change."""
    renamed: Renamed = {}
    changes: list[str] = []
    for rewrite in (merge_bias, fold_scale, merge_bias, fold_batch_norm, fuse_layer_norm, fuse_softmax):
        for node in list(module.graph.nodes):
            if node.op == "call_function" and not node._erased:
                done = rewrite(module, node)
                if done is not None:
                    replaced, by, what = done
                    renamed[replaced] = by
                    changes.append(what)
    module.graph.eliminate_dead_code(is_impure_node=lambda node: node.op in ("placeholder", "output"))
    read = {str(node.target) for node in module.graph.find_nodes(op="get_attr")}
    for label in [name for name, _ in module.named_buffers() if name not in read]:
        delattr(module, label)
    module.recompile()
    for node in renamed:
        while renamed[node] in renamed:
            renamed[node] = renamed[renamed[node]]
    return renamed, changes


Done = tuple[fx.Node, fx.Node, str] | None


def fold_batch_norm(module: fx.GraphModule, node: fx.Node) -> Done:
    """Convolution or linear layer, then batch normalisation with constants -> one layer."""
    if node.target not in _BATCH_NORM or not isinstance(node.args[0], fx.Node):
        return None
    layer = node.args[0]
    if layer.target not in (aten.convolution.default, aten.addmm.default, aten.mm.default) or len(layer.users) > 1:
        return None
    scale, shift, mean, var = (_constant(module, argument) for argument in node.args[1:5])
    if mean is None or var is None:
        return None
    users = [user for user in node.users if user.args[1] == 0]
    if len(users) != len(node.users) or len(users) != 1:
        return None
    epsilon = float(node.args[-1])  # type: ignore[arg-type]
    k = torch.rsqrt(var.double() + epsilon) * (1 if scale is None else scale.double())
    offset = -mean.double() * k + (0 if shift is None else shift.double())
    replacement = _with_affine(module, layer, k, offset)
    if replacement is None:
        return None
    replacement.meta.update(shape=users[0].meta["shape"], dtype=users[0].meta["dtype"], folded=node.meta.get("onnx"))
    users[0].replace_all_uses_with(replacement)
    _erase(module, users[0], node, layer)
    what = f"batch normalisation {node.meta.get('onnx')!r} folded into {layer.meta.get('onnx')!r}"
    return users[0], replacement, what


def merge_bias(module: fx.GraphModule, node: fx.Node) -> Done:
    """Layer without bias, then a per-channel constant added -> the layer with a bias."""
    if node.target is not aten.add.Tensor or node.kwargs.get("alpha", 1) != 1:
        return None
    for layer, addend in (node.args[:2], node.args[1::-1]):
        constant = _constant(module, addend)
        if not isinstance(layer, fx.Node) or constant is None or len(layer.users) > 1:
            continue
        chain = _behind(layer)
        if chain is None:
            continue
        inner = chain[-1]
        offset = _per_channel(inner, constant, node.meta["shape"])
        if offset is None or tuple(node.meta["shape"]) != tuple(layer.meta["shape"]):
            continue
        replacement = _with_affine(module, inner, None, offset.double())
        if replacement is None:
            continue
        final = _replaced(module, node, chain, replacement)
        return node, final, f"bias {node.meta.get('onnx')!r} merged into {inner.meta.get('onnx')!r}"
    return None


def fold_scale(module: fx.GraphModule, node: fx.Node) -> Done:
    """Layer, then a per-channel constant factor -> the layer with scaled weights."""
    if node.target is not aten.mul.Tensor:
        return None
    for layer, factor in (node.args[:2], node.args[1::-1]):
        constant = _constant(module, factor)
        if not isinstance(layer, fx.Node) or constant is None or len(layer.users) > 1:
            continue
        chain = _behind(layer)
        if chain is None or tuple(node.meta["shape"]) != tuple(layer.meta["shape"]):
            continue
        k = None if node.meta["dtype"] != layer.meta["dtype"] else _per_channel(chain[-1], constant, node.meta["shape"])
        replacement = None if k is None else _with_affine(module, chain[-1], k.double(), torch.zeros_like(k).double())
        if replacement is None:
            continue
        final = _replaced(module, node, chain, replacement)
        return node, final, f"factor {node.meta.get('onnx')!r} folded into {replacement.meta.get('onnx')!r}"
    return None


def _behind(node: fx.Node) -> list[fx.Node] | None:
    """The layer whose channels a value holds, behind what only reshapes its places: [value, …, layer], each read once."""
    chain = [node]
    while (
        len(chain[-1].users) == 1
        and chain[-1].target in (*_VIEWS, *_SQUEEZES)
        and isinstance(chain[-1].args[0], fx.Node)
    ):
        chain.append(chain[-1].args[0])
    inner, moves = chain[-1], chain[:-1]
    if len(inner.users) > 1:
        return None
    if inner.target is aten.convolution.default:
        kept = all(move.target in _SQUEEZES and _beyond_channels(move) for move in moves)
    else:
        kept = inner.target in (aten.mm.default, aten.addmm.default) and all(
            move.target in _VIEWS and move.meta["shape"][-1] == inner.meta["shape"][-1] for move in moves
        )
    return chain if kept else None


def _beyond_channels(move: fx.Node) -> bool:
    """Whether a squeeze takes away axes of places alone."""
    listed = move.args[1] if isinstance(move.args[1], (list, tuple)) else [move.args[1]]
    rank = len(move.args[0].meta["shape"])  # type: ignore[union-attr]
    return all(int(str(axis)) % rank >= 2 for axis in listed)


def _replaced(module: fx.GraphModule, node: fx.Node, chain: list[fx.Node], replacement: fx.Node) -> fx.Node:
    """Put the new layer, behind the same reshaping, in the place of a node; gives the node that has its value now."""
    replacement.meta["folded"] = node.meta.get("onnx")
    final = replacement
    for move in chain[-2::-1]:
        with module.graph.inserting_before(node):
            final = module.graph.create_node(move.op, move.target, (final, *move.args[1:]), dict(move.kwargs))
        final.meta.update(move.meta)
    node.replace_all_uses_with(final)
    _erase(module, node, *chain)
    return final


def _erase(module: fx.GraphModule, *nodes: fx.Node) -> None:
    """Remove nodes that nobody reads any more, so that later passes don't take them for readers."""
    for node in nodes:
        if not node.users:
            module.graph.erase_node(node)


def _per_channel(layer: fx.Node, constant: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """The constant as one number per output channel of the layer, None where it varies otherwise."""
    axis = 1 if layer.target is aten.convolution.default else len(shape) - 1
    channels = shape[axis]
    full = constant.reshape((1,) * (len(shape) - constant.ndim) + tuple(constant.shape))
    if full.ndim > len(shape) or any(size != 1 for i, size in enumerate(full.shape) if i != axis):
        return None
    return full.reshape(-1).expand(channels) if full.shape[axis] in (1, channels) else None


def _with_affine(module: fx.GraphModule, layer: fx.Node, k: Tensor | None, offset: Tensor) -> fx.Node | None:
    """The layer with output k z + offset, as a new node before it; None where its weights aren't constants."""
    graph = module.graph
    if layer.target is aten.convolution.default:
        weight, bias = _constant(module, layer.args[1]), _constant(module, layer.args[2])
        if weight is None or (bias is None and layer.args[2] is not None):
            return None
        transposed, groups = bool(layer.args[6]), int(str(layer.args[8]))
        scaled = weight if k is None else _scale_kernel(weight, k, transposed, groups)
        total = offset if bias is None else offset + bias.double() * (1 if k is None else k)
        arguments = [None, scaled, total.to(weight.dtype)]
        rest = layer.args[3:]
    else:
        first = 1 if layer.target is aten.addmm.default else 0
        weight = _constant(module, layer.args[first + 1])
        bias = _constant(module, layer.args[0]) if first else None
        if weight is None or (first and bias is None) or layer.kwargs.get("alpha", 1) != 1:
            return None
        scaled = weight if k is None else (weight.double() * k).to(weight.dtype)
        total = offset
        if bias is not None:
            beta = float(str(layer.kwargs.get("beta", 1)))
            total = total + bias.double() * beta * (1 if k is None else k)
        if total.ndim > 1 and total.numel() != weight.shape[-1]:
            return None
        arguments, rest = [total.reshape(-1).to(weight.dtype), None, scaled], ()
    with graph.inserting_before(layer):
        placed = [None if value is None else _attribute(module, value, layer) for value in arguments]
        if layer.target is aten.convolution.default:
            new = graph.call_function(layer.target, (layer.args[0], placed[1], placed[2], *rest))
        else:
            new = graph.call_function(
                aten.addmm.default, (placed[0], layer.args[1 if layer.target is aten.addmm.default else 0], placed[2])
            )
    new.meta.update(layer.meta)
    return new


def _scale_kernel(weight: Tensor, k: Tensor, transposed: bool, groups: int) -> Tensor:
    if not transposed:
        return (weight.double() * k.reshape(-1, *[1] * (weight.ndim - 1))).to(weight.dtype)
    per_group = k.reshape(groups, 1, -1)  # kernel is (in, out / groups, …)
    spread = weight.double().reshape(groups, -1, *weight.shape[1:]) * per_group[(...,) + (None,) * (weight.ndim - 2)]
    return spread.reshape(weight.shape).to(weight.dtype)


def _attribute(module: fx.GraphModule, value: Tensor, like: fx.Node) -> fx.Node:
    label = f"folded_{len(module._buffers)}"
    module.register_buffer(label, value.contiguous())
    node = module.graph.get_attr(label)
    node.meta.update(constant=like.meta.get("onnx", ""), shape=tuple(value.shape), dtype=value.dtype)
    return node


def _constant(module: fx.GraphModule, argument: object) -> Tensor | None:
    if isinstance(argument, fx.Node) and argument.op == "get_attr":
        value: Tensor = getattr(module, str(argument.target))
        return value
    return None
