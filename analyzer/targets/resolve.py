"""What is explained: from a request to the value with the scores and the target on it.

Belongs here: choosing the value, resolving the target, what the record says of the prediction. Not here: the target
language (``target``), finding scores in a graph (``score``), inner names (``units``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import UnsupportedError, UsageError
from analyzer.targets.inner import value_named
from analyzer.targets.language import Resolved, is_detection, output_of, resolve
from analyzer.targets.scores import Scored

if TYPE_CHECKING:
    from analyzer.explain.request import Request
    from analyzer.model import Model

Array = NDArray[Any]


def scored_of(model: Model, request: Request) -> Scored:
    """What is explained: an inner unit where one is asked for, else an output.

    Raises
    ------
    UsageError
        ``layer.twice`` where target and layer both name a value.
    """
    named = output_of(request.target)
    if request.layer is None:
        return model.scored(named, request.score)
    if named is not None:
        raise UsageError(
            "layer.twice", f"target {request.target!r} names a value, and so does layer", "leave one of them out"
        )
    return model.scored(value_named(model.graph, request.layer), request.score)


def aim(
    model: Model, feed: dict[str, Array], request: Request, needs: str
) -> tuple[Scored, Resolved, Array, dict[str, Any]]:
    """What is explained: the value with the scores, the target on it, the value itself, and what the record keeps of it.

    A detection is a target of methods that only run the model; for white-box methods its class score takes its place.
    """
    detected: dict[str, Any] = {}
    if is_detection(request.target):
        from analyzer.targets.detection.finding import find

        if request.layer is not None:
            raise UsageError("layer.twice", "a detection is no target of an inner value", "leave layer out")
        found = find(model, feed, request.target)
        detected = {"prediction": found.prediction(), **found.record()}
        if needs == "runtime":
            return found.scored, found.resolved, np.asarray(found.got[found.scored.value]), detected
        output_name, weights = found.class_scores()
        request = replace(request, target=f"{output_name}[...]", resolved=weights)
    scored = scored_of(model, request)
    main = scored if scored.output in model.outputs else _main(model, request.score)
    shared = {} if request.shared is None else request.shared
    if scored not in shared:
        wanted = [scored.value, scored.output, *([main.output] if main is not None else [])]
        shared[scored] = model.values(feed, list(dict.fromkeys(wanted)))
    values = shared[scored]
    given = np.asarray(values[scored.output])
    if scored is not main:
        _counts_samples(model, feed, scored.output, given)
    shown = scored.laid_out(np.asarray(values[scored.value]), given)
    if shown is None:  # the scores have other rows than the output
        scored = model.scored(scored.output, "probability")
        values, shown = {**values, **model.values(feed, [scored.value])}, given
    output = np.asarray(values[scored.value])
    resolved = request.resolved or resolve(request.target, shown, model.labels)
    resolved = replace(resolved, weights=scored.pulled_back(resolved.weights, output))
    predicted = None if main is None else _prediction(model, main, np.asarray(values[main.output]))
    return scored, resolved, output, {"prediction": predicted, **detected}


def _main(model: Model, score: str) -> Scored | None:
    """The scores that an explanation is about unless told otherwise, None for a model without any."""
    try:
        return model.scored(None, score)
    except UnsupportedError:
        return None


def _counts_samples(model: Model, feed: Mapping[str, Array], name: str, value: Array) -> None:
    """Refuse an inner value whose first axis isn't the batch.

    Raises
    ------
    UsageError
        ``layer.no_batch``.
    """
    first = feed[next(iter(model.inputs))]
    if not value.ndim or not first.ndim or len(value) != len(first):
        raise UsageError(
            "layer.no_batch",
            f"{name!r} of shape {list(value.shape)} has no row for each of the {len(first) if first.ndim else 1} samples",
            "name a value whose first axis is the batch",
        )


def _prediction(model: Model, scored: Scored, output: Array) -> dict[str, Any] | None:
    """The first five classes of every sample with the model's own output for them; None where there are no classes."""
    rows = output.reshape(len(output), -1) if output.ndim else output.reshape(1, 1)
    if output.ndim > 2 and rows.shape[1] != output.shape[1]:
        return None
    kind = "probability" if scored.squashed_by or scored.kind == "probability" else scored.kind
    names = model.labels.name if model.labels is not None and rows.shape[1] > 1 else str
    best = [np.argsort(-row, kind="stable")[:5] for row in rows]
    return {
        "kind": kind,
        "top": [[[int(i), names(int(i)), float(row[i])] for i in order] for row, order in zip(rows, best, strict=True)],
    }
