"""SmoothGrad: any gradient method averaged over noisy copies of the input."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np

from analyzer.errors import UsageError
from analyzer.methods import registry
from analyzer.methods.context import Context, Result
from analyzer.methods.gradient.gradients import per_input
from analyzer.methods.registry import method


@method(
    "smoothgrad",
    "gradient",
    source="Smilkov et al. 2017, SmoothGrad; square: Hooker et al. 2019; variance: Adebayo et al. 2018",
)
def smoothgrad(
    context: Context,
    *,
    base: Annotated[str, "the method that is averaged, of the gradient family"] = "gradient",
    samples: Annotated[int, "number of noisy copies, at least 1"] = 50,
    noise: Annotated[float, "standard deviation of the noise as a fraction of max - min of each sample"] = 0.15,
    reduce: Annotated[
        Literal["mean", "square", "variance"], "mean of maps, mean of squared maps, or variance of maps"
    ] = "mean",
) -> Result:
    """Mean, mean square or variance of a gradient method's maps over noisy copies of the input.

    All samples of a batch get the same draws, each scaled to its own range: a sample alone is explained as in a batch.
    """
    info = registry.get(base)
    if info.family != "gradient" or base == "smoothgrad":
        raise UsageError("params.invalid", f"smoothgrad can't average {base!r}", "give a method of the gradient family")
    if samples < 1 or noise < 0:
        raise UsageError("params.invalid", "smoothgrad needs samples >= 1 and noise >= 0", "50 and 0.15 are usual")
    rng = np.random.default_rng(context.seed)
    values = context.engine.values()
    axes = {k: tuple(range(1, v.ndim)) for k, v in values.items()}
    sigma = {k: noise * np.ptp(v.astype(np.float64), axis=axes[k], keepdims=True) for k, v in values.items()}
    first = {k: np.zeros(v.shape) for k, v in values.items()}
    second = {k: np.zeros(v.shape) for k, v in values.items()}
    chunk = context.engine.chunk()
    for start in range(0, samples, chunk):
        times = min(chunk, samples - start)
        noisy = {
            k: np.concatenate([v + sigma[k] * rng.standard_normal(v.shape[1:]) for _ in range(times)]).astype(v.dtype)
            for k, v in values.items()
        }
        varied = replace(context)
        varied.engine = context.engine.at(noisy)  # replaces the cached property of this copy alone
        varied.score = np.tile(context.score, times)
        maps = info.function(varied, **info.check({}))
        for name, map_ in (maps.raws or maps.attributions).items():
            stacked = map_.reshape(times, *values[name].shape).astype(np.float64)
            first[name] += stacked.sum(axis=0)
            second[name] += (stacked**2).sum(axis=0)
        context.advance(start + times, samples)
    mean = {k: v / samples for k, v in first.items()}
    square = {k: v / samples for k, v in second.items()}
    chosen = {
        "mean": mean,
        "square": square,
        "variance": {k: np.maximum(square[k] - mean[k] ** 2, 0.0) for k in mean},
    }[reduce]
    return per_input(context, {k: v.astype(values[k].dtype) for k, v in chosen.items()})
