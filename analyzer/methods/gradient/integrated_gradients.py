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
    "integrated-gradients", "gradient", compilable=True, quick={"steps": 8}, headline=("steps",), complete=True,
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
    xp, engine = context.xp, context.engine
    points, weights = quadrature(rule, steps)
    ends = engine.values()
    wide = {k: xp.astype(v, xp.float64) for k, v in ends.items()}
    starts = {k: baseline_of(context, baseline, k, v) for k, v in ends.items()}
    total = {k: xp.zeros(v.shape, dtype=xp.float64) for k, v in ends.items()}
    chunk = min(engine.chunk(), steps)
    for first in range(0, steps, chunk):
        part = points[first : first + chunk]
        path = {k: xp.concat([starts[k] + float(a) * (v - starts[k]) for a in part]) for k, v in wide.items()}
        swept = engine.gradient({k: xp.astype(v, ends[k].dtype) for k, v in path.items()})
        shares = context.constant(weights[first : first + chunk])
        for name, grads in swept.relevance.items():
            stacked = xp.astype(grads.reshape((len(part), *total[name].shape)), xp.float64)
            total[name] = total[name] + xp.tensordot(shares, stacked, axes=1)
        context.advance(min(first + chunk, steps), steps)
    if multiply_by_inputs:
        total = {k: v * (wide[k] - starts[k]) for k, v in total.items()}
    values = {k: xp.astype(v, ends[k].dtype) for k, v in total.items()}
    if not multiply_by_inputs:
        return per_input(context, values)
    at_start = engine.gradient(starts).score
    return per_input(context, values, completeness=context.complete(total, context.score - context.numbers(at_start)))


def baseline_of(context: Context, baseline: Any, name: str, end: Array) -> Array:
    """A baseline as an array of the explained value's shape and type.

    Raises
    ------
    UsageError
        ``params.invalid`` where it can't be broadcast.
    """
    try:
        given = np.asarray(baseline, context.numbers(end[:1] if end.ndim else end).dtype)
        return context.constant(np.broadcast_to(given, tuple(end.shape)))
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
