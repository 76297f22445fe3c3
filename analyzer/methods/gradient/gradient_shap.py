"""Expected gradients over baselines and noise."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np

from analyzer.errors import UsageError
from analyzer.methods.context import Array, Context, Result
from analyzer.methods.gradient.gradients import per_input
from analyzer.methods.registry import method


@method(
    "gradient-shap", "gradient", complete=True,
    source="Lundberg, Lee 2017, A unified approach to interpreting model predictions; Erion et al. 2021, expected "
    "gradients, eq. 5",
)  # fmt: skip
def gradient_shap(
    context: Context,
    *,
    samples: Annotated[int, "number of random points, at least 2"] = 50,
    noise: Annotated[float, "standard deviation of noise on the input as a fraction of its max - min"] = 0.0,
    baselines: Annotated[Any, "a number, or an array of baselines, one of which each point draws"] = 0.0,
) -> Result:
    """Mean over random points between a baseline and the input of the gradient there times the difference."""
    if samples < 2 or not noise >= 0:
        raise UsageError("params.invalid", "gradient-shap needs samples >= 2 and noise >= 0", "50 and 0 are usual")
    engine = context.engine
    ends = engine.values()
    pools = {k: pool_of(baselines, k, v) for k, v in ends.items()}
    draws = {k: [np.random.default_rng(context.seed) for _ in v] for k, v in ends.items()}
    first = {k: np.zeros(v.shape) for k, v in ends.items()}
    sums: list[Array] = []
    gains: list[Array] = []
    chunk = engine.chunk()
    for start in range(0, samples, chunk):
        times = min(chunk, samples - start)
        lines = {k: [points(draws[k], v, pools[k], noise) for _ in range(times)] for k, v in ends.items()}
        at = {k: np.concatenate([low + a * (high - low) for low, high, a in line]) for k, line in lines.items()}
        swept = engine.gradient({k: v.astype(ends[k].dtype) for k, v in at.items()})
        total = np.zeros((times, context.batch))
        for name, grads in swept.relevance.items():
            stacked = grads.reshape(times, *ends[name].shape).astype(np.float64)
            shares = stacked * np.stack([high - low for low, high, _ in lines[name]])
            first[name] += shares.sum(axis=0)
            total += shares.reshape(times, context.batch, -1).sum(axis=-1)
        high, low = (
            engine.gradient(
                {k: np.concatenate([p[i] for p in line]).astype(ends[k].dtype) for k, line in lines.items()}
            )
            for i in (1, 0)
        )
        gains.extend((high.score - low.score).reshape(times, -1))
        sums.extend(total)
        context.advance(start + times, samples)
    values = {k: v / samples for k, v in first.items()}
    error = np.std(np.stack(sums) - np.stack(gains), axis=0, ddof=1) / np.sqrt(samples)
    return per_input(
        context,
        {k: v.astype(ends[k].dtype) for k, v in values.items()},
        completeness=context.complete(values, np.mean(gains, axis=0)),
        record={"standard_error": error.tolist()},
    )


def points(draws: list[np.random.Generator], end: Array, pool: Array, noise: float) -> tuple[Array, Array, Array]:
    """For each sample a baseline, a noisy input and a place between them; every sample has draws of its own."""
    lows, highs, places = [], [], []
    for rng, x in zip(draws, end, strict=True):
        wide = x.astype(np.float64)
        places.append(rng.uniform())
        lows.append(np.broadcast_to(pool[rng.integers(len(pool))], x.shape))
        highs.append(wide + noise * np.ptp(wide) * rng.standard_normal(x.shape) if noise else wide)
    at = np.asarray(places).reshape(-1, *[1] * (end.ndim - 1))
    return np.stack(lows).astype(np.float64), np.stack(highs), at


def pool_of(baselines: Any, name: str, end: Array) -> Array:
    """Baselines stacked along a first axis, each broadcastable to one sample.

    Raises
    ------
    UsageError
        ``params.invalid`` where they don't fit.
    """
    given = np.asarray(baselines, np.float64)
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
