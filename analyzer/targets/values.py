"""The values of a model on one batch that targets are about.

Belongs here: choosing a value, fetching it, laying scores out as targets index them, the prediction for the record. Not here:
the target language (``language``), finding scores in a graph (``scores``), names of inner units (``inner``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import UnsupportedError, UsageError
from analyzer.onnx_model import OnnxModel
from analyzer.targets.inner import value_named
from analyzer.targets.scores import Scored, scored_in

Array = NDArray[Any]


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


def scored_of(model: OnnxModel, named: str | None, score: str, layer: str | None) -> Scored:
    """Which value is explained: an inner unit where one is named, else an output.

    Parameters
    ----------
    named
        The value that the target itself names.

    Raises
    ------
    UsageError
        ``layer.twice`` where target and layer both name a value.
    """
    if layer is None:
        return scored_value(model, named, score)
    if named is not None:
        raise UsageError("layer.twice", f"target {named!r} names a value, and so does layer", "leave one of them out")
    return scored_value(model, value_named(model.graph, layer), score)


class Values:
    """A model's values on one batch, fetched once.

    Parameters
    ----------
    fetched
        Cache, shared by several targets on the same inputs.
    outputs
        Whether all outputs by which engines are verified are fetched along with a value.
    """

    def __init__(
        self, model: OnnxModel, feed: dict[str, Array], score: str, fetched: dict[Any, Any], outputs: bool = False
    ) -> None:
        self.model, self.feed, self._score, self._fetched, self._outputs = model, feed, score, fetched, outputs

    def laid_out(self, scored: Scored) -> tuple[Scored, Array, Array]:
        """The value that is explained, its scores, and the scores in the output's layout.

        Logits that have another batch axis than the output can't be indexed like it: then the probabilities are explained.

        Raises
        ------
        UsageError
            ``layer.no_batch``.
        """
        default = scored if scored.output in self.model.outputs else self._default()
        names = [scored.value, scored.output, *([default.output] if default is not None else [])]
        names += self.model.compared if self._outputs else []
        values = self._fetch(scored, list(dict.fromkeys(names)))
        scores, output = np.asarray(values[scored.value]), np.asarray(values[scored.output])
        if scored is not default:
            _require_batch_axis(self.model, self.feed, scored.output, output)
        in_layout = scored.laid_out(scores, output)
        if in_layout is not None:
            return scored, scores, in_layout
        scored = scored_value(self.model, scored.output, "probability")
        return scored, np.asarray(self.model.values(self.feed, [scored.value])[scored.value]), output

    def known(self) -> dict[str, Array]:
        """Everything that was fetched, by name."""
        return {name: value for values in self._fetched.values() for name, value in values.items()}

    def output(self, scored: Scored) -> Array:
        """The output, or inner value, as the model gives it."""
        value = np.asarray(self._fetch((scored, "output"), [scored.output])[scored.output])
        _require_batch_axis(self.model, self.feed, scored.output, value)
        return value

    def outputs(self) -> dict[str, Array]:
        """All numeric outputs."""
        values = self._fetch("outputs", list(self.model.outputs))
        return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}

    def prediction(self, scored: Scored) -> dict[str, Any] | None:
        """The best classes of the output that is explained, or of the default one for an inner value."""
        default = scored if scored.output in self.model.outputs else self._default()
        if default is None:
            return None
        known = next((v for v in self._fetched.values() if default.output in v), None)
        values = known or self._fetch(default, [default.value, default.output])
        return _prediction(self.model, default, np.asarray(values[default.output]))

    def _fetch(self, key: Any, names: list[str]) -> Mapping[str, Any]:
        if key not in self._fetched:
            self._fetched[key] = self.model.values(self.feed, list(dict.fromkeys(names)))
        found: Mapping[str, Any] = self._fetched[key]
        return found

    def _default(self) -> Scored | None:
        """The scores that are explained by default, None for a model without any."""
        try:
            return scored_value(self.model, None, self._score)
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


def _best(row: Array, count: int = 5) -> Array:
    """The classes of the largest values, the largest first, equal ones in their order; few are sorted for it."""
    chosen = np.arange(len(row))
    if len(row) > 16 * count:
        least = np.partition(row, len(row) - count)[len(row) - count]
        larger = np.flatnonzero(row >= least)
        chosen = larger if len(larger) >= count else chosen  # fewer where there are NaN, which are last
    found: Array = chosen[np.argsort(-row[chosen], kind="stable")[:count]]
    return found


def _prediction(model: OnnxModel, scored: Scored, output: Array) -> dict[str, Any] | None:
    """The five best classes of every sample with the model's own output for them; None where there are no classes."""
    rows = output.reshape(len(output), -1) if output.ndim else output.reshape(1, 1)
    if output.ndim > 2 and rows.shape[1] != output.shape[1]:
        return None
    kind: str = "probability" if scored.squashed_by else scored.kind
    kind = "log-probability" if scored.squashed_by == "LogSoftmax" else kind
    names = model.labels.name if model.labels is not None and rows.shape[1] > 1 else str
    best = [_best(row) for row in rows]
    if scored.regression:  # nothing is best among them
        names, best = "output {}".format, [np.arange(rows.shape[1])[:5]] * len(rows)
    return {
        "kind": kind,
        "top": [[[int(i), names(int(i)), float(row[i])] for i in order] for row, order in zip(rows, best, strict=True)],
    }
