"""What is maximised: a class's log-probability or logit, a unit, a channel, a layer, a direction.

Belongs here: from a user's words to a function of one inner value that torch differentiates. Not here: inputs (``domain``),
optimising (``maximize``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analyzer.errors import UnsupportedError, UsageError
from analyzer.onnx_model import OnnxModel
from analyzer.targets.inner import value_named
from analyzer.targets.language import TargetLike
from analyzer.targets.resolve import resolve_on
from analyzer.targets.scores import Scored
from analyzer.targets.values import scored_value
from analyzer.visualization.channels import channel_axis

Array = NDArray[Any]
Score = Literal["log-probability", "logit"]
_SOFT = ("Softmax", "LogSoftmax")


@dataclass(frozen=True, eq=False)
class Goal:
    """What a user wants to be large.

    Attributes
    ----------
    target
        A class by number or label, or anything of the target language; on a layer's value where one is named.
    layer
        A node, value or module; without the following the mean of its squares counts.
    channel
        One channel of it: its mean over places.
    unit
        One element: an index without the axis of samples.
    direction
        A vector along its channels: the mean over places of the dot product.
    score
        Of a class: ``log-probability`` where the graph allows it, or ``logit``.
    """

    target: TargetLike | None = None
    layer: str | None = None
    channel: int | None = None
    unit: tuple[int, ...] | None = None
    direction: Array | None = None
    score: Score = "log-probability"

    def __post_init__(self) -> None:
        if self.score not in ("log-probability", "logit"):
            raise UsageError("score.unknown", f"unknown score {self.score!r}", "use log-probability or logit")
        parts = [name for name in ("target", "channel", "unit", "direction") if getattr(self, name) is not None]
        if self.layer is None and self.target is None:
            raise UsageError("maximize.no_target", "nothing says what is to be maximised", "give a target or a layer")
        if self.layer is None and parts != ["target"]:
            raise UsageError("unit.unclear", f"{parts[-1]} needs a layer", "name a node, value or module")
        if len(parts) > 1:
            raise UsageError("unit.unclear", f"both {parts[0]} and {parts[1]} are given", "leave one of them out")

    def __str__(self) -> str:
        if self.layer is None:
            return f"class {self.target}" if _is_class(self.target) else str(self.target)
        if self.channel is not None:
            return f"channel {self.channel} of {self.layer}"
        if self.unit is not None:
            return f"unit {','.join(map(str, self.unit))} of {self.layer}"
        if self.direction is not None:
            return f"a direction in {self.layer}"
        return f"{self.target} of {self.layer}" if self.target is not None else f"layer {self.layer}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        found = asdict(self)
        found["unit"] = None if self.unit is None else list(self.unit)
        found["direction"] = None if self.direction is None else np.asarray(self.direction, np.float64).tolist()
        found["target"] = self.target if isinstance(self.target, (int, str)) else _plain(self.target)
        return found


@dataclass(frozen=True, eq=False)
class Objective:
    """A function of one inner value.

    Attributes
    ----------
    value
        The ONNX value.
    score
        (samples, …) -> (samples,).
    kind
        What the score is.
    name
        What is maximised.
    probability
        (samples, …) -> (samples,): of the class, where there is one.
    notes
        What a reader should know.
    """

    value: str
    score: Callable[[Tensor], Tensor]
    kind: str
    name: str
    probability: Callable[[Tensor], Tensor] | None = None
    notes: tuple[str, ...] = field(default=())

    def of(self, value: Array) -> tuple[Array, Array | None]:
        """Scores, and probabilities where there are any, of numbers that onnxruntime gave; float64."""
        numbers = torch.from_numpy(np.ascontiguousarray(value, np.float64))
        probability = None if self.probability is None else self.probability(numbers).numpy()
        return self.score(numbers).numpy(), probability


def objective_of(model: OnnxModel, goal: Goal, feed: dict[str, Array]) -> Objective:
    """What a goal means in a model.

    Parameters
    ----------
    feed
        An input by which shapes are found, and on which other targets than classes are resolved.

    Raises
    ------
    UsageError
        ``layer.unknown``, ``unit.*``, ``target.*``.
    UnsupportedError
        ``layer.no_samples``, ``layer.not_numeric``; ``maximize.target`` for targets that need nodes behind the model.
    """
    if goal.layer is None and _is_class(goal.target):
        scored = scored_value(model)
        output = np.asarray(model.values(feed, [scored.output])[scored.output])
        at = _class_of(model, goal.target, output.shape[1] if output.ndim > 1 else 1)
        return _class_score(scored, at, goal, _value(model, feed, scored.value))
    if goal.target is not None:
        return _linear(model, goal, feed)
    name = value_named(model.graph, str(goal.layer))
    value = _value(model, feed, name)
    return Objective(name, _inner(model, goal, name, value.shape), "activation", str(goal))


def _value(model: OnnxModel, feed: dict[str, Array], name: str) -> Array:
    value = model.values(feed, [name])[name]
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        raise UnsupportedError("layer.not_numeric", f"{name!r} holds no floating-point numbers", "name another layer")
    samples = model.batch_of(feed)
    if value.shape[:1] != (samples,):
        raise UnsupportedError(
            "layer.no_samples",
            f"the first axis of {name!r}, of shape {list(value.shape)}, doesn't count the {samples} samples",
            "name another layer",
        )
    return value


def _is_class(target: Any) -> bool:
    """Whether a target is one class, by its number or label."""
    if isinstance(target, int | np.integer) and not isinstance(target, bool):
        return True
    return isinstance(target, str) and not any(sign in target for sign in ":[") and not target.startswith("top")


def _class_of(model: OnnxModel, target: Any, count: int) -> int:
    text = str(target)
    if text.lstrip("-").isdigit() and text.isascii():
        at = int(text)
    elif model.labels is None:
        raise UsageError("target.unknown_label", f"no labels are known, so {text[:80]!r} can't be found",
                         "give labels, or a class index")  # fmt: skip
    else:
        at = model.labels.index(text)
    if not 0 <= at < count:
        raise UsageError("target.out_of_range", f"class {at}: the model has {count}", f"give 0 to {count - 1}")
    return at


def _class_score(scored: Scored, at: int, goal: Goal, value: Array) -> Objective:
    axis = 1 if scored.permutation is None else scored.permutation[1]
    single = value.ndim < 2

    def logit(found: Tensor) -> Tensor:
        return found if single else _mean(found.select(axis, at))

    def soft(found: Tensor) -> Tensor:
        return _mean(torch.log_softmax(found, axis).select(axis, at))

    notes: tuple[str, ...] = ()
    log: Callable[[Tensor], Tensor] | None = None
    if scored.kind == "log-probability":
        log = logit
    elif scored.kind == "probability":
        log = lambda found: torch.log(logit(found).clamp_min(1e-12))  # noqa: E731
    elif scored.squashed_by in _SOFT or (scored.kind == "logit" and scored.squashed_by is None and not single):
        log = soft
        if scored.squashed_by is None:
            notes = ("the model gives logits: their softmax is taken for the probability",)
    elif scored.squashed_by is not None:
        log = lambda found: torch.nn.functional.logsigmoid(logit(found))  # noqa: E731
    if log is None:
        return Objective(scored.value, logit, scored.kind, str(goal), None, notes)
    known = log
    wanted, kind = (logit, "logit") if goal.score == "logit" else (log, "log-probability")
    return Objective(scored.value, wanted, kind, str(goal), lambda found: known(found).exp(), notes)


def _linear(model: OnnxModel, goal: Goal, feed: dict[str, Array]) -> Objective:
    """A target that is linear in its value, as it is on the start."""
    found = resolve_on(model, feed, goal.target, layer=goal.layer, gradients=True)  # type: ignore[arg-type]
    if found.model is not model or not hasattr(found.target, "weights"):
        raise UnsupportedError(
            "maximize.target", f"target {goal.target!r} needs nodes behind the model", "maximise an element or a layer"
        )
    weights = torch.from_numpy(np.ascontiguousarray(found.target.weights[:1], np.float64))

    def score(value: Tensor) -> Tensor:
        own = weights.to(value).reshape(1, *value.shape[1:])
        return (own * value).reshape(len(value), -1).sum(1)

    return Objective(found.scored.value, score, found.scored.kind, found.target.names[0], None, found.target.notes)


def _inner(model: OnnxModel, goal: Goal, name: str, shape: Sequence[int]) -> Callable[[Tensor], Tensor]:
    sides = list(shape[1:])
    if goal.unit is not None:
        index: tuple[int | slice, ...] = (slice(None), *goal.unit)
        if len(goal.unit) != len(sides) or not all(0 <= at < side for at, side in zip(goal.unit, sides, strict=True)):
            message = f"{name!r} has no unit {','.join(map(str, goal.unit))}"
            raise UsageError("unit.out_of_range", message, f"give indices below {sides}")
        return lambda value: value[index]
    if goal.channel is None and goal.direction is None:
        return lambda value: _mean(value.square())
    axis = channel_axis(model, name, len(shape))
    if not axis:
        raise UsageError("unit.out_of_range", f"{name!r} of shape {list(shape)} has no channels", "name another layer")
    if goal.channel is not None:
        channel, along = goal.channel, axis
        if not 0 <= channel < shape[axis]:
            message = f"{name!r} has no channel {channel}"
            raise UsageError("unit.out_of_range", message, f"give 0 to {shape[axis] - 1}")
        return lambda value: _mean(value.select(along, channel))
    return _along(np.asarray(goal.direction, np.float64), name, shape, axis)


def _along(direction: Array, name: str, shape: Sequence[int], axis: int) -> Callable[[Tensor], Tensor]:
    if direction.shape == tuple(shape[1:]):
        whole = torch.from_numpy(direction)
        return lambda value: (value * whole.to(value)).reshape(len(value), -1).sum(1)
    if direction.shape != (shape[axis],) or not np.isfinite(direction).all():
        message = f"a direction of shape {list(direction.shape)} doesn't fit {name!r} of shape {list(shape)}"
        raise UsageError("unit.direction", message, f"give {shape[axis]} finite numbers")
    own = torch.from_numpy(direction)
    return lambda value: _mean(torch.tensordot(value, own.to(value), ([axis], [0])))


def _mean(value: Tensor) -> Tensor:
    """Over all but the samples."""
    return value.reshape(len(value), -1).mean(1)


def _plain(target: Any) -> Any:
    return np.asarray(target, np.float64).tolist() if isinstance(target, np.ndarray) else repr(target)
