"""A recorded sweep as a list of calls whose sizes may grow with the batch.

Belongs here: finding out from recordings of two batch sizes which sizes follow the batch. Not here: recording, writing.

A recording holds plain numbers for all sizes. Two recordings of the same code at two batch sizes have the same calls;
where a number differs in proportion to the batch, it is a size of the batch. Where calls differ otherwise (a mean over
the batch, an unrolled loop), the batch must stay fixed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import getitem
from typing import Any

import torch
from torch import Tensor, fx


@dataclass(frozen=True)
class Batch:
    """A size that grows with the batch: ``times`` elements per sample."""

    times: int


Size = int | Batch


@dataclass(frozen=True)
class Value:
    """A tensor of the graph that is written: its ONNX name, sizes and element type."""

    name: str
    shape: tuple[Size, ...]
    dtype: torch.dtype

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)


@dataclass(frozen=True)
class Result:
    """What an operator's call gives, as recorded: the sizes and element types of its tensors."""

    shape: tuple[Size, ...]
    dtype: torch.dtype


class FixedBatchError(Exception):
    """The recordings differ by more than sizes; says in what."""


@dataclass(frozen=True)
class Ref:
    """A reference to an input, constant or result of a call by its name; ``part`` of several results."""

    name: str


@dataclass(frozen=True)
class Constant:
    """A constant; ``grown`` are its sizes where it is the same for all samples and must be repeated for the batch."""

    value: Tensor
    grown: tuple[Size, ...] | None = None


@dataclass(frozen=True)
class Step:
    """One call.

    Attributes
    ----------
    parts
        Names of the results that are read, by position; a single result has position None.
    origin
        ``onnx`` and ``op``: name and type of the model's node that it belongs to; empty outside sweeps.
    """

    target: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    parts: Mapping[int | None, str]
    results: Mapping[int | None, Result]
    origin: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Program:
    """What is to be written.

    Attributes
    ----------
    batch
        None where it is free, else the size that it is fixed at.
    """

    inputs: Mapping[str, tuple[str, Result]]
    constants: Mapping[str, Constant]
    steps: Sequence[Step]
    outputs: Mapping[str, Ref]
    batch: int | None = None
    reason: str = field(default="", compare=False)


def fixed(module: fx.GraphModule, outputs: Sequence[str], batch: int, reason: str = "") -> Program:
    """The program of one recording, its batch as recorded."""
    return _build(module, module, outputs, (batch, batch), batch, reason)


def free(first: fx.GraphModule, second: fx.GraphModule, outputs: Sequence[str], batches: tuple[int, int]) -> Program:
    """The program of two recordings at two batch sizes, for every batch.

    Raises
    ------
    FixedBatchError
        They differ by more than sizes that follow the batch.
    """
    return _build(first, second, outputs, batches, None, "")


def _build(
    first: fx.GraphModule,
    second: fx.GraphModule,
    outputs: Sequence[str],
    batches: tuple[int, int],
    batch: int | None,
    reason: str,
) -> Program:
    ours, theirs = list(first.graph.nodes), list(second.graph.nodes)
    if len(ours) != len(theirs):
        raise FixedBatchError("the number of operators follows the batch")
    pair = dict(zip(ours, theirs, strict=True))
    inputs: dict[str, tuple[str, Result]] = {}
    constants: dict[str, Constant] = {}
    steps: list[Step] = []
    results: dict[str, Ref] = {}

    def unified(a: Any, b: Any) -> Any:
        if isinstance(a, fx.Node):
            if pair[a] is not b:
                raise FixedBatchError("the order of operators follows the batch")
            return Ref(a.name)
        if isinstance(a, (list, tuple)):
            if len(a) != len(b):
                raise FixedBatchError("the number of arguments follows the batch")
            return tuple(unified(x, y) for x, y in zip(a, b, strict=True))
        return _size(a, b, batches)

    for a, b in pair.items():
        if a.op != b.op or (a.op == "call_function" and a.target is not b.target):
            raise FixedBatchError(f"{a.target} becomes {b.target}")
        if a.op == "placeholder":
            inputs[a.name] = a.meta["value"], _result(a, b, batches)
        elif a.op == "get_attr":
            constants[a.name] = _constant(getattr(first, str(a.target)), getattr(second, str(b.target)), batches)
        elif a.op == "output":
            results = {name: unified(x, y) for name, x, y in zip(outputs, a.args[0], b.args[0], strict=True)}
        elif a.target is not getitem:
            places = (
                {u.args[1]: (u, pair[u]) for u in a.users if u.target is getitem} if _several(a) else {None: (a, b)}
            )
            steps.append(
                Step(
                    a.target,
                    unified(a.args, b.args),
                    {k: unified(v, b.kwargs[k]) for k, v in a.kwargs.items()},
                    {place: u.name for place, (u, _) in places.items()},
                    {place: _result(u, v, batches) for place, (u, v) in places.items()},
                    {key: a.meta[key] for key in ("onnx", "op") if key in a.meta},
                )
            )
    return Program(inputs, constants, steps, results, batch, reason)


def _several(node: fx.Node) -> bool:
    return "shape" not in node.meta


def _result(a: fx.Node, b: fx.Node, batches: tuple[int, int]) -> Result:
    shapes = zip(a.meta["shape"], b.meta["shape"], strict=True)
    return Result(tuple(_size(x, y, batches) for x, y in shapes), a.meta["dtype"])


def _size(a: Any, b: Any, batches: tuple[int, int]) -> Any:
    if a == b or (isinstance(a, float) and isinstance(b, float) and a != a and b != b):
        return a
    if isinstance(a, int) and isinstance(b, int) and not isinstance(a, bool) and a % batches[0] == 0:
        times = a // batches[0]
        if times > 0 and times * batches[1] == b:
            return Batch(times)
    raise FixedBatchError(f"{a} becomes {b} as the batch grows from {batches[0]} to {batches[1]}")


def _constant(a: Tensor, b: Tensor, batches: tuple[int, int]) -> Constant:
    if a is b or (a.data_ptr() == b.data_ptr() and a.shape == b.shape and a.stride() == b.stride()):
        return Constant(a)
    if a.ndim != b.ndim:
        raise FixedBatchError("a constant's rank follows the batch")
    sizes = tuple(_size(x, y, batches) for x, y in zip(a.shape, b.shape, strict=True))
    first = tuple(slice(0, 1) if isinstance(size, Batch) else slice(None) for size in sizes)
    short = a[first]
    same = all(bool(_equal(each, short.expand(each.shape))) for each in (a, b))
    if not same:
        raise FixedBatchError("a constant follows the batch")
    return Constant(short, sizes) if short.shape != a.shape else Constant(a)


def _equal(a: Tensor, b: Tensor) -> bool:
    if a.is_floating_point():
        return bool(((a == b) | (a.isnan() & b.isnan())).all())
    return torch.equal(a, b)
