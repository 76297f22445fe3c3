"""Integrated gradients."""

from __future__ import annotations

import functools
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
    baseline: Annotated[
        Any, "start of the path: a number or an array broadcastable to the input; for tokens also id:N or ids"
    ] = 0.0,
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
    change = {k: v - starts[k] for k, v in wide.items()}
    total = {k: xp.zeros(v.shape, dtype=xp.float64) for k, v in ends.items()}
    if multiply_by_inputs:
        points = np.append(points, 0.0)  # the score at the start, from the same run as the path's end
    chunk = min(engine.chunk(), len(points))
    for first in range(0, len(points), chunk):
        part = points[first : first + chunk]
        swept = engine.gradient(
            {
                k: xp.concat([xp.astype(starts[k] + float(a) * v, ends[k].dtype) for a in part])
                for k, v in change.items()
            }
        )
        shares = weights[first : first + chunk]
        for name, grads in swept.relevance.items() if len(shares) else ():
            stacked = xp.astype(grads.reshape((len(part), *total[name].shape))[: len(shares)], xp.float64)
            total[name] = total[name] + xp.tensordot(context.constant(shares), stacked, axes=1)
        context.advance(min(first + chunk, steps), steps)
    if multiply_by_inputs:
        total = {k: v * change[k] for k, v in total.items()}
    values = {k: xp.astype(v, ends[k].dtype) for k, v in total.items()}
    if not multiply_by_inputs:
        return per_input(context, values)
    at_start = context.numbers(swept.score).reshape(len(part), -1)[-1]
    return per_input(context, values, completeness=context.complete(total, context.score - at_start))


def baseline_of(context: Context, baseline: Any, name: str, end: Array) -> Array:
    """A baseline as an array of the explained value's shape and type.

    Parameters
    ----------
    baseline
        A number or an array broadcastable to the value. For tokens also ``id:N`` or an array of ids (of any integer type,
        broadcastable to the tokens): looked up in the model's own embedding.

    Raises
    ------
    UsageError
        ``params.invalid`` where it can't be broadcast, or where ids are given for an input that isn't made of tokens.
    """
    ids = token_ids(context, baseline, name)
    if ids is not None:
        return context.embedding(name, ids)
    try:
        given = np.asarray(baseline, context.numbers(end[:1] if end.ndim else end).dtype)
        start = np.broadcast_to(given, tuple(end.shape))
    except ValueError:
        raise _unfit(baseline, name, end.shape) from None
    if start.ndim <= 2:
        context.replaced[name] = start
    return context.constant(start)


def token_ids(context: Context, baseline: Any, name: str) -> Array | None:
    """The ids that a baseline of tokens stands for, of the input's shape; None where it is one of values."""
    tokens = name in {entry.name for entry in context.engine.explained if entry.tokens}
    if isinstance(baseline, str):
        kind, _, number = baseline.strip().lower().partition(":")
        if kind != "id" or not number.strip().isdecimal() or not tokens:
            what = "tokens take id:N too" if tokens else "it isn't made of tokens"
            raise UsageError(
                "params.invalid", f"{baseline!r} is no baseline of input {name!r}", f"give a number or an array; {what}"
            )
        baseline = np.array(int(number))
    elif not (tokens and isinstance(baseline, np.ndarray | list | tuple) and np.asarray(baseline).dtype.kind in "iu"):
        return None
    value, given = context.inputs[name], np.asarray(baseline)
    while given.ndim > value.ndim and given.shape[-1] == 1:
        given = given[..., 0]
    try:
        return np.broadcast_to(given, value.shape).astype(value.dtype)
    except ValueError:
        raise _unfit(baseline, name, value.shape) from None


def _unfit(baseline: Any, name: str, shape: Any) -> UsageError:
    return UsageError(
        "params.invalid",
        f"a baseline of shape {list(np.shape(baseline))} doesn't fit input {name!r} of shape {list(shape)}",
        "give a number or an array broadcastable to the input",
    )


@functools.cache
def _gauss_legendre(steps: int) -> tuple[Array, Array]:
    return np.polynomial.legendre.leggauss(steps)


def quadrature(rule: str, steps: int) -> tuple[Array, Array]:
    """Points in [0, 1] and their weights.

    The weights sum to 1, but for ``riemann_trapezoid``: as usual in attribution libraries its step is 1/n on n points
    and the ends count half, so that its weights sum to 1 - 1/n.
    """
    if rule == "gausslegendre":
        x, w = _gauss_legendre(steps)
        return (x + 1) / 2, w / 2
    if rule == "riemann_trapezoid":
        points = np.linspace(0, 1, steps)
        weights = np.full(steps, 1 / max(steps, 1))
        weights[[0, -1]] /= 2 if steps > 1 else 1
        return points, weights
    offset = {"riemann_left": 0.0, "riemann_middle": 0.5, "riemann_right": 1.0}[rule]
    return (np.arange(steps) + offset) / steps, np.full(steps, 1 / steps)
