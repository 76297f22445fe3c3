"""Vector-Jacobian products of operators, by autograd: recorded in the forward pass, taken in the reverse sweep.

Belongs here: entering autograd's graph and leaving it. Not here: which nodes are recorded (``sweep``, ``gradient_sweep``).

Autograd keeps what an operator's derivative needs. Leaf tensors would also keep every input; where a rule needs nothing but
the derivative, values enter through :class:`_Start`, and only edges of autograd's graph are held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge


@dataclass(frozen=True)
class Edge:
    """Where a value stands in autograd's graph, without the value."""

    edge: GradientEdge
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, value: Any) -> Any:
        """The edge of a value, a list for several; None for anything that has no derivative."""
        if isinstance(value, (tuple, list)):
            return [cls.of(each) for each in value]
        if not isinstance(value, Tensor) or not value.requires_grad:
            return None
        return cls(get_gradient_edge(value), value.shape, value.dtype, value.device)


class _Start(torch.autograd.Function):
    """Enters a value into autograd's graph. What arrives here is read by its edge; ``backward`` never runs."""

    @staticmethod
    def forward(*given: Any) -> Tensor:
        value: Tensor = given[-1]
        return value.detach()

    @staticmethod
    def backward(*_: Any) -> Any:
        raise AssertionError("autograd's graph ends where its values enter")


def leaf(value: Tensor) -> Tensor:
    """The value as the start of a graph that holds it."""
    return value.detach().requires_grad_(True)


def start(value: Tensor) -> Tensor:
    """The value as the start of a graph that doesn't hold it; grad mode must be on."""
    started: Tensor = _Start.apply(torch.zeros((), requires_grad=True), value)  # type: ignore[no-untyped-call]
    return started


def vjp(outputs: Any, inputs: Sequence[Any], relevance: Any, retain_graph: bool) -> list[Tensor]:
    """J^T R for every input; zeros where the outputs don't depend on one.

    Parameters
    ----------
    outputs, inputs
        Tensors in autograd's graph, or their edges. Several outputs are a sequence.
    relevance
        Of the outputs; None where none arrived.
    retain_graph
        Whether another product will be taken.
    """
    if isinstance(outputs, (Tensor, Edge)) or outputs is None:
        outputs, relevance = [outputs], [relevance]
    chosen = [(o, r) for o, r in zip(outputs, relevance, strict=False) if r is not None and _differentiable(o)]
    if not chosen:
        return [_zeros(x) for x in inputs]
    grads = torch.autograd.grad(
        [_end(o) for o, _ in chosen],
        [_end(x) for x in inputs],
        [r.to(o.dtype) for o, r in chosen],
        allow_unused=True,
        retain_graph=retain_graph,
    )
    return [_zeros(x) if g is None else g for x, g in zip(inputs, grads, strict=True)]


def _differentiable(output: Any) -> bool:
    return isinstance(output, Edge) or (isinstance(output, Tensor) and output.requires_grad)


def _end(value: Any) -> Any:
    return value.edge if isinstance(value, Edge) else value


def _zeros(value: Any) -> Tensor:
    return torch.zeros(value.shape, dtype=value.dtype, device=value.device)
