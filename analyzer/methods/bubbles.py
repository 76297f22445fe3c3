"""Bubbles: where the score follows what random Gaussian windows show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np

from analyzer.errors import UsageError
from analyzer.methods.context import Array, Context, Result
from analyzer.methods.maps import spatial_axes
from analyzer.methods.occlusion import Fill, spread
from analyzer.methods.registry import method
from analyzer.methods.sampling import Draw, means, probe


@method(
    "bubbles", "perturbation", needs="runtime", modalities=("image", "series"),
    source="Gosselin, Schyns 2001, Bubbles: a technique to reveal the use of information in recognition tasks",
)  # fmt: skip
def bubbles(
    context: Context,
    *,
    samples: Annotated[int, "number of masks, which is the model evaluations per sample, at least 3"] = 1000,
    count: Annotated[int, "bubbles in a mask, at least 1"] = 10,
    sigma: Annotated[float | None, "a bubble's standard deviation in elements; None: a sixteenth of each axis"] = None,
    fill: Annotated[Fill, "what shows between the bubbles: a number, mean, blur or noise"] = 0.0,
) -> Result:
    """Correlation of the score with what each mask of Gaussian bubbles shows of an element.

    Notes
    -----
    The diagnostic image: the average of the masks weighted by the score's deviation from its mean, divided by both
    standard deviations, so that elements at the border, which bubbles show less often, count as the others.
    """
    if samples < 3 or count < 1 or (sigma is not None and not 0 < sigma < np.inf):
        raise UsageError("params.invalid", "bubbles needs samples >= 3, count >= 1, sigma > 0", "see the defaults")
    value = context.inputs[context.perturbed]
    if value.dtype.kind in "iu":
        raise UsageError(
            "method.unsuitable", "bubbles blend values, which tokens can't be", "use rise, lime or kernel-shap"
        )
    axes = spatial_axes(value.shape, context.model)
    sides = [value.shape[axis] for axis in axes]
    widths = [max(side / 16, 0.5) if sigma is None else sigma for side in sides]
    found = [moments.correlation() for moments in probe(context, fill, samples, shown(sides, count, widths))]
    record = {"evaluations": samples * len(value), "standard_error": means([error for _, error in found])}
    stacked = np.stack([correlation for correlation, _ in found])
    maps = {context.perturbed: spread(stacked, value, axes, context)}
    return Result(maps, notes=context.unchanged, record=record)


def shown(sides: Sequence[int], count: int, widths: Sequence[float]) -> Draw:
    """Masks of ``count`` Gaussian windows of height 1 at random places, added up and cut off at 1."""

    def draw(rng: np.random.Generator, n: int) -> Array:
        places = rng.random((n, len(sides), count))
        sums = np.ones((n, count, 1))
        for axis, (side, width) in enumerate(zip(sides, widths, strict=True)):
            away = np.arange(side) - (places[:, axis, :, None] * side - 0.5)
            bell = np.exp(-0.5 * (away / width) ** 2)
            if axis == len(sides) - 1:
                return np.minimum(sums.transpose(0, 2, 1) @ bell, 1).reshape(n, *sides).astype(np.float32)
            sums = (sums[..., None] * bell[:, :, None]).reshape(n, count, -1)
        raise AssertionError("an input has at least one place axis")

    return draw
