"""Bubbles: where the score follows what random Gaussian windows show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np

from analyzer.errors import UsageError
from analyzer.explanation import Result
from analyzer.methods.parameters import COUNT, MOST, POSITIVE, SHARE, Bounds
from analyzer.methods.registry import method
from analyzer.perturbation.budget import BUDGET_HELP, STANDARD_ERROR_HELP
from analyzer.perturbation.evaluator import Array, Evaluator
from analyzer.perturbation.fill_parameter import BACKGROUND_HELP, BLENDED_FILL_HELP, Fill
from analyzer.perturbation.moments import Moments
from analyzer.perturbation.random_masks import Draw, MonteCarlo, require_blendable

#: Products in one multiplication of matrices: few enough for numpy not to wake threads, which the model needs.
_PRODUCTS = 250_000


def _blended(evaluator: Evaluator) -> list[str]:
    """The changed inputs whose values can be blended.

    Raises
    ------
    UsageError
        ``method.unsuitable``.
    """
    require_blendable(evaluator)
    names = [name for name in evaluator.changed if evaluator.inputs[name].dtype.kind == "f"]
    if not names or (evaluator.chosen is not None and len(names) < len(evaluator.chosen)):
        raise UsageError(
            "method.unsuitable", "bubbles blend values, which tokens can't be", "use rise, lime or kernel-shap"
        )
    return names


@method(
    "bubbles", "perturbation", quick={"samples": 20}, headline=("samples",), needs="runtime", modalities=("image", "series"),
    fits=lambda static: static.evaluator.changing(*_blended(static.evaluator)).require_axes(),
    source="Gosselin, Schyns 2001, Bubbles: a technique to reveal the use of information in recognition tasks",
)  # fmt: skip
def bubbles(
    evaluator: Evaluator,
    *,
    samples: Annotated[
        int, "number of masks, each a model evaluation (or one per background sample), at least 3", Bounds(3, MOST)
    ] = 1000,
    count: Annotated[
        int, "bubbles in a mask, at least 1; no more than half of the elements, or they would hide nothing", COUNT
    ] = 10,
    sigma: Annotated[
        float | None, "a bubble's standard deviation in elements; None: a sixteenth of each axis", POSITIVE
    ] = None,
    fill: Annotated[Fill, f"what shows between the bubbles: {BLENDED_FILL_HELP}"] = 0.0,
    background: Annotated[int, BACKGROUND_HELP, COUNT] = 100,
    budget: Annotated[int | None, BUDGET_HELP, COUNT] = None,
    standard_error: Annotated[float | None, STANDARD_ERROR_HELP, SHARE] = None,
) -> Result:
    """Correlation of the score with what each mask of Gaussian bubbles shows of an element.

    Notes
    -----
    The diagnostic image: the average of the masks weighted by the score's deviation from its mean, divided by both
    standard deviations, so that elements at the border, which bubbles show less often, count as the others.
    """
    names = _blended(evaluator)

    def draw(name: str) -> Draw:
        sides = evaluator.changing(name).layout.sides
        few = min(count, max(1, math.prod(sides) // 2))
        return gaussian_windows(sides, few, [max(side / 16, 0.5) if sigma is None else sigma for side in sides])

    changing = evaluator.changing(*names)
    result: Result = MonteCarlo.of(
        changing, fill, samples, (budget, standard_error), draw, Moments.correlation, background=background, least=3
    ).result()
    evaluator.masks = changing.masks
    return result


def gaussian_windows(sides: Sequence[int], count: int, widths: Sequence[float]) -> Draw:
    """Masks of ``count`` Gaussian windows of height 1 at random centres, added up and cut off at 1."""

    def draw(rng: np.random.Generator, n: int) -> Array:
        centres = rng.random((n, len(sides), count))
        sums = np.ones((n, count, 1), np.float32)
        for axis, (side, width) in enumerate(zip(sides, widths, strict=True)):
            distance = np.arange(side) - (centres[:, axis, :, None] * side - 0.5)
            bell = np.exp(-0.5 * (distance / width) ** 2).astype(np.float32)
            if axis < len(sides) - 1:
                sums = (sums[..., None] * bell[:, :, None]).reshape(n, count, -1)
        rows, masks = sums.transpose(0, 2, 1), np.empty((n, sums.shape[2], sides[-1]), np.float32)
        step = max(1, _PRODUCTS // (count * sides[-1]))
        for start in range(0, rows.shape[1], step):
            np.matmul(rows[:, start : start + step], bell, out=masks[:, start : start + step])
        return np.minimum(masks, 1, out=masks).reshape(n, *sides)

    return draw
