"""From a target to the value that holds its scores, and the target resolved on it.

Belongs here: telling kinds of targets apart, and resolving each. Not here: the target language (``language``), fetching values
(``values``), targets that need nodes behind the model (``mixture``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import UsageError
from analyzer.onnx_model import OnnxModel
from analyzer.targets.grammar import all_leaves, parse, trees, with_scalars
from analyzer.targets.language import Place, TargetLike, is_detection, resolve
from analyzer.targets.mixture import mixed
from analyzer.targets.scores import Scored
from analyzer.targets.target import Resolved, Target
from analyzer.targets.values import Values, scored_of, scored_value

if TYPE_CHECKING:
    from analyzer.targets.detection.finding import Found

__all__ = ["Explained", "resolve_on", "scored_of", "scored_value"]
Array = NDArray[Any]


@dataclass(frozen=True)
class Explained:
    """What is explained on a batch.

    Attributes
    ----------
    model
        The model that has the value; the explained one, or that with nodes behind it.
    scored
        The value with the scores.
    target
        The target on it.
    output
        The value itself.
    record
        Entries of the explanation's record: the prediction, and the detection where one is explained.
    known
        Further values of the model on the batch, by name.
    """

    model: OnnxModel
    scored: Scored
    target: Target
    output: Array
    record: dict[str, Any] = field(default_factory=dict)
    known: Mapping[str, Array] = field(default_factory=dict, repr=False)


def resolve_on(
    model: OnnxModel,
    feed: dict[str, Array],
    target: TargetLike,
    *,
    score: str = "logit",
    layer: str | None = None,
    place: Place | None = None,
    gradients: bool = False,
    fetched: dict[Any, Any] | None = None,
) -> Explained:
    """What is explained on a batch.

    Parameters
    ----------
    layer
        An inner unit that is explained instead of an output.
    place
        Where the batch lies in a larger one that the target is about.
    gradients
        Whether the method needs gradients: then the class score of a detection's proposal is explained instead of the
        detection.
    fetched
        Cache of the model's values on these inputs, shared by several targets.
    """
    values = Values(model, feed, score, {} if fetched is None else fetched, outputs=gradients)
    record: dict[str, Any] = {}
    best = _best_detection(values) if layer is None and isinstance(target, str) and target == "top1" else None
    if best is not None or is_detection(target):
        from analyzer.targets.detection.finding import find

        if layer is not None:
            raise UsageError("layer.twice", "a detection is no target of an inner value", "leave layer out")
        found = best or find(model, feed, target)
        record = {"prediction": found.prediction(), **found.record()}
        if not gradients:
            return Explained(model, found.scored, found.resolved, np.asarray(found.got[found.scored.value]), record)
        name, resolved = found.class_scores()
        return _on_one(values, scored_of(model, name, score, None), lambda _: resolved, record)
    if isinstance(target, str) and any(leaf.detection for leaf in all_leaves(trees(target)[0])):
        from analyzer.targets.detection.combined import combined

        if layer is not None:
            raise UsageError("layer.twice", "a detection is no target of an inner value", "leave layer out")
        first, several_detections, name = combined(model, feed, parse(target), gradients)
        record = {"prediction": first.prediction()}
        if not isinstance(several_detections, Resolved):
            return Explained(model, first.scored, several_detections, np.asarray(first.got[name]), record)
        on_scores = several_detections
        return _on_one(values, scored_of(model, name, score, None), lambda _: on_scores, record)
    labels = model.labels.names if model.labels is not None else ()
    several, per_sample = trees(target)
    several = [with_scalars(tree, model.outputs, labels) for tree in several]
    target = several if per_sample else several[0]
    found_leaves = all_leaves(several)
    scored = {scored_of(model, leaf.output, score, layer) for leaf in found_leaves if not leaf.functional}
    if len(scored) > 1 or any(leaf.functional for leaf in found_leaves):
        extension, resolved, output = mixed(values, target, found_leaves, score, layer, place or Place())
        inner = Scored(extension.value, extension.value, "value")
        prediction = values.prediction(scored_of(model, None, score, layer))
        return Explained(extension.model, inner, resolved, output, {"prediction": prediction})
    only = next(iter(scored)) if scored else scored_of(model, None, score, layer)
    dense = only.output in model.outputs and only.permutation is None  # else the classes aren't on axis 1
    return _on_one(values, only, lambda scores: resolve(target, scores, model.labels, place, dense), record)


def explains_a_detection(model: OnnxModel, feed: dict[str, Array], score: str) -> bool:
    """Whether the default target on an input is a detector's best detection."""
    return _best_detection(Values(model, feed, score, {}, outputs=True)) is not None


def _best_detection(values: Values) -> Found | None:
    """A detector's best detection, for the default target; None for other models."""
    model = values.model
    if model.decode is None and not any(len(known.shape) == 4 for known in model.inputs.values()):
        return None
    from analyzer.targets.detection.finding import find_best, may_detect, recognised_on

    if model.decode is None and not may_detect(model):
        return None
    spec = model.decode or recognised_on(model, values.feed, values.outputs())
    return None if spec is None else find_best(model, values.feed, spec)


def _on_one(
    values: Values, scored: Scored, resolved_on: Callable[[Array], Resolved], record: dict[str, Any]
) -> Explained:
    """A target that is linear in one value."""
    asked = scored
    scored, scores, in_layout = values.laid_out(scored)
    single = scored.squashed_by is None and in_layout.size == max(1, len(in_layout) if in_layout.ndim else 1)
    if single and scored.kind == "logit":
        scored = replace(scored, kind="value")  # one number for each sample is no class's
    resolved = resolved_on(in_layout)
    if scored.regression:
        resolved = replace(
            resolved, names=tuple(re.sub(r"\bclass (\d+)", r"output \1", name) for name in resolved.names)
        )
    resolved = replace(resolved, weights=scored.pulled_back(resolved.weights, scores), value=scored.value)
    prediction = {"prediction": values.prediction(asked)}
    return Explained(values.model, scored, resolved, scores, prediction | record, values.known())
