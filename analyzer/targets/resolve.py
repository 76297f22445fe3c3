"""From a target to the value that holds its scores, and the target resolved on it.

Belongs here: choosing the value, resolving the target, the prediction for the record. Not here: the target language
(``language``), finding scores in a graph (``scores``), names of inner units (``inner``).
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
from analyzer.targets.language import TargetLike, is_detection, output_of, resolve
from analyzer.targets.scores import Scored, scored_in
from analyzer.targets.target import Resolved, Target

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
        Entries of the explanation's record: the prediction, and the detection where one is explained.
    """

    scored: Scored
    target: Target
    output: Array
    record: dict[str, Any] = field(default_factory=dict)


def scored_value(model: OnnxModel, output: str | None = None, score: str = "logit") -> Scored:
    """Which value is explained: by default the logits of the first floating-point output.

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
    return scored_in(model.proto.graph, output, score)


def scored_of(model: OnnxModel, target: TargetLike, score: str, layer: str | None) -> Scored:
    """Which value is explained: an inner unit where one is named, else an output.

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
        Whether the method needs gradients: then the class score of a detection's proposal is explained instead of the
        detection.
    fetched
        Cache of the model's values on these inputs, shared by several targets.
    """
    record: dict[str, Any] = {}
    if is_detection(target):
        from analyzer.targets.detection.finding import find

        if layer is not None:
            raise UsageError("layer.twice", "a detection is no target of an inner value", "leave layer out")
        found = find(model, feed, target)
        record = {"prediction": found.prediction(), **found.record()}
        if not gradients:
            return Explained(found.scored, found.resolved, np.asarray(found.got[found.scored.value]), record)
        output_name, resolved = found.class_scores()
        target = f"{output_name}[...]"
    scored = scored_of(model, target, score, layer)
    default = scored if scored.output in model.outputs else _default(model, score)
    values = _fetch(model, feed, scored, default, {} if fetched is None else fetched)
    if scored is not default:
        _require_batch_axis(model, feed, scored.output, np.asarray(values[scored.output]))
    scored, scores, in_layout = _laid_out(model, feed, scored, values)
    resolved = resolved or resolve(target, in_layout, model.labels)
    resolved = replace(resolved, weights=scored.pulled_back(resolved.weights, scores), value=scored.value)
    predicted = None if default is None else _prediction(model, default, np.asarray(values[default.output]))
    return Explained(scored, resolved, scores, {"prediction": predicted, **record})


def _fetch(
    model: OnnxModel, feed: dict[str, Array], scored: Scored, default: Scored | None, fetched: dict[Any, Any]
) -> Mapping[str, Any]:
    """The scores, their output and the output of the prediction, by name; computed once for each value."""
    if scored not in fetched:
        wanted = [scored.value, scored.output, *([default.output] if default is not None else [])]
        fetched[scored] = model.values(feed, list(dict.fromkeys(wanted)))
    values: Mapping[str, Any] = fetched[scored]
    return values


def _laid_out(
    model: OnnxModel, feed: dict[str, Array], scored: Scored, values: Mapping[str, Any]
) -> tuple[Scored, Array, Array]:
    """The value that is explained, its scores, and the scores in the output's layout.

    Logits that have another batch axis than the output can't be indexed like it: then the probabilities are explained.
    """
    scores, output = np.asarray(values[scored.value]), np.asarray(values[scored.output])
    in_layout = scored.laid_out(scores, output)
    if in_layout is not None:
        return scored, scores, in_layout
    scored = scored_value(model, scored.output, "probability")
    return scored, np.asarray(model.values(feed, [scored.value])[scored.value]), output


def _default(model: OnnxModel, score: str) -> Scored | None:
    """The scores that are explained by default, None for a model without any."""
    try:
        return scored_value(model, None, score)
    except UnsupportedError:
        return None


def _require_batch_axis(model: OnnxModel, feed: Mapping[str, Array], name: str, value: Array) -> None:
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
    """The five best classes of every sample with the model's own output for them; None where there are no classes."""
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
