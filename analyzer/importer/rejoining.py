"""Parts of a batch that are normalised alike and put together again: one normalisation of the whole.

Belongs here: this pattern, ghost batch normalisation as TabNet has it. Not here: folding it into a layer (``folding``).

In training every part has statistics of its own; afterwards the statistics are constants and the parts only a detour, which
exporters write as a split, as slices, or, for a batch that is one part, not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import getitem

import torch
from torch import fx

from analyzer.importer.folding import BATCH_NORMS
from analyzer.importer.rewriting import Refusal, Rewrite, constant_of, erase_unread

aten = torch.ops.aten

OWN_STATISTICS = Refusal("each part is normalised by its own statistics")
OTHER_PARAMETERS = Refusal("its parts are normalised by different numbers")
NOT_THE_WHOLE = Refusal("its parts aren't a whole value's in their order")


def rejoin(module: fx.GraphModule, node: fx.Node) -> Rewrite | Refusal | None:
    """Split or slices of the samples, each normalised, concatenated -> one batch normalisation."""
    joined: Sequence[fx.Node] = node.args[0]  # type: ignore[assignment]
    if len(node.args) > 1 and node.args[1] != 0:
        return None
    norms = [each.args[0] for each in joined if each.target is getitem and each.args[1] == 0]
    found = [each for each in norms if isinstance(each, fx.Node) and each.target in BATCH_NORMS]
    if len(found) < len(joined):
        return None
    first = found[0]
    if first.args[3] is None or (first.target is aten.native_batch_norm.default and first.args[5]):
        return OWN_STATISTICS
    if not all(_alike(module, each, first) for each in found):
        return OTHER_PARAMETERS
    parts = [each.args[0] for each in found]
    whole = _whole([part for part in parts if isinstance(part, fx.Node)])
    if whole is None:
        return NOT_THE_WHOLE
    with module.graph.inserting_before(node):
        norm = module.graph.call_function(first.target, (whole, *first.args[1:]))  # type: ignore[arg-type]
        result = module.graph.call_function(getitem, (norm, 0))
    norm.meta.update(first.meta)
    result.meta.update(first.meta | {key: node.meta[key] for key in ("shape", "dtype")})
    node.replace_all_uses_with(result)
    split = [part.args[0] for part in parts if isinstance(part, fx.Node) and part.target is getitem]
    read = [node, *joined, *found, *parts, *split]
    erase_unread(module, *dict.fromkeys(each for each in read if isinstance(each, fx.Node)))
    return Rewrite(node, result, f"parts normalised by {first.meta.get('onnx')!r} put together")


def _alike(module: fx.GraphModule, node: fx.Node, other: fx.Node) -> bool:
    """Whether two nodes are one operator with equal arguments, the first aside."""
    if node.target is not other.target or len(node.args) != len(other.args):
        return False
    return all(_equal(module, a, b) for a, b in zip(node.args[1:], other.args[1:], strict=True))


def _equal(module: fx.GraphModule, one: object, other: object) -> bool:
    a, b = constant_of(module, one), constant_of(module, other)
    if a is None or b is None:
        return one == other
    return a.shape == b.shape and torch.equal(a, b)


def _whole(parts: Sequence[fx.Node]) -> fx.Node | None:
    """The value whose parts along the samples these are, all of them in their order."""
    at, wholes = 0, set[fx.Node | None]()
    for index, part in enumerate(parts):
        wholes.add(_split(part, index, len(parts)) or _sliced(part, at))
        at += int(part.meta["shape"][0])
    (whole, *others) = wholes
    return whole if whole is not None and not others and whole.meta["shape"][0] == at else None


def _split(part: fx.Node, index: int, count: int) -> fx.Node | None:
    """What a node is that part of, of a split of the samples into so many."""
    split = part.args[0] if part.target is getitem and part.args[1] == index else None
    if not isinstance(split, fx.Node) or split.target is not aten.split_with_sizes.default:
        return None
    source, sizes, *axis = split.args
    along = not axis or axis[0] == 0
    return source if along and len(sizes) == count and isinstance(source, fx.Node) else None  # type: ignore[arg-type]


def _sliced(part: fx.Node, start: int) -> fx.Node | None:
    """What a node is a slice of the samples of, from a place on and without gaps."""
    if part.target is not aten.slice.Tensor:
        return None
    source, axis, first, _, *step = part.args
    whole = (axis, first) == (0, start) and step in ([], [1])
    return source if whole and isinstance(source, fx.Node) else None
