"""A traced model as a function of one input that torch differentiates, so that whatever is put before and behind it can be too.

Belongs here: one call of a trace inside autograd, by the same passes that explain it. Not here: sweeps (``traced_score``),
choosing an engine (``analyzer.explain.backends``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from analyzer.engines import protocol
from analyzer.engines.precision import float32_products
from analyzer.engines.traced_score import reverse
from graph_rules import sweep

if TYPE_CHECKING:
    from analyzer.engines.torch_engine import TorchEngine


def differentiable(engine: TorchEngine, name: str, x: Tensor) -> Tensor:
    """The engine's value where one of its explained inputs has other numbers.

    Parameters
    ----------
    name
        The input; the others are as the engine has them.
    x
        As many samples as the engine has, of its device and precision.

    Raises
    ------
    UnsupportedError
        ``model.data_dependent``, ``model.no_gradient``.
    """
    engine.traced.require_other_values()
    found: Tensor = _Value.apply(x, engine, name)  # type: ignore[no-untyped-call]
    return found


class _Value(torch.autograd.Function):
    """Forward and reverse pass as one function of autograd."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, engine: TorchEngine, name: str) -> Tensor:
        """The value."""
        traced, node = engine.traced, engine.traced.nodes[name]
        plan = traced.plan(protocol.GRADIENT, tuple(traced.nodes.values()))
        with float32_products(traced.device, engine.model.tf32):
            run = sweep.forward(plan, engine.feed_tensors(), {node: x.detach()}, [node], together=True)
        ctx.run, ctx.node, ctx.engine = run, node, engine
        return run.value.detach().clone()

    @staticmethod
    def backward(ctx: Any, *arrived: Tensor) -> tuple[Tensor, None, None]:
        """The value's derivative, times what arrives; only once."""
        with float32_products(ctx.engine.traced.device, ctx.engine.model.tf32):
            swept = reverse(ctx.run, lambda _: arrived[0], [("x", ctx.node)])
        return swept.relevance["x"], None, None
