"""Expected gradients over baselines and noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from analyzer.engines.protocol import SweepResult
from analyzer.errors import UsageError
from analyzer.methods.baselines import pool, typed
from analyzer.methods.context import Array, Context, Result
from analyzer.methods.gradient.gradients import per_input
from analyzer.methods.gradient.smoothgrad import deviation, normal, shape_of
from analyzer.methods.parameters import MOST, NOT_NEGATIVE, Bounds
from analyzer.methods.registry import method

#: Every row of a file is among the baselines.
_ALL = 2**31


@method(
    "gradient-shap", "gradient", compilable=True, quick={"samples": 32}, headline=("samples",), complete=True,
    remedy="raise samples",
    source="Lundberg, Lee 2017, A unified approach to interpreting model predictions; Erion et al. 2021, expected "
    "gradients, eq. 5",
)  # fmt: skip
def gradient_shap(
    context: Context,
    *,
    samples: Annotated[int, "number of random points, at least 2", Bounds(2, MOST)] = 50,
    noise: Annotated[
        float, "standard deviation of noise on the input as a fraction of its max - min", NOT_NEGATIVE
    ] = 0.0,
    baselines: Annotated[
        Any,
        "a number, an array of baselines or samples:FILE, one of which each point draws, mean, blur, image:FILE, or id:N "
        "for tokens",
    ] = 0.0,
) -> Result:
    """Mean over random points between a baseline and the input of the gradient there times the difference."""
    xp, engine = context.xp, context.engine
    ends = engine.values()
    wide = {k: xp.astype(v, xp.float64) for k, v in ends.items()}
    pools = {k: _pool(context, baselines, k, v) for k, v in ends.items()}
    rngs = {k: np.random.default_rng(context.seed) for k in ends}
    first = {k: xp.zeros(v.shape, dtype=xp.float64) for k, v in ends.items()}
    sums: list[Array] = []
    gains: list[Array] = []
    chunk = min(engine.chunk(), samples)
    for start in range(0, samples, chunk):
        times = min(chunk, samples - start)
        lines = {k: [_line(context, k, rngs[k], v, pools[k], noise) for _ in range(times)] for k, v in wide.items()}

        def sweep(place: Callable[[Line], Array], lines: dict[str, list[Line]] = lines) -> SweepResult:
            points = {k: xp.concat([place(line) for line in of]) for k, of in lines.items()}
            return engine.gradient({k: xp.astype(v, ends[k].dtype) for k, v in points.items()})

        swept = sweep(lambda line: line.low + line.share * (line.high - line.low))
        drawn: dict[str, Array] = {}
        for name, grads in swept.relevance.items():
            stacked = xp.astype(grads.reshape((times, *ends[name].shape)), xp.float64)
            shares = stacked * xp.stack([line.high - line.low for line in lines[name]])
            first[name] = first[name] + xp.sum(shares, axis=0)
            drawn[name] = context.numbers(shares)
        high, low = (context.numbers(sweep(end).score) for end in (lambda line: line.high, lambda line: line.low))
        gains.extend((high - low).reshape(times, -1))
        sums.extend(context.sample_sums({k: v[at] for k, v in drawn.items()}) for at in range(times))
        context.advance(start + times, samples)
    values = {k: v / samples for k, v in first.items()}
    gained = np.stack(gains) if len(sums[0]) == len(gains[0]) else np.stack(gains).sum(axis=1, keepdims=True)
    error = np.std(np.stack(sums) - gained, axis=0, ddof=1) / np.sqrt(samples)
    return per_input(
        context,
        {k: xp.astype(v, ends[k].dtype) for k, v in values.items()},
        completeness=context.complete(values, gained.mean(axis=0)),
        record={"standard_error": error.tolist()},
    )


@dataclass(frozen=True)
class Line:
    """The line from a baseline to a noisy input, for every sample, and where on it the gradient is taken."""

    low: Array
    high: Array
    share: float


def _line(context: Context, name: str, rng: np.random.Generator, wide: Array, pool: Array, noise: float) -> Line:
    """A random line; every sample has the same draws, so that a single one is explained as in a batch."""
    shape = tuple(wide.shape)
    share = float(rng.uniform())
    low = context.constant(np.broadcast_to(pool[rng.integers(len(pool))], shape))
    if not noise:
        return Line(low, wide, share)
    return Line(
        low,
        wide + deviation(context, name, wide, noise) * context.constant(normal(rng, shape_of(context, name, wide))),
        share,
    )


def _pool(context: Context, baselines: Any, name: str, end: Array) -> Array:
    """Baselines of one input, stacked; ``id:N`` is the embedding of that token at every position."""
    if isinstance(baselines, str):
        rows = pool(context, baselines, name, end, _ALL, [])
        return np.stack([np.asarray(context.numbers(each), np.float64) for each in rows])
    found = pool_of(baselines, name, end)
    typed(found, context.numbers(end[:1]).dtype)
    if end.ndim <= 2:
        context.replaced[name] = np.broadcast_to(found, (len(found), *end.shape[1:]))
    return found


def pool_of(baselines: Any, name: str, end: Array) -> Array:
    """Baselines stacked along a first axis, each broadcastable to one sample.

    Raises
    ------
    UsageError
        ``params.invalid`` where they don't fit.
    """
    given = typed(baselines, np.float64)
    pool = given if given.ndim == end.ndim else given[None]
    try:
        np.broadcast_shapes(pool.shape[1:], end.shape[1:])
        fits = np.broadcast_shapes(pool.shape[1:], end.shape[1:]) == end.shape[1:] and len(pool) > 0
    except ValueError:
        fits = False
    if not fits:
        raise UsageError(
            "params.invalid",
            f"baselines of shape {list(given.shape)} don't fit samples of shape {list(end.shape[1:])} of {name!r}",
            "give a number, one baseline, or several stacked along a first axis",
        )
    return pool
