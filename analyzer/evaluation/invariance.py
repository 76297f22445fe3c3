"""Implementation invariance: two models that compute the same should be explained the same.

Belongs here: making sure that two models do compute the same, and how far their maps are apart. Not here: models that differ on
purpose (comparing versions), metrics of one model (``metrics``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from analyzer.errors import UnsupportedError, UsageError
from analyzer.evaluation.context import MetricContext, together
from analyzer.evaluation.measure import Array, Evaluation, Measure
from analyzer.evaluation.neighbours import noisy
from analyzer.evaluation.similarity import spearman
from analyzer.importer.parity import relative_error
from analyzer.model import Model

#: Neighbours on which the models must agree too: a function is told by its slopes.
_NEIGHBOURS, _RADIUS = 4, 0.01


def implementation_invariance(
    model_a: Model,
    model_b: Model,
    x: Array | Mapping[str, Array],
    method: str = "gradient",
    *,
    tolerance: float | None = None,
    seed: int = 0,
    **options: Any,
) -> Evaluation:
    """How far apart the explanations of two models are that compute the same.

    Parameters
    ----------
    x
        Array for the first input, or input name of ``model_a`` -> array, batch first. The models' inputs correspond by their
        order.
    method, options
        What :meth:`analyzer.Model.explain` takes, the method's parameters and the target included. Names of nodes must mean
        something in both models.
    tolerance
        By how much outputs may differ, as a share of the largest; None for what the importer allows for the models' precision.
    seed
        Of the neighbours on which the models must agree as well.

    Returns
    -------
    Evaluation
        ``implementation-invariance``: for each sample ‖A − B‖₂ / ‖A‖₂, 0 where the maps are the same; the record has their rank
        correlation.

    Raises
    ------
    UsageError
        ``invariance.inputs`` where the models don't take the same, ``invariance.different`` where they don't compute the same.
    """
    feed = model_a.feed(x)
    other = _renamed(model_a, model_b, feed)
    explanation = model_a.explain(feed, method, **options)
    context = MetricContext(model_a, explanation, feed, {}, seed)
    allowed = max(model_a.tolerance, model_b.tolerance) if tolerance is None else tolerance
    checked = [feed, *_around(context)]
    for each in checked:
        _require_same(model_a, model_b, each, allowed)
    names = dict(zip(feed, other, strict=True))
    chosen = {**explanation.options, "inputs": [names[name] for name in context.maps]}
    targets = [context.target_of(sample) for sample in range(context.batch)]
    found = model_b.explain(other, method, **{**chosen, "target": together(targets)})
    maps = {name: found.attributions[names[name]] for name in context.maps}
    likeness: list[float | None] = [None] * context.batch

    def apart(sample: int) -> float | str:
        own, new = context.flat(sample), context.flat(sample, maps)
        like = spearman(own, new)
        likeness[sample] = None if isinstance(like, str) else like
        return relative_distance(own, new)

    measure = Measure.of(context.judged(apart))
    evaluations = 2 * context.batch * len(checked) + context.counts.evaluations
    return Evaluation(
        "implementation-invariance", {"tolerance": allowed}, measure.values, measure.reasons, False, method,
        explanation.target, evaluations, 2 * context.batch, seed,
        record={"spearman": likeness, "options": {k: v for k, v in options.items() if v is not None}},
    )  # fmt: skip


def relative_distance(own: Array, other: Array) -> float | str:
    """‖own - other‖₂ / ‖own‖₂ of two maps as vectors; 0 where both are zero."""
    size, apart = float(np.linalg.norm(own)), float(np.linalg.norm(own - other))
    if size == 0:
        return "the map is zero everywhere" if apart else 0.0
    return apart / size


def _renamed(model_a: Model, model_b: Model, feed: Mapping[str, Array]) -> dict[str, Array]:
    """The first model's inputs as the second's, which correspond by their order."""
    names = list(model_b.inputs)
    if len(names) != len(model_a.inputs) or len(feed) != len(names):
        raise UsageError(
            "invariance.inputs",
            f"the models don't take the same inputs: {', '.join(model_a.inputs)} and {', '.join(names)}",
            "give two models of the same inputs in the same order",
        )
    return model_b.feed({new: feed[old] for old, new in zip(model_a.inputs, names, strict=True)})


def _around(context: MetricContext) -> Iterator[dict[str, Array]]:
    """The inputs with a little noise, a few times; not at all where they are words or categories."""
    try:
        copies = [noisy(context, sample, _NEIGHBOURS, _RADIUS, "range", "uniform") for sample in range(context.batch)]
    except UnsupportedError:
        return
    for at in range(_NEIGHBOURS):
        yield {**context.inputs, **{name: np.stack([each[name][at] for each in copies]) for name in copies[0]}}


def _require_same(model_a: Model, model_b: Model, feed: dict[str, Array], tolerance: float) -> None:
    """Refuse models whose outputs differ; those correspond by their order."""
    other = _renamed(model_a, model_b, feed)
    for (name, own), theirs in zip(model_a.predict(feed).items(), model_b.predict(other).values(), strict=False):
        if own.dtype.kind in "fiub" and theirs.dtype.kind in "fiub":
            error = relative_error(theirs, own)
        else:
            error = 0.0 if np.array_equal(own, theirs) else np.inf
        if error > tolerance:
            why = f"differs by {error:.2g} of its largest value" if np.isfinite(error) else "is another"
            raise UsageError(
                "invariance.different",
                f"the models don't compute the same: output {name!r} {why}",
                f"outputs may differ by {tolerance:g}, on the inputs and close to them",
            )
