"""Categories that an input holds column by column, each looked up in a table of its own, read from one value.

Belongs here: finding what each column selects, putting it side by side. Not here: constants folded into layers
(``folding``), layers written out (``fusion``).

Where every column of an input x (batch, columns) of whole numbers selects rows of a table of its own, e_j = T_j[x[:, j]],
nothing in the graph is "the input's embedding", as it is where one table serves all tokens. This makes it so:
E = all e_j side by side, (batch, columns, width), narrower ones filled up with zeros; what read an e_j reads its part of E.
A column that selects nothing has zeros.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from operator import getitem
from typing import Any

import torch
from torch import fx

from analyzer.importer.rewriting import Refusal, Rewrite

aten = torch.ops.aten
_SPLITS = (aten.split.Tensor, aten.split_with_sizes.default, aten.unbind.int)
#: What an input may go through before its columns are taken.
_COPIES = (aten.clone.default, aten.alias.default, aten._to_copy.default)
#: The mark of a value that is the embedding of an input's columns: the input's placeholder.
MARK = "columns_of"

NO_COLUMNS = Refusal("it isn't read column by column")
NO_CATEGORIES = Refusal("none of its columns selects rows of a table")


def join_columns(module: fx.GraphModule, source: fx.Node) -> Rewrite | Refusal | None:
    """What the columns of an input of categories select -> one value from which all of it is read."""
    shape = source.meta["shape"]
    if source.meta["dtype"].is_floating_point or len(shape) != 2 or 0 in shape:
        return None
    columns = list(_columns(source))
    if not columns:
        return NO_COLUMNS
    selected: dict[int, list[fx.Node]] = {}
    for at, column in columns:
        selected.setdefault(at, []).extend(_selected(column))
    parts = [each for at in sorted(selected) for each in selected[at]]
    if not parts:
        return NO_CATEGORIES
    readers = {each: list(each.users) for each in parts}
    _bring_forward(module.graph, parts)
    with module.graph.inserting_before(_after(module.graph, parts)):
        writer = _Writer(module.graph, parts[0])
        joined = writer.joined(selected, shape)
        joined.meta[MARK] = source
        for at, found in selected.items():
            start = 0
            for each in found:
                width = _width(each)
                part = writer.part(joined, at, start, width, each.meta["shape"])
                start += width
                for reader in readers[each]:
                    reader.replace_input_with(each, part)
    return Rewrite(source, source, f"{len(columns)} columns of {source.meta['value']!r} are read from one embedding")


def _columns(source: fx.Node) -> Iterator[tuple[int, fx.Node]]:
    """(number, value) of every single column that is taken out of an input."""
    count = int(source.meta["shape"][1])
    if count == 1:
        yield 0, source
        return
    waiting = [source]
    while waiting:
        here = waiting.pop()
        for user in here.users:
            if user.target in _COPIES and not user.meta["dtype"].is_floating_point:
                waiting.append(user)
            elif user.target is aten.select.int and user.args[1] in (1, -1):
                yield _argument(user, 2, 0) % count, user
            elif user.target is aten.slice.Tensor and _argument(user, 1, 0) in (1, -1):
                start, stop = _argument(user, 2, None) or 0, _argument(user, 3, None)
                begin, end = slice(start, stop).indices(count)[:2]
                if end - begin == 1:
                    yield begin, user
            elif user.target in _SPLITS and _argument(user, 2 - (user.target is aten.unbind.int), 0) in (1, -1):
                yield from _split_columns(user)


def _split_columns(split: fx.Node) -> Iterator[tuple[int, fx.Node]]:
    """The single columns among the pieces of an input."""
    count = int(split.all_input_nodes[0].meta["shape"][1])
    if split.target is aten.unbind.int:
        sizes = [1] * count
    else:
        given = _argument(split, 1, 1)
        sizes = list(given) if isinstance(given, Sequence) else [given] * math.ceil(count / given)
    for user in split.users:
        if user.target is getitem and sizes[at := _argument(user, 1, 0)] == 1:
            yield sum(sizes[:at]), user


def _argument(node: fx.Node, at: int, default: Any) -> Any:
    return node.args[at] if len(node.args) > at else default


def _selected(column: fx.Node) -> list[fx.Node]:
    """The floating-point values that a column alone selects: several numbers for each of its own.

    A column that is merely turned into floating-point numbers selects nothing.
    """
    found: list[fx.Node] = []
    batch = int(column.meta["shape"][0])
    waiting, seen = [column], {column}
    while waiting:
        here = waiting.pop()
        for user in here.users:
            shape, dtype = user.meta.get("shape"), user.meta.get("dtype")
            others = [each for each in user.all_input_nodes if each not in seen and each.op != "get_attr"]
            if user in seen or dtype is None or others or not shape or int(shape[0]) != batch:
                continue
            number = not dtype.is_floating_point or here.meta["dtype"] is not torch.bool
            if not dtype.is_floating_point:
                seen.add(user)
                waiting.append(user)
            elif not (number and user.target is aten._to_copy.default and math.prod(shape) == batch):
                seen.add(user)
                found.append(user)
    return found


def _width(node: fx.Node) -> int:
    shape = node.meta["shape"]
    return math.prod(shape[1:])


def _bring_forward(graph: fx.Graph, parts: Sequence[fx.Node]) -> None:
    """Move everything that some nodes are computed from, and them, behind the graph's inputs, in their order."""
    needed, waiting = set(parts), list(parts)
    while waiting:
        for each in waiting.pop().all_input_nodes:
            if each not in needed:
                needed.add(each)
                waiting.append(each)
    last = list(graph.find_nodes(op="placeholder"))[-1]
    for node in list(graph.nodes):
        if node in needed and node.op != "placeholder":
            last.append(node)
            last = node


def _after(graph: fx.Graph, parts: Sequence[fx.Node]) -> fx.Node:
    """The node behind the last of some nodes."""
    left = set(parts)
    nodes = iter(graph.nodes)
    while left:
        left.discard(next(nodes))
    following: fx.Node = next(nodes)
    return following


class _Writer:
    """Nodes with the provenance of another one."""

    def __init__(self, graph: fx.Graph, like: fx.Node) -> None:
        self._graph, self._like = graph, like

    def joined(self, selected: dict[int, list[fx.Node]], shape: Sequence[int]) -> fx.Node:
        """What all columns select, (batch, columns, width)."""
        batch, count = (int(size) for size in shape)
        widest = max(sum(map(_width, found)) for found in selected.values())
        rows = []
        for at in range(count):
            found = selected.get(at) or []
            flat = [self(aten.view.default, (each, [batch, _width(each)]), (batch, _width(each))) for each in found]
            wide = sum(map(_width, found))
            row = flat[0] if len(flat) == 1 else self(aten.cat.default, (flat, 1), (batch, wide)) if flat else None
            if row is None:
                like = next(iter(selected.values()))[0]
                first = self(aten.view.default, (like, [batch, _width(like)]), (batch, _width(like)))
                row, wide = self(aten.slice.Tensor, (first, 1, 0, 0), (batch, 0)), 0
            if wide < widest:
                row = self(aten.constant_pad_nd.default, (row, [0, widest - wide], 0.0), (batch, widest))
            rows.append(self(aten.unsqueeze.default, (row, 1), (batch, 1, widest)))
        return self(aten.cat.default, (rows, 1), (batch, count, widest))

    def part(self, joined: fx.Node, at: int, start: int, width: int, shape: Sequence[int]) -> fx.Node:
        """What one lookup of a column gave, out of the joined value."""
        batch, _, widest = joined.meta["shape"]
        row = self(aten.select.int, (joined, 1, at), (batch, widest))
        if width < widest:
            row = self(aten.slice.Tensor, (row, 1, start, start + width), (batch, width))
        return row if tuple(shape) == (batch, width) else self(aten.view.default, (row, list(shape)), tuple(shape))

    def __call__(self, target: Any, args: tuple[Any, ...], shape: tuple[int, ...]) -> fx.Node:
        node = self._graph.call_function(target, args)
        node.meta.update({k: v for k, v in self._like.meta.items() if k in ("onnx", "op")}, shape=shape)
        node.meta["dtype"] = self._like.meta["dtype"]
        return node
