"""Integrated gradients."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np

from analyzer.errors import UsageError
from analyzer.methods.context import Array, Context, Result
from analyzer.methods.gradient.gradients import per_input
from analyzer.methods.registry import method

Rule = Literal["gausslegendre", "riemann_trapezoid", "riemann_middle", "riemann_left", "riemann_right"]


@method(
    "integrated-gradients", "gradient", complete=True,
    source="Sundararajan, Taly, Yan 2017, Axiomatic attribution for deep networks, eq. 1 and 3",
)  # fmt: skip
def integrated_gradients(
    context: Context,
    *,
    steps: Annotated[int, "number of points on the path, at least 1"] = 50,
    rule: Annotated[Rule, "quadrature rule of the path integral"] = "gausslegendre",
    baseline: Annotated[Any, "start of the path: a number, or an array broadcastable to the input"] = 0.0,
    multiply_by_inputs: Annotated[bool, "multiply by input minus baseline; off gives the mean gradient"] = True,
) -> Result:
    """Gradient integrated along the straight path from a baseline to the input, times the difference."""
    if steps < 1:
        raise UsageError("params.invalid", f"steps must be at least 1, not {steps}", "50 is usual")
    points, weights = quadrature(rule, steps)
    ends = context.engine.values()
    starts = {k: start_of(baseline, k, v) for k, v in ends.items()}
    total = {k: np.zeros(v.shape, np.float64) for k, v in ends.items()}
    chunk = context.engine.chunk()
    for first in range(0, steps, chunk):
        part = points[first : first + chunk]
        values = {
            k: np.concatenate([starts[k] + a * (v - starts[k]) for a in part]).astype(v.dtype) for k, v in ends.items()
        }
        swept = context.engine.gradient(values)
        for name, grads in swept.relevance.items():
            stacked = grads.reshape(len(part), *total[name].shape)
            total[name] += np.tensordot(weights[first : first + chunk], stacked.astype(np.float64), axes=1)
        context.advance(min(first + chunk, steps), steps)
    if multiply_by_inputs:
        total = {k: v * (ends[k] - starts[k]) for k, v in total.items()}
    values = {k: v.astype(ends[k].dtype) for k, v in total.items()}
    if not multiply_by_inputs:
        return per_input(context, values)
    at_start = context.engine.gradient(starts).score
    return per_input(context, values, completeness=context.complete(total, context.score - at_start))


def start_of(baseline: Any, name: str, end: Array) -> Array:
    """A baseline as an array of the explained value's shape.

    Raises
    ------
    UsageError
        ``params.invalid`` where it can't be broadcast.
    """
    try:
        return np.broadcast_to(np.asarray(baseline, end.dtype), end.shape)
    except ValueError:
        raise UsageError(
            "params.invalid",
            f"a baseline of shape {list(np.shape(baseline))} doesn't fit input {name!r} of shape {list(end.shape)}",
            "give a number or an array broadcastable to the input",
        ) from None


def quadrature(rule: str, steps: int) -> tuple[Array, Array]:
    """Points in [0, 1] and their weights.

    The weights sum to 1, but for ``riemann_trapezoid``: as usual in attribution libraries its step is 1/n on n points
    and the ends count half, so that its weights sum to 1 - 1/n.
    """
    if rule == "gausslegendre":
        x, w = np.polynomial.legendre.leggauss(steps)
        return (x + 1) / 2, w / 2
    if rule == "riemann_trapezoid":
        points = np.linspace(0, 1, steps)
        weights = np.full(steps, 1 / max(steps, 1))
        weights[[0, -1]] /= 2 if steps > 1 else 1
        return points, weights
    offset = {"riemann_left": 0.0, "riemann_middle": 0.5, "riemann_right": 1.0}[rule]
    return (np.arange(steps) + offset) / steps, np.full(steps, 1 / steps)
