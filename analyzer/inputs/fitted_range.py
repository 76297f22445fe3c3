"""What values of a table's columns a model was fitted on, as far as its file says.

Belongs here: following columns through a protobuf's first nodes to constants that scale them, or to trees' thresholds; what the
metadata says; saying what lies outside. Not here: what replaces columns (``analyzer.perturbation``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto

from analyzer.inputs.graph_readers import GraphReaders, attributes_of

Array = NDArray[Any]
#: A column that is scaled to mean 0 and standard deviation 1, or to 0 to 1, has hardly any values beyond this.
_FAR = 3.0
_KEEPS_COLUMNS = frozenset(("Identity", "Cast", "Dropout", "Imputer", "Flatten"))
_JOINS = frozenset(("Concat", "FeatureVectorizer"))
#: Most columns that are followed, and that are named.
_MOST, _SHOWN = 20_000, 3


@dataclass(frozen=True)
class FittedRange:
    """What a model was fitted on.

    Attributes
    ----------
    low, high
        (columns,) float64: values beyond are strange to it; -inf and inf where nothing is known.
    source
        What says so.
    """

    low: Array
    high: Array
    source: str

    def beyond(self, values: Array) -> Array:
        """(columns,) bool: columns of rows (n, columns) in which the middle one of the values lies outside."""
        middle = np.median(np.asarray(values, np.float64).reshape(-1, len(self.low)), axis=0)
        return np.asarray((middle < self.low) | (middle > self.high))


@dataclass(frozen=True)
class _Column:
    """A column of a value: which column of which input it is, and that it is ``scale * column + shift``."""

    owner: str
    index: int
    scale: float = 1.0
    shift: float = 0.0


def fitted_ranges(
    graph: GraphProto, metadata: Mapping[str, str], constant: Callable[[TensorProto], Array]
) -> dict[str, FittedRange]:
    """Input name -> what the file says of its columns, for inputs (batch, columns) of floats of which it says anything.

    Parameters
    ----------
    metadata
        May hold ``feature_means`` and ``feature_stds``, or ``feature_mins`` and ``feature_maxs``: lists as JSON, for the first
        input.
    constant
        Reads a weight.
    """
    widths = {value.name: width for value in graph.input if (width := _width(value)) is not None}
    if not widths:
        return {}
    stated = _stated(metadata, next(iter(widths.values())))
    found = {next(iter(widths)): stated} if stated is not None else {}
    ranges = {name: (np.full(width, -np.inf), np.full(width, np.inf)) for name, width in widths.items()}
    sources: dict[str, str] = {}
    for node, column, (low, high) in _bounds(graph, widths, constant):
        ends = sorted(((low - column.shift) / column.scale, (high - column.shift) / column.scale))
        ranges[column.owner][0][column.index], ranges[column.owner][1][column.index] = ends
        sources.setdefault(column.owner, f"{node.op_type} node {node.name!r}" if node.name else node.op_type)
    return {name: FittedRange(*ranges[name], source) for name, source in sources.items()} | found


def strange(ranges: Mapping[str, FittedRange], given: Mapping[str, Array]) -> list[str]:
    """A note on values that replace columns and lie outside what the model was fitted on; none where nothing does.

    Parameters
    ----------
    given
        Input -> its replacement, (n, columns), or (n,) for a column that is an input.
    """
    known = {
        name: (ranges[name], np.asarray(value, np.float64).reshape(-1, len(ranges[name].low)))
        for name, value in given.items()
        if name in ranges and value.size and value.size % len(ranges[name].low) == 0
    }
    found = []
    for name, (fitted, values) in known.items():
        for at in np.flatnonzero(fitted.beyond(values)):
            label = f"{name}[:,{at}]" if len(fitted.low) > 1 else name
            about = f"{fitted.low[at]:.4g} to {fitted.high[at]:.4g}"
            found.append((f"{label} {np.median(values[:, at]):.4g} (fitted on about {about})", fitted.source))
    if not found:
        return []
    total = sum(len(fitted.low) for fitted, _ in known.values())
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return [
        f"the baseline lies outside what the model was fitted on in {len(found)} of {total} columns, by its {found[0][1]}: "
        f"{', '.join(label for label, _ in found[:_SHOWN])}{more}; rows that it knows explain better: samples:FILE, or "
        "their mean as an array"
    ]


def _width(value: Any) -> int | None:
    """How many columns an input of floats has: one where it is of rank 1."""
    kind = value.type.tensor_type
    sizes = [size.dim_value for size in kind.shape.dim]
    if kind.elem_type not in (TensorProto.FLOAT, TensorProto.DOUBLE) or len(sizes) not in (1, 2):
        return None
    width = 1 if len(sizes) == 1 else sizes[1]
    return width if 0 < width <= _MOST else None


def _stated(metadata: Mapping[str, str], width: int) -> FittedRange | None:
    """What the metadata says."""
    for first, second, far in (("feature_means", "feature_stds", _FAR), ("feature_mins", "feature_maxs", 0.0)):
        try:
            a, b = (np.array(json.loads(metadata[key]), np.float64) for key in (first, second))
        except (KeyError, ValueError, TypeError):
            continue
        if a.shape == b.shape == (width,) and np.isfinite(a).all() and np.isfinite(b).all():
            ends = (a - far * b, a + far * b) if far else (a, b)
            return FittedRange(*ends, f"metadata {first} and {second}")
    return None


def _bounds(
    graph: GraphProto, widths: Mapping[str, int], constant: Callable[[TensorProto], Array]
) -> Iterator[tuple[NodeProto, _Column, tuple[float, float]]]:
    """Nodes that scale columns, or compare them with thresholds, with the range of each column there."""
    constants = GraphReaders.of(graph).constants
    known = {name: [_Column(name, at) for at in range(width)] for name, width in widths.items()}
    for node in graph.node:
        columns = known.get(node.input[0]) if node.input else None
        attributes = attributes_of(node)
        numbers = [constant(constants[name]) if name in constants else None for name in node.input]
        if node.op_type in _JOINS and all(name in known for name in node.input):
            known[node.output[0]] = [column for name in node.input for column in known[name]]
        elif node.op_type in ("Add", "Mul") and columns is None and len(node.input) == 2:
            columns = known.get(node.input[1])  # the weight may come first
            numbers = numbers[::-1]
        if columns is None or node.op_type in _JOINS:
            continue
        if node.op_type in _KEEPS_COLUMNS or (
            node.op_type in ("Reshape", "Unsqueeze", "Squeeze") and len(columns) == 1
        ):
            known[node.output[0]] = columns
        elif node.op_type in ("Gather", "ArrayFeatureExtractor") and numbers[1] is not None:
            chosen = np.asarray(numbers[1]).reshape(-1)
            if chosen.size and (np.abs(chosen) < len(columns)).all():
                known[node.output[0]] = [columns[int(at)] for at in chosen]
        elif node.op_type.startswith("TreeEnsemble"):
            yield from ((node, columns[at], ends) for at, ends in _thresholds(attributes) if at < len(columns))
        else:
            yield from _scaled(node, columns, numbers, attributes, known)


def _scaled(
    node: NodeProto,
    columns: Sequence[_Column],
    numbers: Sequence[Array | None],
    attributes: Mapping[str, Any],
    known: dict[str, list[_Column]],
) -> Iterator[tuple[NodeProto, _Column, tuple[float, float]]]:
    """What a node does to columns, if it scales or shifts them; the range of those of which both are now known."""
    factors = _factors(node.op_type, numbers, attributes)
    if factors is None:
        return
    try:
        scale, shift = (np.broadcast_to(np.asarray(part, np.float64).reshape(-1), len(columns)) for part in factors)
    except ValueError:
        return
    now = [
        _Column(c.owner, c.index, float(c.scale * a), float(c.shift * a + b))
        for c, a, b in zip(columns, scale, shift, strict=True)
    ]
    known[node.output[0]] = now
    for column in now:
        # of one scaled alone the middle isn't known, nor the spread of one shifted alone
        if column.scale not in (0.0, 1.0) and column.shift != 0 and np.isfinite([column.scale, column.shift]).all():
            yield node, column, (-_FAR, _FAR)


def _factors(
    operator: str, numbers: Sequence[Array | None], attributes: Mapping[str, Any]
) -> tuple[Array | float, Array | float] | None:
    """Scale and shift of an operator that does no more; None for others."""
    if operator == "Scaler":
        scale = np.asarray(attributes.get("scale", [1.0]), np.float64)
        return scale, -scale * np.asarray(attributes.get("offset", [0.0]), np.float64)
    if operator == "BatchNormalization" and len(numbers) == 5 and all(each is not None for each in numbers[3:]):
        mean, variance = (np.asarray(each, np.float64) for each in numbers[3:])
        deviation = np.sqrt(variance + float(attributes.get("epsilon", 1e-5)))
        return 1 / deviation, -mean / deviation
    by = numbers[1] if len(numbers) == 2 else None
    if by is None or operator not in ("Add", "Sub", "Mul", "Div") or by.dtype.kind not in "fiu":
        return None
    if operator in ("Add", "Sub"):
        return 1.0, by if operator == "Add" else -np.asarray(by, np.float64)
    with np.errstate(divide="ignore"):
        return (by if operator == "Mul" else 1 / np.asarray(by, np.float64)), 0.0


def _thresholds(attributes: Mapping[str, Any]) -> Iterator[tuple[int, tuple[float, float]]]:
    """Column -> the span of the thresholds that trees compare it with, as much again on either side."""
    modes = np.array(attributes.get("nodes_modes", []))
    columns = np.asarray(attributes.get("nodes_featureids", []), int)
    values = np.asarray(attributes.get("nodes_values", []), np.float64)
    if not len(modes) == len(columns) == len(values):
        return
    inner = modes != b"LEAF"
    for column in np.unique(columns[inner]):
        of = values[inner & (columns == column)]
        span = float(np.ptp(of))
        if span > 0:
            yield int(column), (float(of.min()) - span, float(of.max()) + span)
