"""ATen operators that permute, copy, select and join, in ONNX.

Belongs here: views, slices, gathering, padding. Not here: indexing and scattering (``indexing``), sums and products
(``linear``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from analyzer.compiler.ir import Result, Value
from analyzer.compiler.lowering.emitter import Emitter
from analyzer.compiler.lowering.table import axis, lowers

aten, prims = torch.ops.aten, torch.ops.prims
_END = np.iinfo(np.int64).max


@lowers(aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.squeeze.default, aten.squeeze.dim,
        aten.squeeze.dims, aten.unsqueeze.default, aten._reshape_alias.default)  # fmt: skip
def view(w: Emitter, result: Result, x: Value, *_: Any) -> str:
    """Other sizes for the same elements."""
    return x.name if x.shape == result.shape else w.reshape(x.name, result.shape)


@lowers(aten.permute.default)
def permute(w: Emitter, result: Result, x: Value, dims: Sequence[int]) -> str:
    """Axes in another order."""
    return x.name if not x.rank else w.op("Transpose", x.name, perm=[axis(d, x.rank) for d in dims])


@lowers(aten.transpose.int)
def transpose(w: Emitter, result: Result, x: Value, a: int, b: int) -> str:
    """Two axes swapped."""
    if not x.rank:
        return x.name
    order, a, b = list(range(x.rank)), axis(a, x.rank), axis(b, x.rank)
    order[a], order[b] = order[b], order[a]
    return w.op("Transpose", x.name, perm=order)


@lowers(aten.t.default)
def t(w: Emitter, result: Result, x: Value) -> str:
    """A matrix transposed."""
    return x.name if not x.rank else w.op("Transpose", x.name, perm=list(range(x.rank))[::-1])


@lowers(aten.expand.default)
def expand(w: Emitter, result: Result, x: Value, *_: Any, **__: Any) -> str:
    """Broadcast."""
    return w.expand(x, result.shape)


@lowers(prims.broadcast_in_dim.default)
def broadcast_in_dim(w: Emitter, result: Result, x: Value, _: Any, places: Sequence[int]) -> str:
    """Axes put at places among others, and broadcast."""
    lifted = [x.shape[list(places).index(i)] if i in places else 1 for i in range(len(result.shape))]
    name = x.name if len(lifted) == x.rank else w.reshape(x.name, lifted)
    return w.expand(Value(name, tuple(lifted), x.dtype), result.shape)


@lowers(aten.repeat.default)
def repeat(w: Emitter, result: Result, x: Value, repeats: Sequence[Any]) -> str:
    """Tiled."""
    lead = (1,) * (len(repeats) - x.rank) + x.shape
    name = x.name if len(repeats) == x.rank else w.reshape(x.name, lead)
    return w.op("Tile", name, w.size(repeats))


@lowers(aten.cat.default)
def cat(w: Emitter, result: Result, parts: Sequence[Value], dim: int = 0) -> str:
    """Joined along an axis; empty parts of rank 1 don't count."""
    real = [p for p in parts if p.shape != (0,) or len(result.shape) == 1]
    return w.op("Concat", *[w.of(p, result.dtype) for p in real], axis=axis(dim, len(result.shape)))


@lowers(aten.stack.default)
def stack(w: Emitter, result: Result, parts: Sequence[Value], dim: int = 0) -> str:
    """Joined along a new axis."""
    new = axis(dim, len(result.shape))
    unsqueezed = [w.op("Unsqueeze", w.of(p, result.dtype), w.integers([new])) for p in parts]
    return w.op("Concat", *unsqueezed, axis=new)


@lowers(aten.slice.Tensor)
def slice_(
    w: Emitter, result: Result, x: Value, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> str:
    """A range of an axis."""
    if result.shape == x.shape and step == 1:
        return x.name
    bounds = [w.size([0 if start is None else start]), w.size([_END if end is None else end])]
    return w.op("Slice", x.name, *bounds, w.integers([axis(dim, x.rank)]), w.integers([step]))


@lowers(aten.select.int)
def select(w: Emitter, result: Result, x: Value, dim: int, index: int) -> str:
    """One index of an axis."""
    return w.op("Gather", x.name, w.scalar(index, torch.int64), axis=axis(dim, x.rank))


@lowers(aten.split.Tensor, aten.split_with_sizes.default, aten.unbind.int)
def split(w: Emitter, result: Any, x: Value, *more: Any) -> dict[int, str]:
    """Cut along an axis; only the parts that are read are written."""
    unbinding = not more or (len(more) == 1 and len(next(iter(result.values())).shape) == x.rank - 1)
    if unbinding:
        dim = axis(more[0] if more else 0, x.rank)
        return {i: w.op("Gather", x.name, w.scalar(i, torch.int64), axis=dim) for i in result}
    dim = axis(more[1] if len(more) > 1 else 0, x.rank)
    sizes = more[0]
    made = {}
    for i in result:
        start = i * sizes if isinstance(sizes, int) else sum(sizes[:i])
        end = start + (sizes if isinstance(sizes, int) else sizes[i])
        made[i] = w.op("Slice", x.name, w.integers([start]), w.integers([end]), w.integers([dim]))
    return made


@lowers(aten.constant_pad_nd.default)
def pad(w: Emitter, result: Result, x: Value, pads: Sequence[int], value: float = 0) -> str:
    """Padded, or cut where negative."""
    before, after = [0] * x.rank, [0] * x.rank
    for i in range(len(pads) // 2):
        before[x.rank - 1 - i], after[x.rank - 1 - i] = pads[2 * i], pads[2 * i + 1]
    return w.op("Pad", x.name, w.integers([*before, *after]), w.scalar(value, x.dtype))


@lowers(aten.flip.default)
def flip(w: Emitter, result: Result, x: Value, dims: Sequence[int]) -> str:
    """Axes reversed."""
    axes = [axis(d, x.rank) for d in dims]
    n = len(axes)
    return w.op("Slice", x.name, w.integers([-1] * n), w.integers([-_END] * n), w.integers(axes), w.integers([-1] * n))


@lowers(aten.embedding.default)
def embedding(w: Emitter, result: Result, table: Value, indices: Value, *_: Any) -> str:
    """Rows of a table."""
    return w.op("Gather", table.name, indices.name, axis=0)


@lowers(aten.index_select.default)
def index_select(w: Emitter, result: Result, x: Value, dim: int, indices: Value) -> str:
    """Given indices of an axis."""
    return w.op("Gather", x.name, indices.name, axis=axis(dim, x.rank))


@lowers(aten.gather.default)
def gather(w: Emitter, result: Result, x: Value, dim: int, indices: Value, **_: Any) -> str:
    """Elements by index along an axis."""
    return w.op("GatherElements", x.name, w.of(indices, torch.int64), axis=axis(dim, x.rank))
