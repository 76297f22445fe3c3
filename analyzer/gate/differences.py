"""How far two runs' values lie apart, input by input.

Belongs here: comparing arrays of numbers, and maps by rank. Not here: what counts as equal (the checks), comparing whole traces
(``analyzer.importer.parity``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeGuard

import numpy as np

from analyzer.explanation import Explanation
from analyzer.gate.outcome import Array
from analyzer.model import Model

Stat = Literal["max", "p99", "mean"]
_STATS: dict[str, Callable[[Array], Any]] = {"max": np.max, "p99": lambda v: np.quantile(v, 0.99), "mean": np.mean}
#: Relevance below this share of a map's largest has no rank: its sign and order are rounding.
_RANKED = 1e-6


def difference(got: Any, expected: Any, stat: Stat = "max") -> tuple[float, float]:
    """How far values lie from those expected, and how large the largest of these is.

    Returns
    -------
    tuple
        (a statistic of |got - expected|, max|expected|), over what is finite in ``expected``; infinitely far where shapes or the
        places of what isn't finite differ.
    """
    a, b = np.asarray(got), np.asarray(expected)
    if a.shape != b.shape:
        return np.inf, 0.0
    a, b = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(np.isfinite(a), finite) or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return np.inf, 0.0
    if not finite.any():
        return 0.0, 0.0
    return float(_STATS[stat](np.abs(a[finite] - b[finite]))), float(np.abs(b[finite]).max())


def excess(
    got: Mapping[str, Any],
    expected: Mapping[str, Any],
    rows: int,
    batch: int,
    allowed: Callable[[float], float],
    stat: Stat = "max",
) -> tuple[Array, dict[str, float]]:
    """By how much each row's outputs miss what is allowed.

    Parameters
    ----------
    rows, batch
        How many rows count, and how many were run: those behind are repetitions.
    allowed
        The size of the largest expected value -> how far off a value may be.

    Returns
    -------
    tuple
        ((rows,) the worst difference over what is allowed, at most 1 where all agree; the same by output, of the worst row).
    """
    found, by_output = np.zeros(rows), dict[str, float]()
    for name, value in expected.items():
        theirs = got.get(name)
        if not numeric(value) or not numeric(theirs):
            continue
        apart = has_rows(value, batch) and theirs.ndim == value.ndim and len(theirs) in (rows, batch)
        pairs = [(theirs[row], value[row]) for row in range(rows)] if apart else [(theirs, value)] * rows
        each = np.array([_ratio(*difference(a, b, stat), allowed) for a, b in pairs])
        found, by_output[name] = np.maximum(found, each), float(each.max(initial=0.0))
    return found, by_output


def has_rows(value: Any, batch: int) -> bool:
    """Whether a value's first axis counts the samples of a batch."""
    return numeric(value) and value.ndim > 0 and len(value) == batch


def _ratio(off: float, size: float, allowed: Callable[[float], float]) -> float:
    most = allowed(size)
    return 0.0 if off == 0 else off / most if most > 0 else np.inf


def numeric(value: Any) -> TypeGuard[Array]:
    """Whether a value is an array of numbers."""
    return isinstance(value, np.ndarray) and value.dtype.kind in "fiub"


def rank_correlation(a: Array, b: Array) -> float:
    """Spearman's correlation of two maps' values; equal maps are 1 apart from that, NaN where one of them is constant.

    Values that are next to nothing beside a map's largest count as 0.
    """
    from scipy.stats import rankdata

    if np.array_equal(a, b):
        return 1.0
    left, right = (rankdata(_clipped(each)) for each in (a, b))
    left, right = left - left.mean(), right - right.mean()
    norm = float(np.sqrt((left**2).sum() * (right**2).sum()))
    return float((left * right).sum() / norm) if norm > 0 else np.nan


def _clipped(values: Array) -> Array:
    """A map in steps of what has a rank."""
    flat = np.asarray(values, np.float64).reshape(-1)
    size = np.abs(flat).max(initial=0.0)
    return np.rint(flat / (size * _RANKED)) if size > 0 else flat


def flat_map(model: Model, e: Explanation, row: int) -> Array:
    """One sample's relevance of all inputs as one vector; all of it where samples share an input."""
    count = len(e.target)
    axes = model.batch_axes(e.inputs, model.batch_of(e.inputs))
    parts = []
    for name, value in e.attributions.items():
        axis = axes.get(name, 0)
        own = value if axis is None or value.shape[axis] != count else np.take(value, row, axis)
        parts.append(np.asarray(own, np.float64).reshape(-1))
    return np.concatenate(parts)
