"""Recordings as programs: one recording as it is, or two at different batch sizes as one whose batch is free.

Belongs here: finding out which sizes follow the batch. Not here: the program itself (``ir``), recording, writing.

A recording holds plain numbers for all sizes. Two recordings of the same code at two batch sizes have the same calls;
a number that differs in proportion to the batch size is a multiple of it. Where calls differ otherwise (a mean over the
batch, an unrolled loop), the batch must stay fixed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import getitem
from typing import Any

import torch
from torch import Tensor, fx

from analyzer.compiler.ir import Batch, Constant, Program, Ref, Result, Step


class FixedBatchError(Exception):
    """The recordings differ by more than sizes that follow the batch; the message says how."""


def fixed(module: fx.GraphModule, outputs: Sequence[str], batch: int, reason: str = "") -> Program:
    """The program of one recording, its batch as recorded."""
    return _program(module, module, outputs, (batch, batch), batch, reason)


def free(first: fx.GraphModule, second: fx.GraphModule, outputs: Sequence[str], batches: tuple[int, int]) -> Program:
    """The program of two recordings at two batch sizes, for every batch.

    Raises
    ------
    FixedBatchError
        They differ by more than sizes that follow the batch.
    """
    return _program(first, second, outputs, batches, None, "")


def _program(
    first: fx.GraphModule,
    second: fx.GraphModule,
    outputs: Sequence[str],
    batches: tuple[int, int],
    batch: int | None,
    reason: str,
) -> Program:
    pairs = _Pairs.of(first, second, batches)
    inputs: dict[str, tuple[str, Result]] = {}
    constants: dict[str, Constant] = {}
    steps: list[Step] = []
    results: dict[str, Ref] = {}
    for a, b in pairs.partners.items():
        if a.op != b.op or (a.op == "call_function" and a.target is not b.target):
            raise FixedBatchError(f"{a.target} becomes {b.target}")
        if a.op == "placeholder":
            inputs[a.name] = a.meta["value"], pairs.result(a)
        elif a.op == "get_attr":
            constants[a.name] = _constant(getattr(first, str(a.target)), getattr(second, str(b.target)), batches)
        elif a.op == "output":
            results = dict(zip(outputs, pairs.argument(a.args[0], b.args[0]), strict=True))
        elif a.target is not getitem:
            steps.append(pairs.step(a))
    return Program(inputs, constants, steps, results, batch, reason)


@dataclass(frozen=True)
class _Pairs:
    """Two recordings node by node: ``partners`` maps the first's nodes to the second's, in order of execution."""

    partners: Mapping[fx.Node, fx.Node]
    batches: tuple[int, int]

    @classmethod
    def of(cls, first: fx.GraphModule, second: fx.GraphModule, batches: tuple[int, int]) -> _Pairs:
        ours, theirs = list(first.graph.nodes), list(second.graph.nodes)
        if len(ours) != len(theirs):
            raise FixedBatchError("the number of operators follows the batch")
        return cls(dict(zip(ours, theirs, strict=True)), batches)

    def step(self, a: fx.Node) -> Step:
        """A call with those of its results that are used."""
        b = self.partners[a]
        several = "shape" not in a.meta
        parts: dict[Any, fx.Node] = (
            {user.args[1]: user for user in a.users if user.target is getitem} if several else {None: a}
        )
        return Step(
            a.target,
            self.argument(a.args, b.args),
            {key: self.argument(value, b.kwargs[key]) for key, value in a.kwargs.items()},
            {index: node.name for index, node in parts.items()},
            {index: self.result(node) for index, node in parts.items()},
            {key: a.meta[key] for key in ("onnx", "op") if key in a.meta},
        )

    def argument(self, a: Any, b: Any) -> Any:
        """An argument of both recordings as one: nodes as references, numbers that follow the batch as such."""
        if isinstance(a, fx.Node):
            if self.partners[a] is not b:
                raise FixedBatchError("the order of operators follows the batch")
            return Ref(a.name)
        if isinstance(a, (list, tuple)):
            if len(a) != len(b):
                raise FixedBatchError("the number of arguments follows the batch")
            return tuple(self.argument(x, y) for x, y in zip(a, b, strict=True))
        return _size(a, b, self.batches)

    def result(self, a: fx.Node) -> Result:
        """The shape and element type of a node's value."""
        shapes = zip(a.meta["shape"], self.partners[a].meta["shape"], strict=True)
        return Result(tuple(_size(x, y, self.batches) for x, y in shapes), a.meta["dtype"])


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
    one = a[first]
    same = all(bool(_equal(each, one.expand(each.shape))) for each in (a, b))
    if not same:
        raise FixedBatchError("a constant follows the batch")
    return Constant(one, sizes) if one.shape != a.shape else Constant(a)


def _equal(a: Tensor, b: Tensor) -> bool:
    if a.is_floating_point():
        return bool(((a == b) | (a.isnan() & b.isnan())).all())
    return torch.equal(a, b)
