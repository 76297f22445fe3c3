"""Judging one explanation by one metric.

Belongs here: checking what is given, cutting it into parts that the model takes, putting the parts together. Not here: metrics,
what they may ask (``context``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from analyzer.errors import UnsupportedError, UsageError
from analyzer.evaluation import registry
from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.measure import Array, Curve, Evaluation, Measure
from analyzer.evaluation.other_models import OtherModels
from analyzer.explanation import Explanation
from analyzer.model import Model


def evaluate(
    model: Model,
    x: Array | Mapping[str, Array],
    explanation: Explanation,
    metric: str = "pixel-flipping",
    *,
    mask: Array | Mapping[str, Array] | None = None,
    seed: int = 0,
    start: int = 0,
    progress: Callable[[int, int], None] | None = None,
    others: OtherModels | None = None,
    **params: Any,
) -> Evaluation:
    """Judge an explanation by a metric.

    Parameters
    ----------
    x
        What was explained: array for the first input, or input name -> array, batch first.
    explanation
        What :meth:`analyzer.Model.explain` gave for ``x``.
    metric
        A name of :func:`analyzer.metrics`.
    mask
        Where the truth lies, for metrics that need it: nonzero inside; (samples, ...) or one for all samples, of the places of
        the input or broadcastable to it. A mapping gives one for each input.
    seed
        Of every random choice.
    start
        Number of the first sample among all that are judged, so that each has random numbers of its own however they are parted.
    progress
        Called with (done, total) samples, or rounds, by metrics that take long.
    others
        Keeps the models that metrics make of this one from one call to the next, for inputs that are judged batch by batch;
        whoever gives it lets go of them.
    params
        The metric's parameters.

    Returns
    -------
    Evaluation
        A value for each sample; NaN, with the reason, where the metric has no answer.

    Raises
    ------
    UsageError
        ``metric.unknown``, ``metric.mask``, ``metric.other_input``, ``params.*``, ``fill.*``.
    UnsupportedError
        ``metric.coupled`` for inputs whose rows are no samples, ``metric.inner`` for relevance at an inner value,
        ``metric.modality`` and ``metric.inputs`` for inputs that the metric isn't for.
    """
    info = registry.get(metric)
    checked = info.check(params)
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise UsageError("seed.invalid", f"seed={seed!r} is no whole number from 0 on", "give seed=0")
    feed = same_input(model, x, explanation)
    _require_samples(model, feed, explanation, info)
    masks = _masks(model, mask, explanation, info)
    with OtherModels() if others is None else contextlib.nullcontext(others) as kept:
        context = MetricContext(model, explanation, feed, masks, int(seed), progress, start, others=kept)
        parts = [context.part(rows) for rows in _parts(model, feed, context.batch)]
        found = [_checked(info.function(part, **checked), part) for part in parts]
    whole = _joined(found, [part.batch for part in parts])
    higher = None if info.higher_is_better is None else info.higher_is_better != whole.turned
    return Evaluation(
        info.name, checked, whole.values, whole.reasons, higher, explanation.method, explanation.target,
        sum(part.counts.evaluations for part in parts), sum(part.counts.explanations for part in parts), int(seed), whole.curves,
        tuple(dict.fromkeys(whole.notes)), whole.record,
    )  # fmt: skip


def same_input(model: Model, x: Array | Mapping[str, Array], explanation: Explanation) -> dict[str, Array]:
    """The inputs, held against those that were explained.

    Raises
    ------
    UsageError
        ``metric.other_input``.
    """
    feed = model.feed(x)
    for name, value in feed.items():
        known = explanation.inputs.get(name)
        same = (
            known is not None and value.shape == known.shape and np.array_equal(value, known, value.dtype.kind == "f")
        )
        if not same:
            raise UsageError("metric.other_input", f"input {name!r} is not what was explained", "give the same input")
    return feed


def _require_samples(model: Model, feed: dict[str, Array], explanation: Explanation, info: registry.MetricInfo) -> None:
    """Refuse maps that aren't of the inputs, or whose first axis doesn't count samples."""
    if explanation.options.get("at") is not None and info.needs != "map":
        raise UnsupportedError(
            "metric.inner",
            f"{info.name} changes inputs, and this relevance is at an inner value",
            "explain without at=",
        )
    batch = len(explanation.target)
    axes = model.batch_axes(feed, batch)
    wrong = [n for n, value in explanation.attributions.items() if axes.get(n, 0) != 0 or len(value) != batch]
    if wrong:
        raise UnsupportedError(
            "metric.coupled",
            f"the first axis of the map of {wrong[0]!r} doesn't count samples, which metrics take one by one",
            "judge explanations of inputs whose first axis counts samples",
        )


def _parts(model: Model, feed: dict[str, Array], batch: int) -> list[slice]:
    """The samples that are judged at once: all of them, unless the model's batch is fixed or rows depend on each other."""
    size = model.part_size(feed)
    if size is None and batch > 1 and model.fixed_batch is None:
        kind = model.coupling(feed, batch).kind
        size = 1 if kind == "some" else None
    return [slice(0, batch)] if size is None else [slice(at, at + size) for at in range(0, batch, size)]


def _masks(
    model: Model, mask: Array | Mapping[str, Array] | None, explanation: Explanation, info: registry.MetricInfo
) -> dict[str, Array]:
    """Input name -> the truth, bool (samples, ...) of the map's rank."""
    if mask is None:
        if info.needs == "mask":
            raise UsageError("metric.mask", f"{info.name} needs to know where the truth lies", "give a mask")
        return {}
    given = dict(mask) if isinstance(mask, Mapping) else {next(iter(explanation.attributions)): mask}
    found = {}
    for name, value in given.items():
        if name not in explanation.attributions:
            raise UsageError("metric.mask", f"a mask for {name!r}, which has no map", "name an explained input")
        shape = explanation.attributions[name].shape
        found[name] = _fitted(np.asarray(value) != 0, name, shape, model.axes(name, shape).places)
    return found


def _fitted(mask: Array, name: str, shape: tuple[int, ...], places: tuple[int, ...]) -> Array:
    """A mask of a map's rank, for every sample; ``places`` are the axes of the map that aren't batch or channels."""
    samples, rank = shape[0], len(shape)
    wide = mask
    if mask.ndim == len(places):
        wide = mask.reshape([mask.shape[places.index(axis)] if axis in places else 1 for axis in range(rank)])
    elif mask.ndim == len(places) + 1 and mask.ndim < rank:
        wide = mask.reshape(
            [len(mask), *(mask.shape[1 + places.index(a)] if a in places else 1 for a in range(1, rank))]
        )
    fits = wide.ndim == rank and all(
        own in (1, of) or (at not in (0, *places) and of == 1)
        for at, (own, of) in enumerate(zip(wide.shape, shape, strict=True))
    )
    if not fits:
        raise UsageError(
            "metric.mask",
            f"a mask of shape {list(mask.shape)} doesn't fit the map of {name!r}, {list(shape)}",
            "give (samples, places…), of the input's size",
        )
    return np.broadcast_to(wide, (samples, *wide.shape[1:]))


def _checked(found: Measure, part: MetricContext) -> Measure:
    """A measure with a reason for every NaN; values beyond the finite count as none."""
    found.values = np.asarray(found.values, np.float64)
    if found.values.shape != (part.batch,):
        raise ValueError(f"a metric gave {found.values.shape} values for {part.batch} samples")
    lost = ~np.isfinite(found.values)
    found.values = np.where(lost, np.nan, found.values)
    for at in np.flatnonzero(lost):
        found.reasons.setdefault(int(at), "it isn't finite")
    return found


def _joined(parts: Sequence[Measure], counts: Sequence[int]) -> Measure:
    """The measures of parts of a batch as one."""
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0, *counts[:-1]])
    reasons = {
        int(start) + at: why for part, start in zip(parts, starts, strict=True) for at, why in part.reasons.items()
    }
    curves = {name: Curve.joined([part.curves[name] for part in parts]) for name in parts[0].curves}
    record = {
        key: [entry for part in parts for entry in part.record[key]] if isinstance(value, list) else value
        for key, value in parts[0].record.items()
    }
    values = np.concatenate([part.values for part in parts])
    notes = [note for part in parts for note in part.notes]
    return Measure(values, reasons, curves, notes, record, parts[0].turned)
