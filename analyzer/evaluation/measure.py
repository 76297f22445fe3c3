"""What a metric gives: a value for every sample, its curves, and what the user should know.

Belongs here: the values that metrics return and that users get. Not here: computing them (``metrics``), statistics over many
samples (``statistics``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.explanation import jsonable

Array = NDArray[Any]


@dataclass(frozen=True)
class Curve:
    """One curve for each sample.

    Attributes
    ----------
    x
        (points,), or (samples, points) where samples have points of their own.
    y
        (samples, points).
    x_label, y_label
        What the axes count.
    """

    x: Array
    y: Array
    x_label: str = ""
    y_label: str = ""

    @classmethod
    def of(cls, x: Array, y: Array, x_label: str = "", y_label: str = "") -> Curve:
        """From points (samples, points) of their own for each sample, which may be the same for all."""
        return cls(x[0] if len(x) and (x == x[0]).all() else x, y, x_label, y_label)

    @classmethod
    def joined(cls, parts: Sequence[Curve]) -> Curve:
        """The curves of the parts of a batch, all with as many points, as one."""
        x = np.concatenate([np.broadcast_to(part.x, part.y.shape) for part in parts])
        return cls.of(x, np.concatenate([part.y for part in parts]), parts[0].x_label, parts[0].y_label)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "x": jsonable(np.asarray(self.x).tolist()), "y": jsonable(np.asarray(self.y).tolist()),
            "x_label": self.x_label, "y_label": self.y_label,
        }  # fmt: skip


@dataclass
class Measure:
    """What a metric returns for the samples of a batch.

    Attributes
    ----------
    values
        (samples,) float64; NaN where the metric has no answer.
    reasons
        Sample -> why it has no answer; one for each NaN.
    curves
        Name -> a curve for each sample.
    notes
        What the user should know.
    record
        Further JSON-ready figures.
    turned
        Whether the parameters turn the metric's direction round, as another order of removal does.
    """

    values: Array
    reasons: dict[int, str] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)
    turned: bool = False

    @classmethod
    def of(cls, found: Sequence[float | str], **rest: Any) -> Measure:
        """From a value or, where there is none, the reason for each sample."""
        values = np.array([np.nan if isinstance(each, str) else float(each) for each in found], np.float64)
        reasons = {at: each for at, each in enumerate(found) if isinstance(each, str)}
        return cls(values, reasons, **rest)


@dataclass(frozen=True)
class Evaluation:
    """One explanation judged by one metric.

    Attributes
    ----------
    metric, params
        The metric's name and all its parameters, defaults included.
    values
        (samples,) float64; NaN where the metric has no answer for a sample.
    reasons
        Sample -> why it has none.
    higher_is_better
        With these parameters; None for a metric that only describes.
    method, target
        What was judged: the explanation's method and what it explains, a text for each sample.
    n_evaluations, n_explanations
        Model evaluations of one sample, and explanations of one sample, that it took; not what fills up a fixed batch, nor
        finding out once for a model whether rows that run together depend on each other.
    seed
        Of every random choice.
    curves, notes, record
        See :class:`Measure`.
    """

    metric: str
    params: Mapping[str, Any]
    values: Array
    reasons: Mapping[int, str]
    higher_is_better: bool | None
    method: str
    target: tuple[str, ...]
    n_evaluations: int
    n_explanations: int
    seed: int
    curves: Mapping[str, Curve] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The mean over the samples that have a value; NaN where none has."""
        known = self.values[np.isfinite(self.values)]
        return float(known.mean()) if known.size else float("nan")

    @property
    def n_valid(self) -> int:
        """How many samples have a value."""
        return int(np.isfinite(self.values).sum())

    @property
    def n_nan(self) -> int:
        """How many samples have none."""
        return len(self.values) - self.n_valid

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, curves included."""
        return {
            "metric": self.metric,
            "params": jsonable(self.params),
            "value": jsonable(self.value),
            "values": [jsonable(float(value)) for value in self.values],
            "reasons": {str(at): reason for at, reason in self.reasons.items()},
            "n_valid": self.n_valid,
            "n_nan": self.n_nan,
            "higher_is_better": self.higher_is_better,
            "method": self.method,
            "target": list(self.target),
            "n_evaluations": self.n_evaluations,
            "n_explanations": self.n_explanations,
            "seed": self.seed,
            "curves": {name: curve.to_dict() for name, curve in self.curves.items()},
            "notes": list(self.notes),
            **jsonable(self.record),
        }
