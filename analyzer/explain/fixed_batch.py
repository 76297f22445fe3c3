"""Models whose batch is fixed: an input with more samples is explained part by part.

Belongs here: cutting a request into parts and putting explanations together. Not here: explaining (``pipeline``).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import UsageError
from analyzer.explain.backends import Backends
from analyzer.explain.completeness import with_missed_sum
from analyzer.explain.request import Progress, Request
from analyzer.explanation import Completeness, Explanation, NodeTotals
from analyzer.targets.grammar import is_per_sample
from analyzer.targets.language import Place

Array = NDArray[Any]
Explain = Callable[[Backends, dict[str, Array], Request], Explanation]


def in_parts(backends: Backends, feed: dict[str, Array], request: Request, size: int, explain: Explain) -> Explanation:
    """Explain ``size`` samples at a time and put the explanations together."""
    count = len(next(iter(feed.values())))
    parts = []
    for start in range(0, count, size):
        target = request.target
        if is_per_sample(target):
            if len(target) != count:
                raise UsageError("target.count", f"{len(target)} targets were given for a batch of {count}")
            target = list(target[start : start + size])
        rows = {name: value[start : start + size] for name, value in feed.items()}
        advance = _counted(request.progress, start // size, count // size)
        part = replace(request, target=target, progress=advance, shared=None, place=Place(start, count))
        parts.append(explain(backends, rows, part))
    first = parts[0]
    completeness = None
    if first.completeness is not None:
        both = [part.completeness for part in parts if part.completeness is not None]
        completeness = Completeness(np.concatenate([c.total for c in both]), np.concatenate([c.expected for c in both]))
    found = replace(
        first,
        attributions={k: np.concatenate([part.attributions[k] for part in parts]) for k in first.attributions},
        raws={k: _stacked([part.raws[k] for part in parts]) for k in first.raws},
        standard_errors=_joined_errors(parts),
        inputs=feed,
        target=tuple(name for part in parts for name in part.target),
        classes=tuple(c for part in parts for c in part.classes),
        score=np.concatenate([part.score for part in parts]),
        record=_joined_record([part.record for part in parts]),
        completeness=completeness,
        options=request.options,
        totals=functools.partial(_joined_totals, parts),
    )
    return with_missed_sum(found, parts)


def _stacked(raws: Sequence[Array]) -> Array:
    """Maps one after the other; texts of fewer words than others are filled up with zeros."""
    longest = max(raw.shape[-1] for raw in raws)
    if any(raw.ndim > 1 and raw.shape[-1] < longest for raw in raws):
        raws = [np.pad(raw, [(0, 0)] * (raw.ndim - 1) + [(0, longest - raw.shape[-1])]) for raw in raws]
    return np.concatenate(raws)


def _joined_errors(parts: Sequence[Explanation]) -> dict[str, Array]:
    """Standard errors of all parts; NaN for those without, empty where no part has any."""
    names = dict.fromkeys(name for part in parts for name in part.standard_errors)
    return {
        name: np.concatenate(
            [part.standard_errors.get(name, np.full_like(part.attributions[name], np.nan)) for part in parts]
        )
        for name in names
    }


def _joined_totals(parts: Sequence[Explanation]) -> dict[str, NodeTotals]:
    """Totals of all parts together."""
    every = [part.nodes for part in parts]
    return {
        name: NodeTotals(*(sum(values) for values in zip(*(dataclasses.astuple(t[name]) for t in every), strict=True)))
        for name in every[0]
    }


def _counted(progress: Progress | None, part: int, parts: int) -> Progress | None:
    """Progress of one piece as progress of all."""
    if progress is None:
        return None
    return lambda done, total: progress(part * total + done, parts * total)


def _joined_record(records: list[Mapping[str, Any]]) -> dict[str, Any]:
    """One record of all parts: all notes, sums of counts and times, the worst parity, per-sample lists in a row."""
    joined = dict(records[0])
    for key, value in joined.items():
        every = [record[key] for record in records]
        if key == "prediction":
            joined[key] = _joined(every)
        elif key == "notes":
            joined[key] = list(dict.fromkeys(note for notes in every for note in notes))
        elif key == "seconds":
            joined[key] = {name: sum(times[name] for times in every) for name in value}
        elif key == "evaluations":
            joined[key] = sum(every)
        elif key == "parity":
            joined[key] = max(every, key=lambda parity: parity["error"])
        elif isinstance(value, list):
            joined[key] = [entry for entries in every for entry in entries]
    return joined


def _joined(predictions: list[dict[str, Any] | None]) -> dict[str, Any] | None:
    known = [p for p in predictions if p is not None]
    if len(known) != len(predictions):
        return None
    return {"kind": known[0]["kind"], "top": [row for p in known for row in p["top"]]}
