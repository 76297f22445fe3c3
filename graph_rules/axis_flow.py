"""Following what axes count through a graph, and where places are mixed.

Belongs here: what each operator does to axes. Not here: axes themselves (``axes``), which layer is read
(``cam``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from operator import getitem
from typing import Any

from torch import fx

from graph_rules import operators as o
from graph_rules.axes import Atom, Axes, Axis, axis, coarser, reshaped, resized, sliced, tokens, with_axis
from graph_rules.kinds import active_arguments, active_nodes, factor_positions
from graph_rules.operators import aten

_RESHAPING = {
    aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.squeeze.dim, aten.squeeze.dims,
    aten.squeeze.default, aten.unsqueeze.default, aten.unflatten.int, aten.flatten.using_ints,
}  # fmt: skip
_REDUCING = ("average", "maximum", "norm", "reduced-product")
_LOST = {aten.unfold.default, aten.as_strided.default, aten.im2col.default, aten.col2im.default, aten.diagonal.default}
#: Kinds of atoms that hold several places.
_PLACED = ("places", "tokens")


@dataclass
class AxisFlow:
    """What all axes count that depend on the explained inputs.

    Attributes
    ----------
    axes
        Node -> its axes; nodes of which nothing is known are missing.
    mixing
        Nodes that combine several places of what they read, apart from resampling.
    joining
        Nodes that put several grids one after the other, as detectors do.
    """

    active: frozenset[fx.Node]
    axes: dict[fx.Node, Axes] = field(default_factory=dict)
    mixing: set[fx.Node] = field(default_factory=set)
    joining: set[fx.Node] = field(default_factory=set)

    @classmethod
    def through(cls, output: fx.Node, sources: Sequence[fx.Node]) -> AxisFlow:
        """The flow from sources to an output."""
        flow = cls(active_nodes(sources, output))
        for node in output.graph.nodes:
            if node not in flow.active:
                continue
            if node in sources:
                found: Axes | None = _source(node)
            else:
                found = flow._read(node)
            if found is not None:
                flow.axes[node] = found
        return flow

    def placed(self, node: fx.Node) -> bool:
        """Whether a value holds all places of a feature map."""
        found = self.axes.get(node)
        return found is not None and found.learned and found.has_places

    def _read(self, node: fx.Node) -> Axes | None:
        inputs = active_arguments(node, self.active)
        known = [self.axes[value] for value in inputs if value in self.axes]
        if "shape" not in node.meta:  # several tensors: each is read where it is taken out
            return known[0] if known else None
        shape = tuple(int(size) for size in node.meta["shape"])
        call, at = node, None
        if node.target is getitem and isinstance(node.args[0], fx.Node):
            call, at = node.args[0], int(node.args[1])  # type: ignore[arg-type]
            inputs = active_arguments(call, self.active)
            known = [self.axes[value] for value in inputs if value in self.axes]
        found = self._axes(call, at, known, shape)
        if found is not None and len(found.axes) != len(shape):
            found = None
        if any(self.placed(value) for value in inputs) and (found is None or self._mixes(call, found, inputs)):
            self.mixing.add(node)
        return found

    def _axes(self, call: fx.Node, at: int | None, known: Sequence[Axes], shape: tuple[int, ...]) -> Axes | None:
        target = call.target
        if target in o.CONVOLUTIONS:
            first = call.args[0]
            return _convolved(self.axes.get(first) if isinstance(first, fx.Node) else None, shape)
        if not known or target in _LOST:
            return None
        if target in o.LINEAR:
            return self._multiplied(call, shape)
        if target in (aten.cat.default, aten.stack.default):
            return self._concatenated(call, shape)
        best = _best(known)
        if target in _RESHAPING:
            return reshaped(best, shape)
        rearrange = _REARRANGED.get(target)
        if rearrange is not None:
            return rearrange(call, at, best, shape)
        group = o.group_of(target)
        if group in _REDUCING and len(shape) < len(best.axes):
            gone = _reduced_axes(call, len(best.axes))
            left = tuple(each for position, each in enumerate(best.axes) if position not in gone)
            return coarser(replace(best, axes=left))
        return _same_rank(best, known, shape)

    def _multiplied(self, call: fx.Node, shape: tuple[int, ...]) -> Axes | None:
        """A matrix product's rows and columns are its operands'; constants bring channels."""
        left, right = (self._operand(call, position) for position in factor_positions(call))
        if left is None and right is None:
            return None
        of = _best([value for value in (left, right) if value is not None])
        if len(shape) < 2 or any(value is not None and len(value.axes) < 2 for value in (left, right)):
            return None
        rows = left.axes[-2] if left is not None else axis("channels", shape[-2])
        columns = right.axes[-1] if right is not None else axis("channels", shape[-1])
        batch = [each for value in (left, right) if value is not None for each in value.axes[:-2]]
        if len(shape) - 2 != len(batch[: len(shape) - 2]):
            return None
        result = replace(of, axes=(*batch[: len(shape) - 2], rows, columns))
        summed = [a for value in (left, right) if value is not None for a in _summed(value, value is left)]
        kept = {atom.dimension for atom in result.atoms if atom.what == "places"}
        patches = not (left and right) and any(a.what == "places" and a.dimension in kept for a in summed)
        return replace(coarser(result), learned=True) if patches else result if of.learned else coarser(result)

    def _operand(self, call: fx.Node, position: int) -> Axes | None:
        value = call.args[position]
        return self.axes.get(value) if isinstance(value, fx.Node) else None

    def _concatenated(self, call: fx.Node, shape: tuple[int, ...]) -> Axes | None:
        values: Any = call.args[0]
        known = [(value, self.axes.get(value)) for value in values]
        best = _best([found for _, found in known if found is not None])
        dim = int(call.args[1]) % len(shape) if len(call.args) > 1 else 0  # type: ignore[arg-type]
        if call.target is aten.stack.default:
            return replace(best, axes=(*best.axes[:dim], axis("channels", shape[dim]), *best.axes[dim:]))
        if len(best.axes) != len(shape):
            return None
        holding = [n for n, (_, found) in enumerate(known) if found is not None and _holds_places(found, dim)]
        sizes = [int(value.meta["shape"][dim]) for value in values]
        if not holding:
            old = [atom for _, f in known if f is not None for atom in f.axes[dim]]
            joined = any(atom.what == "joined" for atom in old)
            return with_axis(best, dim, axis("joined" if joined else "channels", shape[dim]))
        one = known[holding[0]][1]
        assert one is not None
        whole = one.axes[dim][0].what == "tokens" or one.axes[dim] == tokens(one.grid, 0, 0)
        if len(holding) == 1 and whole and len(values) > 1:
            first, held = one.axes[dim][0], holding[0]
            before = sum(sizes[:held]) + first.before
            return with_axis(one, dim, tokens(one.grid, before, sum(sizes[held + 1 :]) + first.after))
        single = all(len(each) == 1 and each[0].what == "places" for each in (one.axes[dim],))
        if single and (len(one.grid) > 1 or not one.learned):
            new, value = resized(one.axes[dim], shape[dim], one)
            return with_axis(value, dim, new)
        if len(values) == 1:
            return one
        self.joining.add(call)
        return with_axis(one, dim, axis("joined", shape[dim]))

    def _mixes(self, call: fx.Node, found: Axes, inputs: Sequence[fx.Node]) -> bool:
        target, group = call.target, o.group_of(call.target)
        if target in o.CONVOLUTIONS:
            weight = call.args[1]
            return isinstance(weight, fx.Node) and prod(weight.meta.get("shape", (0,) * 3)[2:]) > 1
        if target in o.LINEAR:
            for position in factor_positions(call):
                value = self._operand(call, position)
                summed = () if value is None else _summed(value, position == factor_positions(call)[0])
                if any(atom.what in (*_PLACED, "joined") for atom in summed):
                    return True
            return False
        if "pool" in str(target):
            return True
        lost = not found.has_places
        if target in (aten.select.int, aten.unbind.int):
            return lost and not self._beside(call)
        return group in _REDUCING and lost and any(self.placed(value) for value in inputs)

    def _beside(self, call: fx.Node) -> bool:
        """Whether what is selected is a token beside the places."""
        value = call.args[0]
        if not isinstance(value, fx.Node) or value not in self.axes or call.target is not aten.select.int:
            return False
        dim, index = int(call.args[1]), int(call.args[2])  # type: ignore[arg-type]
        old = self.axes[value].axes[dim]
        if len(old) != 1 or old[0].what != "tokens":
            return not any(atom.what in _PLACED for atom in old)
        index %= old[0].size
        return index < old[0].before or index >= old[0].size - old[0].after


def _source(node: fx.Node) -> Axes:
    """An input's: samples first, whatever the others count is told by what reads them."""
    shape = [int(size) for size in node.meta.get("shape", ())]
    axes = [axis("batch", shape[0])] if shape else []
    axes += [axis("places", size, dimension) for dimension, size in enumerate(shape[1:])]
    return Axes(tuple(axes), tuple(shape[1:]))


def _convolved(value: Axes | None, shape: tuple[int, ...]) -> Axes | None:
    """(batch, channels, *spatial), unless what it reads are places of several grids."""
    grid = shape[2:]
    first, steps = axis("batch", shape[0]), tuple[int, ...]()
    if value is not None and len(value.axes) == len(shape):
        if any(atom.what == "joined" for each in value.axes[2:] for atom in each):
            return replace(value, axes=(first, axis("channels", shape[1]), *(axis("joined", size) for size in grid)))
        if any(atom.what != "batch" for atom in value.axes[0]):  # frames, each as a sample
            others = [atom for atom in value.axes[0] if atom.what != "batch"]
            steps = tuple(atom.size for atom in others)
            batch = tuple(atom for atom in value.axes[0] if atom.what == "batch")
            first = (*batch, *(Atom("places", size, dimension) for dimension, size in enumerate(steps)))
    places = tuple(axis("places", size, dimension + len(steps)) for dimension, size in enumerate(grid))
    return Axes((first, axis("channels", shape[1]), *places), (*steps, *grid), learned=True)


def _same_rank(best: Axes, known: Sequence[Axes], shape: tuple[int, ...]) -> Axes | None:
    """Elementwise, broadcast, padded, pooled or resampled values."""
    if len(best.axes) > len(shape):
        return None
    missing = len(shape) - len(best.axes)
    value = replace(best, axes=(*[()] * missing, *best.axes))
    for position, size in enumerate(shape):
        if _size(value.axes[position]) == size:
            continue
        from_others = (
            other.axes[position - len(shape) + len(other.axes)]
            for other in known
            if other is not best and position - len(shape) + len(other.axes) >= 0
        )
        fitting = next((each for each in from_others if _size(each) == size), None)
        if fitting is not None and not value.axes[position]:
            value = with_axis(value, position, fitting)
            continue
        new, value = resized(value.axes[position], size, value)
        value = with_axis(value, position, new)
    return value


def _size(old: Axis) -> int:
    return prod(atom.size for atom in old)


def _best(known: Sequence[Axes]) -> Axes:
    """The one that says most; of equals the first."""
    return max(
        known, key=lambda a: (a.learned and a.has_places, a.has_places and a.has_channels, a.learned, len(a.axes))
    )


def _holds_places(value: Axes, position: int) -> bool:
    return any(atom.what in _PLACED for atom in value.axes[position])


def _summed(value: Axes, left: bool) -> Axis:
    return value.axes[-1] if left else value.axes[-2]


def _reduced_axes(call: fx.Node, rank: int) -> set[int]:
    """The axes that a reduction takes away; all of them where it names none."""
    at = 2 if call.target is aten.linalg_vector_norm.default else 1
    given: Any = call.args[at] if len(call.args) > at else call.kwargs.get("dim")
    if given is None:
        return set(range(rank))
    return {int(each) % rank for each in (given if isinstance(given, (list, tuple)) else [given])}


def _permuted(call: fx.Node, _: int | None, value: Axes, __: tuple[int, ...]) -> Axes:
    rank, args = len(value.axes), call.args
    order = list(range(rank))
    if call.target is aten.permute.default:
        order = [int(each) % rank for each in args[1]]  # type: ignore[union-attr, arg-type]
    else:
        first, second = (0, 1) if call.target is aten.t.default else (int(args[1]), int(args[2]))  # type: ignore[arg-type]
        order[first], order[second] = order[second], order[first]
    return replace(value, axes=tuple(value.axes[each] for each in order))


def _selected(call: fx.Node, _: int | None, value: Axes, __: tuple[int, ...]) -> Axes:
    dim = (int(call.args[1]) if len(call.args) > 1 else 0) % len(value.axes)  # type: ignore[arg-type]
    return coarser(replace(value, axes=(*value.axes[:dim], *value.axes[dim + 1 :])))


def _cut(call: fx.Node, _: int | None, value: Axes, shape: tuple[int, ...]) -> Axes:
    dim = int(call.args[1]) if len(call.args) > 1 else 0  # type: ignore[arg-type]
    dim, size = dim % len(shape), _size(value.axes[dim])
    if size == shape[dim]:
        return value
    start = int(call.args[2] or 0) if len(call.args) > 2 else 0  # type: ignore[arg-type]
    step = int(call.args[4]) if len(call.args) > 4 else 1  # type: ignore[arg-type]
    start = max(0, start + size) if start < 0 else start
    return sliced(value, dim, start, start + shape[dim] if step == 1 else size, step)


def _split(call: fx.Node, at: int | None, value: Axes, shape: tuple[int, ...]) -> Axes | None:
    sizes: Any = call.args[1]
    dim = int(call.args[2]) % len(shape) if len(call.args) > 2 else 0  # type: ignore[arg-type]
    if at is None or _size(value.axes[dim]) == shape[dim]:
        return value if at is not None else None
    start = at * int(sizes) if isinstance(sizes, int) else sum(int(size) for size in sizes[:at])
    return sliced(value, dim, start, start + shape[dim], 1)


_REARRANGED: dict[Any, Callable[[fx.Node, int | None, Axes, tuple[int, ...]], Axes | None]] = {
    aten.permute.default: _permuted, aten.transpose.int: _permuted, aten.t.default: _permuted,
    aten.select.int: _selected, aten.unbind.int: _selected, aten.slice.Tensor: _cut,
    aten.split.Tensor: _split, aten.split_with_sizes.default: _split,
}  # fmt: skip
