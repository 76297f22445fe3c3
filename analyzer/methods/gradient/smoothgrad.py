"""SmoothGrad: any gradient method averaged over noisy copies of the input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np

from analyzer.errors import UsageError
from analyzer.methods import registry
from analyzer.methods.context import Array, Context, Result
from analyzer.methods.gradient.gradients import per_input, with_norms
from analyzer.methods.parameters import COUNT, NOT_NEGATIVE
from analyzer.methods.registry import method

#: The standard deviation may be this part of the largest number: far noise is some eight of them.
_FAR = 0.1


def _of_the_family(params: Mapping[str, Any]) -> None:
    base = params["base"]
    if registry.get(base).family != "gradient" or base == "smoothgrad":
        raise UsageError("params.invalid", f"smoothgrad can't average {base!r}", "give a method of the gradient family")


def _as_the_base(params: Mapping[str, Any]) -> bool:
    base = registry.get(params["base"])
    return base.gives_derivatives({name: each.default for name, each in base.parameters.items()})


@method(
    "smoothgrad",
    "gradient",
    derivative=_as_the_base,
    check_together=_of_the_family,
    compilable=True,
    quick={"samples": 3},
    headline=("samples",),
    signed=False,
    source="Smilkov et al. 2017, SmoothGrad; square: Hooker et al. 2019; variance: Adebayo et al. 2018",
)
def smoothgrad(
    context: Context,
    *,
    base: Annotated[str, "the method that is averaged, of the gradient family"] = "gradient",
    samples: Annotated[int, "number of noisy copies, at least 1", COUNT] = 50,
    noise: Annotated[
        float, "standard deviation of the noise as a fraction of max - min of each sample", NOT_NEGATIVE
    ] = 0.05,
    reduce: Annotated[
        Literal["mean", "square", "variance"],
        "mean of squared maps, mean of maps (which alone has a sign), or variance of maps",
    ] = "square",
) -> Result:
    """Mean square, mean or variance of a gradient method's maps over noisy copies of the input.

    All samples of a batch get the same draws, each scaled to its own range: a single sample is explained as in a batch.
    The defaults were measured on photos, see docs/defaults.md; the paper's are ``noise=0.15, reduce="mean"``.
    """
    info = registry.get(base)
    xp, values = context.xp, context.engine.values()
    rngs = {name: context.generator(at) for at, name in enumerate(values)}
    wide = {k: xp.astype(v, xp.float64) for k, v in values.items()}
    sigma = {k: deviation(context, k, v, noise) for k, v in wide.items()}
    first = {k: xp.zeros(v.shape, dtype=xp.float64) for k, v in values.items()}
    second = dict(first)
    chunk = min(context.engine.chunk(), samples)
    for start in range(0, samples, chunk):
        times = min(chunk, samples - start)

        def noisy(name: str, value: Array) -> Any:
            change = sigma[name] * context.constant(normal(rngs[name], shape_of(context, name, value)))
            return xp.astype(value + change, values[name].dtype)

        varied = context.at({k: xp.concat([noisy(k, v) for _ in range(times)]) for k, v in wide.items()}, times)
        maps = info.function(varied, **info.check({}))
        for name, map_ in (maps.raws or maps.attributions).items():
            stacked = xp.astype(map_.reshape((times, *values[name].shape)), xp.float64)
            first[name] = first[name] + xp.sum(stacked, axis=0)
            second[name] = second[name] + xp.sum(stacked**2, axis=0)
        context.advance(start + times, samples)
    mean = {k: v / samples for k, v in first.items()}
    square = {k: v / samples for k, v in second.items()}
    chosen = {
        "mean": mean,
        "square": square,
        "variance": {k: xp.clip(square[k] - mean[k] ** 2, 0.0, None) for k in mean},
    }[reduce]
    # squares of small slopes are no numbers of half precision
    kept = {k: xp.result_type(values[k].dtype, xp.float32) for k in chosen}
    found = per_input(context, {k: xp.astype(v, kept[k]) for k, v in chosen.items()})
    found.signed = reduce == "mean" and info.signed
    if base == "gradient":
        return with_norms(context, found)
    found.notes += maps.notes
    return found


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Standard normal noise in single precision: a compiled explanation holds it."""
    return rng.standard_normal(shape).astype(np.float32)


def shape_of(context: Context, name: str, wide: Array) -> tuple[int, ...]:
    """The shape of noise that all samples share: that of one sample."""
    axis = context.batch_axis(name)
    return (
        tuple(int(size) for at, size in enumerate(wide.shape) if at != 0)
        if axis == 0
        else tuple(1 if at == axis else int(size) for at, size in enumerate(wide.shape))
    )


def deviation(context: Context, name: str, wide: Array, noise: float) -> Array:
    """The standard deviation of noise for every sample, broadcastable to it.

    Raises
    ------
    UsageError
        ``params.nonfinite`` where noisy values would be beyond what the input's type holds.
    """
    found = noise * extent(context, name, wide)
    dtype = context.inputs[name].dtype
    largest = np.finfo(dtype if dtype.kind == "f" else np.float32).max
    if context.numbers(found).max(initial=0) > _FAR * largest:
        raise UsageError("params.nonfinite", f"noise={noise:g} makes values beyond the input's type", "0.15 is usual")
    return found


def extent(context: Context, name: str, wide: Array) -> Array:
    """Max - min of every sample, broadcastable to it."""
    axes = tuple(axis for axis in range(wide.ndim) if axis != context.batch_axis(name))
    if not axes:
        return wide - wide
    xp = context.xp
    found: Array = xp.max(wide, axis=axes, keepdims=True) - xp.min(wide, axis=axes, keepdims=True)
    return found
