"""Sequences of tensors: split, built, indexed and joined. A sequence is a Python list.

Not here: Split and Concat, which know no sequences (``shape``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from analyzer.errors import InputError
from analyzer.importer.graph import Node
from analyzer.importer.ops.shape import divided
from analyzer.importer.recorder import integers
from analyzer.importer.table import operator


@operator("SequenceEmpty", since=11)
def sequence_empty(node: Node) -> list[Tensor]:
    return []


@operator("SequenceConstruct", since=11)
def sequence_construct(node: Node, *parts: Tensor) -> list[Tensor]:
    return list(parts)


@operator("SplitToSequence", since=11)
def split_to_sequence(node: Node, x: Tensor, sizes: Tensor | None = None) -> list[Tensor]:
    """Parts along an axis: of given sizes, of one size (the last may be smaller), or single elements."""
    axis = int(node.attr("axis", 0))
    if sizes is None:
        single = torch.split(x, 1, axis)
        return list(single) if node.attr("keepdims", 1) else [part.squeeze(axis) for part in single]
    wanted = integers(sizes)
    if not sizes.dim():
        length = x.shape[axis]
        wanted = [min(wanted[0], length - start) for start in range(0, length, wanted[0])]
    return list(divided(x, wanted, axis))


@operator("SequenceAt", since=11)
def sequence_at(node: Node, parts: Sequence[Tensor], position: Tensor) -> Tensor:
    return parts[_index(node, position, len(parts))]


@operator("SequenceLength", since=11)
def sequence_length(node: Node, parts: Sequence[Tensor]) -> Tensor:
    return torch.tensor(len(parts), dtype=torch.int64)


@operator("SequenceInsert", since=11)
def sequence_insert(node: Node, parts: Sequence[Tensor], part: Tensor, position: Tensor | None = None) -> list[Tensor]:
    index = len(parts) if position is None else _index(node, position, len(parts), beyond=1)
    return [*parts[:index], part, *parts[index:]]


@operator("SequenceErase", since=11)
def sequence_erase(node: Node, parts: Sequence[Tensor], position: Tensor | None = None) -> list[Tensor]:
    index = len(parts) - 1 if position is None else _index(node, position, len(parts))
    return [*parts[:index], *parts[index + 1 :]]


@operator("ConcatFromSequence", since=11)
def concat_from_sequence(node: Node, parts: Sequence[Tensor]) -> Tensor:
    axis = int(node.required("axis"))
    if node.attr("new_axis", 0):
        return torch.stack(list(parts), axis)
    return torch.cat(list(parts), axis) if len(parts) > 1 else parts[0]


@operator("SequenceMap", since=17, control=True)
def sequence_map(node: Node, parts: Sequence[Tensor], *others: Any, scope: Any) -> tuple[list[Any], ...]:
    """The body run on each element; further inputs are sequences walked along, or tensors given every time."""
    body = node.required("body")
    rows = []
    for index, part in enumerate(parts):
        rest = (other[index] if isinstance(other, list) else other for other in others)
        rows.append(scope.run(body, (part, *rest)))
    return tuple([row[i] for row in rows] for i in range(len(body.outputs)))


def _index(node: Node, position: Tensor, length: int, beyond: int = 0) -> int:
    """A position, counted from the end where it is negative.

    Raises
    ------
    InputError
        ``op.bad_attribute`` where there is no such element.
    """
    index = integers(position)[0]
    if not -length <= index < length + beyond:
        raise InputError(
            "op.bad_attribute", f"{node}: position {index} in a sequence of {length}", "re-export the model"
        )
    return index + length if index < 0 else index
