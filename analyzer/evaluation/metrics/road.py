"""ROAD: the score as pixels are replaced by what surrounds them, so that their shape isn't given away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np

from analyzer.errors import UnsupportedError
from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.flipping import TIES, Scored, first_of
from analyzer.evaluation.measure import Array, Curve, Measure
from analyzer.evaluation.registry import metric
from analyzer.evaluation.sets import set_size
from analyzer.evaluation.units import Units
from analyzer.inputs.inpainting import inpaint
from analyzer.methods.parameters import CELLS, NOT_NEGATIVE, Bounds

Order = Literal["combined", "morf", "lerf"]
#: The weight of diagonal neighbours beside direct ones.
_DIAGONAL = 0.5


@metric(
    "road", "faithfulness", needs="scores", higher_is_better=True, modalities=("image", "series"),
    range="[-0.5, 0.5] of probabilities, morf and lerf [0, 1]; else in units of the score",
    cost="1 evaluation and 1 sparse linear system for each share and order, + 1 evaluation",
    blind_spot="Blurring what the map marks is taken for removing it: large regions of even colour survive it.",
    source="Rong et al. 2022, A consistent and efficient evaluation strategy for attribution methods, sec. 4 and app. B",
    quick={"shares": (0.3, 0.6)},
)  # fmt: skip
def road(
    context: MetricContext,
    *,
    shares: Annotated[tuple[float, ...], "shares of the pixels that are replaced", Bounds(0, 1, open=True)] = tuple(
        tenth / 10 for tenth in range(1, 10)
    ),
    order: Annotated[
        Order, "morf: the most relevant are replaced; lerf: the least; combined: half the difference of the scores"
    ] = "combined",
    score: Scored = "probability",
    noise: Annotated[
        float, "standard deviation of noise on what is filled in, as a share of max - min", NOT_NEGATIVE
    ] = 0.01,
    size: Annotated[int, "side of a unit of a picture or length of a piece of a series, in elements", CELLS] = 1,
) -> Measure:
    """Half the difference between the mean scores when the least and when the most relevant pixels are imputed from the others.

    Imputed pixels are the weighted means of their neighbours, diagonal ones half, by a sparse linear system, and some noise.
    """
    scored = context.scored_as(score)
    name = _input(scored)
    axes = scored.evaluator.changing(name).layout.sample_axes
    orders = ("lerf", "morf") if order == "combined" else (order,)
    curves = {each: np.full((scored.batch, len(shares)), np.nan) for each in orders}
    notes: dict[str, None] = {}

    def one(sample: int) -> float | str:
        units, rng = scored.units(sample, size), scored.generator(sample)
        if units.tied:
            notes[TIES] = None
        ranked = units.order(rng)
        counts = [set_size(units.count, share) for share in shares]
        for each in orders:
            replaced = first_of(ranked if each == "morf" else ranked[::-1], np.array(counts))
            copies = imputed(scored.inputs[name][sample], units, name, replaced, axes, noise, rng)
            curves[each][sample] = scored.scores_of(sample, copies, name)
        means = [float(curves[each][sample].mean()) for each in orders]
        return (means[0] - means[1]) / 2 if order == "combined" else means[0]

    found = scored.judged(one)
    drawn = {
        each: Curve(np.array(shares), y, "share of pixels replaced", scored.score_kind) for each, y in curves.items()
    }
    told = [*scored.score_notes, *notes]
    return Measure.of(found, curves=drawn, notes=told, record={"score": scored.score_kind}, turned=order == "morf")


def imputed(
    x: Array, units: Units, name: str, replaced: Array, axes: tuple[int, ...], noise: float, rng: np.random.Generator
) -> Iterator[Array]:
    """Copies of a sample with units (n, units) filled in from what surrounds them.

    Parameters
    ----------
    axes
        The axes of ``x`` along which neighbours lie.
    noise
        As a share of the sample's max - min.
    """
    values = x.astype(np.result_type(x.dtype, np.float32), copy=False)
    spread = noise * float(values.max() - values.min())
    for each in replaced:
        hole = np.broadcast_to(each[units.segmentation.ids[name]], x.shape)
        filled = inpaint(values, hole, axes, diagonal=_DIAGONAL)
        filled = np.where(hole, filled + spread * rng.standard_normal(x.shape), filled)
        yield (np.rint(filled) if x.dtype.kind in "iu" else filled).astype(x.dtype)


def _input(context: MetricContext) -> str:
    """The one input, whose elements have neighbours."""
    names = list(context.maps)
    value = context.inputs[names[0]]
    if len(names) > 1:
        hint = f"explain with inputs={names[:1]!r}"
        raise UnsupportedError("metric.inputs", f"road is for one input, and {len(names)} were explained", hint)
    if value.ndim < 3 or value.dtype.kind == "O":
        message = (
            f"road fills elements in from their neighbours, and input {names[0]!r} has none: it is no picture or series"
        )
        raise UnsupportedError("metric.modality", message, "use pixel-flipping")
    return names[0]
