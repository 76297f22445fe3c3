"""What a comparison of two models found: figures of each input, and of all of them, with intervals.

Belongs here: the values that users get. Not here: running models (``comparison``).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analyzer.evaluation import statistics
from analyzer.evaluation.node_drift import DriftByNode
from analyzer.explanation import Explanation, jsonable


@dataclass(frozen=True)
class InputDrift:
    """One input in both models.

    Attributes
    ----------
    id, label
        As the data calls it, and its class where known.
    target
        What was explained in both.
    first_class, second_class
        The class of the largest score in each; None where the models give none.
    difference, relative
        The largest difference of an output, and in units of that output's largest value; NaN where none can be compared.
    similarity
        Name -> how alike the maps are; NaN where that has no answer.
    reasons
        Name -> why it has none.
    """

    id: str
    label: Any
    target: str
    first_class: int | None
    second_class: int | None
    difference: float
    relative: float
    similarity: Mapping[str, float]
    reasons: Mapping[str, str] = field(default_factory=dict)

    @property
    def class_changed(self) -> bool:
        """Whether the second model gives another class."""
        return self.first_class != self.second_class

    @property
    def drift(self) -> float:
        """1 - Spearman's correlation, 0 to 2; 3 where the maps have none."""
        found = self.similarity.get("spearman", np.nan)
        return 3.0 if np.isnan(found) else 1 - found


@dataclass(frozen=True)
class Shown:
    """An input that drifts much, with its explanations (one sample each) and the file that it was read from."""

    row: InputDrift
    first: Explanation = field(repr=False)
    second: Explanation = field(repr=False)
    source: Any = field(default=None, repr=False)


@dataclass(frozen=True)
class Summary:
    """A figure of several inputs.

    Attributes
    ----------
    name
        The figure.
    count, missing
        How many inputs it is of, and how many have none.
    mean, low, high
        Its mean and the interval of the mean; NaN where there are too few inputs.
    median, lowest, highest
        Of the inputs that have it.
    """

    name: str
    count: int
    missing: int
    mean: float
    low: float
    high: float
    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, name: str, values: Sequence[float], confidence: float) -> Summary:
        """The summary of values, NaN among them counted as missing."""
        known = np.array([value for value in values if not np.isnan(value)])
        found = statistics.Interval.of(known[np.isfinite(known)], confidence)
        ends = [float(f(known)) if len(known) else np.nan for f in (np.median, np.min, np.max)]
        low, high = (each if np.isfinite(each) else np.nan for each in (found.low, found.high))
        return cls(name, len(known), len(values) - len(known), found.mean, low, high, *ends)


@dataclass(frozen=True)
class Part:
    """The inputs of one class, or all: how far the models agree on them.

    Attributes
    ----------
    name
        The class, or ``all``.
    inputs, class_changed
        How many, and on how many of them the class changes.
    figures
        Name -> summary over the inputs whose class stays.
    """

    name: str
    inputs: int
    class_changed: int
    figures: Mapping[str, Summary]


@dataclass(frozen=True)
class Comparison:
    """Two models on the same inputs.

    Attributes
    ----------
    first, second, sha256
        The models.
    method, options
        How they were explained.
    k, confidence
        Of ``top_k_overlap``; of intervals.
    rows
        Every input, in order.
    shown
        Those that drift most, the worst first.
    class_names
        What classes are called, where that is known.
    nodes
        Which nodes make explanations move, where that was asked for.
    notes
        What the user should know.
    """

    first: str
    second: str
    sha256: tuple[str, str]
    method: str
    options: Mapping[str, Any]
    k: float
    confidence: float
    rows: tuple[InputDrift, ...]
    shown: tuple[Shown, ...] = field(repr=False)
    class_names: tuple[str, ...] = ()
    nodes: DriftByNode | None = None
    notes: tuple[str, ...] = ()

    @property
    def changed(self) -> tuple[InputDrift, ...]:
        """The inputs on which the class changes."""
        return tuple(row for row in self.rows if row.class_changed)

    @functools.cached_property
    def same_class(self) -> statistics.Bounded | None:
        """The share of inputs whose class stays, with its interval; None where the models give no classes."""
        known = [row for row in self.rows if row.first_class is not None and row.second_class is not None]
        if not known:
            return None
        return statistics.share("same class", [not row.class_changed for row in known], 0.0, self.confidence)

    @functools.cached_property
    def overall(self) -> Part:
        """All inputs."""
        return self._part("all", self.rows)

    @functools.cached_property
    def per_class(self) -> tuple[Part, ...]:
        """The inputs by the first model's class; empty where there are no classes."""
        found: dict[int, list[InputDrift]] = {}
        for row in self.rows:
            if row.first_class is not None:
                found.setdefault(row.first_class, []).append(row)
        return tuple(self._part(self.class_name(at), found[at]) for at in sorted(found))

    @functools.cached_property
    def where_changed(self) -> Part:
        """The inputs whose class changes, on their own: maps for the first model's class."""
        return self._part("class changed", self.changed, lambda row: True)

    def class_name(self, index: int | None) -> str:
        """What a class is called."""
        if index is None:
            return ""
        return self.class_names[index] if index < len(self.class_names) else str(index)

    def _part(
        self,
        name: str,
        rows: Sequence[InputDrift],
        counts: Callable[[InputDrift], bool] = lambda row: not row.class_changed,
    ) -> Part:
        kept = [row for row in rows if counts(row)]
        values: dict[str, list[float]] = {"difference": [row.difference for row in kept]}
        values["relative"] = [row.relative for row in kept]
        for key in dict.fromkeys(key for row in kept for key in row.similarity):
            values[key] = [row.similarity.get(key, np.nan) for row in kept]
        figures = {key: Summary.of(key, each, self.confidence) for key, each in values.items()}
        return Part(name, len(rows), sum(row.class_changed for row in rows), figures)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: figures of all inputs, of classes, of every input; without maps."""
        same = self.same_class
        return dict(
            jsonable(
                {
                    "models": [
                        {"name": name, "sha256": digest}
                        for name, digest in zip((self.first, self.second), self.sha256, strict=True)
                    ],
                    "method": self.method,
                    "options": self.options,
                    "top_k": self.k,
                    "confidence": self.confidence,
                    "inputs": len(self.rows),
                    "same_class": same and {"share": same.estimate, "low": same.low, "high": same.high},
                    "overall": _part_dict(self.overall),
                    "class_changed": _part_dict(self.where_changed),
                    "per_class": [_part_dict(part) for part in self.per_class],
                    "nodes": None if self.nodes is None else self.nodes.to_dict(),
                    "rows": [{**vars(row), "class_changed": row.class_changed} for row in self.rows],
                    "notes": self.notes,
                }
            )
        )


def _part_dict(part: Part) -> dict[str, Any]:
    return {**vars(part), "figures": {name: vars(each) for name, each in part.figures.items()}}
