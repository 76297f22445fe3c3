"""Holding a trace against onnxruntime, and finding the first ONNX node that differs.

Belongs here: comparing and bisecting. Not here: making the trace or the session.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.importer.graph import Graph

Array = NDArray[Any]
#: Largest relative error that passes, by the coarsest floating-point type of a model's values.
TOLERANCE = {"float64": 1e-3, "float32": 1e-3, "float16": 2e-2, "bfloat16": 1e-1}
#: TF32 rounds what a product reads to eleven significant bits, which are float16's.
TOLERANCE_TF32 = TOLERANCE["float16"]
#: Quantised models round at every node: an output may differ by steps of the quantisation.
TOLERANCE_QUANTIZED = 5e-2


@dataclass(frozen=True)
class Parity:
    """The trace beside onnxruntime on one input.

    Attributes
    ----------
    error
        Largest error over all outputs: max|trace - onnxruntime| / max|onnxruntime|.
    tolerance
        What counts as equal for this model's number types.
    outputs
        The error of each output.
    first_difference
        The first ONNX node, in execution order, whose output differs by more than the tolerance; None where nothing does.
    """

    error: float
    tolerance: float
    outputs: Mapping[str, float] = field(default_factory=dict)
    first_difference: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the trace may be explained."""
        return self.error <= self.tolerance

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "ok": self.ok,
            "error": self.error,
            "tolerance": self.tolerance,
            "outputs": dict(self.outputs),
            "first_difference": self.first_difference,
        }


def relative_error(got: Array, expected: Array) -> float:
    """max|got - expected| / max|expected|; infinite where shapes or the positions of non-finite values differ."""
    if got.shape != expected.shape:
        return float("inf")
    if expected.size == 0:
        return 0.0
    if expected.dtype.kind not in "fc" and got.dtype.kind not in "fc":
        a, b = np.asarray(got, np.float64), np.asarray(expected, np.float64)
        return float(np.max(np.abs(a - b)) / max(1.0, float(np.max(np.abs(b)))))
    a, b = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    finite = np.isfinite(b)
    same = np.array_equal(np.isfinite(a), finite) and np.array_equal(a[~finite], b[~finite], equal_nan=True)
    if not same:
        return float("inf")
    if not finite.any():
        return 0.0
    scale = max(float(np.max(np.abs(b[finite]))), 1e-9)
    return float(np.max(np.abs(a[finite] - b[finite])) / scale)


def tolerance_of(graph: Graph, tf32: bool = False) -> float:
    """What counts as equal for a model.

    Parameters
    ----------
    tf32
        Whether its products are computed in TF32.
    """
    operators = {node.op_type for node in graph.walk()}
    if any("Quantize" in op or op.startswith("QLinear") or op.endswith("Integer") for op in operators):
        return TOLERANCE_QUANTIZED
    for name in ("bfloat16", "float16"):
        if any(read().dtype.name == name for read in graph.initializers.values()):
            return TOLERANCE[name]
    return TOLERANCE_TF32 if tf32 else TOLERANCE["float32"]


def compare(got: Mapping[str, Array], expected: Mapping[str, Array], tolerance: float) -> Parity:
    """All outputs of the trace beside onnxruntime's."""
    errors = {name: relative_error(np.asarray(got[name]), np.asarray(value)) for name, value in expected.items()}
    return Parity(max(errors.values(), default=0.0), tolerance, errors)


def first_difference(
    graph: Graph,
    mine: Mapping[str, Array],
    runtime: Callable[[Sequence[str]], Mapping[str, Any]],
    tolerance: float,
) -> str | None:
    """The first node of the main graph with an output that differs.

    Parameters
    ----------
    mine
        Every value that the interpreter computed, by name.
    runtime
        Gives onnxruntime's values for names.
    """
    order = [(node, name) for node in graph.nodes for name in node.outputs if name in mine]
    for start in range(0, len(order), 64):
        part = order[start : start + 64]
        theirs = runtime([name for _, name in part])
        for node, name in part:
            value = theirs.get(name)
            if isinstance(value, np.ndarray) and relative_error(mine[name], value) > tolerance:
                return f"{node} (output {name!r})"
    return None
