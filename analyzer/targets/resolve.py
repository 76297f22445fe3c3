"""From what was asked for to the value with the scores and the target on it.

Belongs here: choosing the value, resolving the target, what the record says of the prediction. Not here: the target
language (``language``), finding scores in a graph (``scores``), inner names (``inner``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import UnsupportedError, UsageError
from analyzer.onnx_model import OnnxModel
from analyzer.targets.inner import value_named
from analyzer.targets.language import Resolved, Target, TargetLike, is_detection, output_of, resolve
from analyzer.targets.scores import Scored, explained

Array = NDArray[Any]


@dataclass(frozen=True)
class Explained:
    """What is explained on a batch.

    Attributes
    ----------
    scored
        The value with the scores.
    target
        The target on it.
    output
        The value itself.
    record
        What the explanation's record keeps of the prediction.
    """

    scored: Scored
    target: Target
    output: Array
    record: dict[str, Any] = field(default_factory=dict)


def scored_value(model: OnnxModel, output: str | None = None, score: str = "logit") -> Scored:
    """Which value is explained: the logits of the first floating-point output unless asked otherwise.

    Parameters
    ----------
    output
        Name of an output, or of an inner node, value or module.

    Raises
    ------
    UsageError
        ``target.unknown_output``, ``score.unknown``.
    """
    outputs = {o.name for o in model.proto.graph.output}
    if output is not None and output not in outputs:
        with contextlib.suppress(UsageError):  # an unknown name is refused below, as an output
            value = value_named(model.graph, output)
            if value not in outputs:
                return Scored(value, value, "value")
            output = value
    return explained(model.proto.graph, output, score)


def scored_of(model: OnnxModel, target: TargetLike, score: str, layer: str | None) -> Scored:
    """What is explained: an inner unit where one is asked for, else an output.

    Raises
    ------
    UsageError
        ``layer.twice`` where target and layer both name a value.
    """
    named = output_of(target)
    if layer is None:
        return scored_value(model, named, score)
    if named is not None:
        raise UsageError("layer.twice", f"target {target!r} names a value, and so does layer", "leave one of them out")
    return scored_value(model, value_named(model.graph, layer), score)


def resolve_on(
    model: OnnxModel,
    feed: dict[str, Array],
    target: TargetLike,
    *,
    score: str = "logit",
    layer: str | None = None,
    resolved: Resolved | None = None,
    gradients: bool = False,
    fetched: dict[Any, Any] | None = None,
) -> Explained:
    """What is explained on a batch.

    Parameters
    ----------
    layer
        An inner unit that is explained instead of an output.
    resolved
        The target where it has been resolved already, on a larger batch.
    gradients
        Whether the method needs them: then a detection's class score takes the detection's place.
    fetched
        Values of the model on these inputs, kept from target to target.
    """
    detected: dict[str, Any] = {}
    if is_detection(target):
        from analyzer.targets.detection.finding import find

        if layer is not None:
            raise UsageError("layer.twice", "a detection is no target of an inner value", "leave layer out")
        found = find(model, feed, target)
        detected = {"prediction": found.prediction(), **found.record()}
        if not gradients:
            return Explained(found.scored, found.resolved, np.asarray(found.got[found.scored.value]), detected)
        output_name, resolved = found.class_scores()
        target = f"{output_name}[...]"
    scored = scored_of(model, target, score, layer)
    main = scored if scored.output in model.outputs else _main(model, score)
    fetched = {} if fetched is None else fetched
    if scored not in fetched:
        wanted = [scored.value, scored.output, *([main.output] if main is not None else [])]
        fetched[scored] = model.values(feed, list(dict.fromkeys(wanted)))
    values = fetched[scored]
    given = np.asarray(values[scored.output])
    if scored is not main:
        _counts_samples(model, feed, scored.output, given)
    shown = scored.laid_out(np.asarray(values[scored.value]), given)
    if shown is None:  # the scores have other rows than the output
        scored = scored_value(model, scored.output, "probability")
        values, shown = {**values, **model.values(feed, [scored.value])}, given
    output = np.asarray(values[scored.value])
    resolved = resolved or resolve(target, shown, model.labels)
    resolved = replace(resolved, weights=scored.pulled_back(resolved.weights, output), value=scored.value)
    predicted = None if main is None else _prediction(model, main, np.asarray(values[main.output]))
    return Explained(scored, resolved, output, {"prediction": predicted, **detected})


def _main(model: OnnxModel, score: str) -> Scored | None:
    """The scores that an explanation is about unless told otherwise, None for a model without any."""
    try:
        return scored_value(model, None, score)
    except UnsupportedError:
        return None


def _counts_samples(model: OnnxModel, feed: Mapping[str, Array], name: str, value: Array) -> None:
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


def _prediction(model: OnnxModel, scored: Scored, output: Array) -> dict[str, Any] | None:
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
