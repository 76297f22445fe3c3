"""The derivative of one operator, kept by autograd from the forward pass until the reverse sweep asks for it.

Belongs here: starting a local tape and taking its vector-Jacobian product. Not here: which nodes have one (``sweep``).

A tape holds what the operator's derivative needs and nothing else. Leaves would hold every value that goes in; where a rule
needs the derivative alone, the values enter through :class:`_Start`, and only the places (edges) in autograd's graph stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge


@dataclass(frozen=True)
class Place:
    """Where a value enters or leaves a tape, without the value."""

    edge: GradientEdge
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, value: Any) -> Any:
        """The place of a value on a tape, the places of several; None of anything that has no derivative."""
        if isinstance(value, (tuple, list)):
            return [cls.of(each) for each in value]
        if not isinstance(value, Tensor) or not value.requires_grad:
            return None
        return cls(get_gradient_edge(value), value.shape, value.dtype, value.device)


class _Start(torch.autograd.Function):
    """Puts a value on a tape. The tape ends here: what arrives is read off, ``backward`` never runs."""

    @staticmethod
    def forward(*given: Any) -> Tensor:
        value: Tensor = given[-1]
        return value.detach()

    @staticmethod
    def backward(*_: Any) -> Any:
        raise AssertionError("a tape ends where its values enter")


def leaf(value: Tensor) -> Tensor:
    """The value at the start of a tape that holds it."""
    return value.detach().requires_grad_(True)


def start(value: Tensor) -> Tensor:
    """The value at the start of a tape that doesn't hold it; grad mode must be on."""
    started: Tensor = _Start.apply(torch.zeros((), requires_grad=True), value)  # type: ignore[no-untyped-call]
    return started


def vjp(outputs: Any, inputs: Sequence[Any], relevance: Any, again: bool) -> list[Tensor]:
    """J^T R for every input; zeros where the outputs don't depend on one.

    Parameters
    ----------
    outputs, inputs
        Tensors on the tape, or their places. Several outputs are a sequence.
    relevance
        Of the outputs; None where none arrived.
    again
        Whether the tape will be asked once more.
    """
    if isinstance(outputs, (Tensor, Place)) or outputs is None:
        outputs, relevance = [outputs], [relevance]
    chosen = [(o, r) for o, r in zip(outputs, relevance, strict=False) if r is not None and _differentiable(o)]
    if not chosen:
        return [_zeros(x) for x in inputs]
    grads = torch.autograd.grad(
        [_end(o) for o, _ in chosen],
        [_end(x) for x in inputs],
        [r.to(o.dtype) for o, r in chosen],
        allow_unused=True,
        retain_graph=again,
    )
    return [_zeros(x) if g is None else g for x, g in zip(inputs, grads, strict=True)]


def _differentiable(output: Any) -> bool:
    return isinstance(output, Place) or (isinstance(output, Tensor) and output.requires_grad)


def _end(value: Any) -> Any:
    return value.edge if isinstance(value, Place) else value


def _zeros(value: Any) -> Tensor:
    return torch.zeros(value.shape, dtype=value.dtype, device=value.device)
