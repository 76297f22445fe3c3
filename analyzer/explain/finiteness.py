"""No number that isn't one: parameters, scores and maps are finite, or the explanation is refused.

Belongs here: finding NaN and infinities, and saying where they come from. Not here: scores of changed copies
(``analyzer.perturbation.evaluator`` refuses those), inputs as they are given (``pipeline``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.engines.parity import inner_values
from analyzer.errors import AnalyzerError, InputError, UnsupportedError, UsageError
from analyzer.explanation import Result
from analyzer.onnx_model import OnnxModel

Array = NDArray[Any]


def require_finite_params(method: str, params: Mapping[str, Any]) -> None:
    """Refuse NaN and infinities among a method's parameters.

    Raises
    ------
    UsageError
        ``params.nonfinite`` naming the parameter.
    """
    for name, value in params.items():
        if not _finite(value):
            shown = f"={value}" if isinstance(value, float) else ""
            raise UsageError(
                "params.nonfinite", f"{method}: {name}{shown} holds NaN or an infinite value", "give finite numbers"
            )


def require_finite_score(model: OnnxModel, feed: Mapping[str, Array], score: Array) -> None:
    """Refuse an explained score that isn't finite.

    Raises
    ------
    InputError
        ``score.nonfinite`` naming the sample and the first ONNX node that gives NaN or an infinite value for it.
    """
    if np.isfinite(score).all():
        return
    sample = int(np.flatnonzero(~np.isfinite(score))[0])
    raise InputError(
        "score.nonfinite",
        f"the explained score of sample {sample} is {score[sample]}{_first_nonfinite(model, feed)}",
        "there is nothing to explain: give another input or target",
    )


def require_finite_result(method: str, result: Result) -> None:
    """Refuse a map, or a promised sum, that isn't finite.

    Raises
    ------
    UnsupportedError
        ``result.nonfinite``.
    """
    raws = {name: raw for name, raw in result.raws.items() if raw is not result.attributions.get(name)}
    maps = {**result.attributions, **{f"{name} (raw)": raw for name, raw in raws.items()}}
    for name, value in maps.items():
        if not all_finite(value):
            share = float((~np.isfinite(value)).mean())
            raise UnsupportedError(
                "result.nonfinite",
                f"{method} gives NaN or infinite values for {share:.0%} of {name!r}: the model has no derivative, or no "
                "value, at a point that the method asks about",
                "choose another baseline or fill, another method, or precision=float64",
            )
    complete = result.completeness
    if complete is not None and not (np.isfinite(complete.total).all() and np.isfinite(complete.expected).all()):
        raise UnsupportedError(
            "result.nonfinite",
            f"{method} compares with a score that isn't finite: the model has none at the baseline",
            "choose another baseline",
        )


def all_finite(value: Array) -> bool:
    """Whether all numbers of an array are finite: a finite sum of squares says so sooner than looking at each."""
    flat = value.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.vdot(flat, flat)) or np.isfinite(flat).all())


def _finite(value: Any) -> bool:
    if isinstance(value, (float, np.floating)):
        return bool(np.isfinite(value))
    if isinstance(value, np.ndarray):
        return value.dtype.kind not in "fc" or all_finite(value)
    if isinstance(value, (list, tuple)):
        return all(_finite(each) for each in value)
    return True


def _first_nonfinite(model: OnnxModel, feed: Mapping[str, Array]) -> str:
    """Which node is the first whose value isn't finite, in words; empty where that can't be found out."""
    nodes = [node for node in model.graph.nodes if node.outputs and node.outputs[0]]
    try:
        values = inner_values(model, feed, [node.outputs[0] for node in nodes])
    except AnalyzerError:  # a value that can't be given out
        return ""
    for node in nodes:
        value = values[node.outputs[0]]
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and not np.isfinite(value).all():
            return f": {node.op_type} node {node.name!r} is the first whose value isn't finite"
    return ""
