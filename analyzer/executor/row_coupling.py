"""Whether rows that run together change each other's outputs: by a model's operators, and by running it.

Belongs here: finding out. Not here: what follows from it for batches (``batched_runs``, ``analyzer.perturbation``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from analyzer.errors import AnalyzerError
from analyzer.importer.subgraphs import with_subgraphs

Array = NDArray[Any]
Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]
#: Operators that quantise by the range of all their input's values.
_SPANS_THE_BATCH = frozenset(("DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"))
_RANDOM = frozenset(
    ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial")
)
#: How far a row's outputs may differ between runs, of its largest one: in half precision, and else.
_TOLERANCE_HALF, _TOLERANCE = 2e-2, 2e-3


@dataclass(frozen=True)
class Coupling:
    """How rows depend on each other.

    Attributes
    ----------
    kind
        ``none``; ``some``: a row alone has other outputs than beside others; ``whole``: a row can't be run alone, so that
        all rows together are one sample.
    reason
        What makes it so, as the subject of a sentence.
    """

    kind: Literal["none", "some", "whole"] = "none"
    reason: str = ""


NO_COUPLING = Coupling()


def coupling_operator(model: onnx.ModelProto) -> str | None:
    """The operator by which a row's outputs depend on the rows beside it; None where there is none.

    Such are those that quantise by the largest value of the whole batch, and normalisations by its statistics.
    """
    return _first(model, lambda node: node.op_type in _SPANS_THE_BATCH or _by_statistics(node))


def random_operator(model: onnx.ModelProto) -> str | None:
    """The operator that draws random numbers; None where there is none."""
    return _first(model, lambda node: node.op_type in _RANDOM)


def found_coupling(run: Run, feed: Mapping[str, Array], axes: Mapping[str, int | None], *, fixed: bool) -> Coupling:
    """Run the first row beside other rows, and alone, and compare its outputs.

    The other rows are zeros, of whole numbers the row's own in reverse (each a word that the model knows), of text the row.

    Parameters
    ----------
    run
        Gives the model's outputs that have rows, these on the first axis.
    axes
        Input name -> the axis that counts its rows; None for an input that all share.
    fixed
        Whether the model takes no other batch.
    """
    counts = {feed[name].shape[axis] for name, axis in axes.items() if axis is not None}
    count = next(iter(counts), 0)
    if len(counts) != 1 or (fixed and count == 1):
        return NO_COUPLING
    before = run(feed)
    first = {name: v if axes[name] is None else v.take([0], axes[name]) for name, v in feed.items()}
    beside = {name: _beside_others(first[name], axes[name], max(count, 2)) for name in feed}
    reason = "what the model computes"
    if count > 1 and not fixed:
        try:
            alone = run(first)
        except AnalyzerError:
            return Coupling("whole", reason)
        if not _same(before, alone):
            return Coupling("some", reason)
    try:
        same = _same(before, run(beside))
    except AnalyzerError:
        same = False
    return NO_COUPLING if same else Coupling("whole" if fixed else "some", reason)


def _beside_others(row: Array, axis: int | None, count: int) -> Array:
    if axis is None:
        return row
    other = row
    if row.dtype.kind in "iu":
        other = row.reshape(-1)[::-1].reshape(row.shape)
    elif row.dtype.kind in "fb":
        other = np.zeros_like(row)
    return np.concatenate([row, np.repeat(other, count - 1, axis)], axis)


def _same(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    """Whether the first rows of outputs agree."""
    for name, value in one.items():
        if not isinstance(value, np.ndarray) or not value.ndim or value.dtype.kind != "f":
            continue
        twin = np.asarray(other[name])
        if twin.shape[1:] != value.shape[1:] or not len(twin):
            return False
        a, b = value[0].astype(np.float64), twin[0].astype(np.float64)
        tolerance = _TOLERANCE_HALF if value.dtype.itemsize == 2 else _TOLERANCE
        if np.isfinite(a).all() and not np.abs(a - b).max(initial=0) <= tolerance * np.abs(a).max(initial=0):
            return False
    return True


def _by_statistics(node: onnx.NodeProto) -> bool:
    return node.op_type == "BatchNormalization" and any(e.name == "training_mode" and e.i for e in node.attribute)


def _first(model: onnx.ModelProto, wanted: Callable[[onnx.NodeProto], bool]) -> str | None:
    bodies = (model.graph, *model.functions)
    nodes = (node for body in bodies for graph in with_subgraphs(body) for node in graph.node)
    return next((str(node.op_type) for node in nodes if wanted(node)), None)
