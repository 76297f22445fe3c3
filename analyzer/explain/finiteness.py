"""No number that isn't one: parameters, scores and maps are finite, or the explanation is refused.

Belongs here: finding NaN and infinities, and saying where they come from. Not here: scores of changed copies
(``analyzer.perturbation.evaluator`` refuses those), inputs as they are given (``pipeline``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.engines.parity import first_nonfinite
from analyzer.errors import InputError, UnsupportedError, UsageError
from analyzer.explanation import Result
from analyzer.methods.registry import MethodInfo
from analyzer.onnx_model import OnnxModel

Array = NDArray[Any]
#: Types of parameters that may be numbers.
_NUMERIC = ("Any", "float", "int", "ndarray")
_LARGEST = float(np.finfo(np.float32).max)


def require_finite_params(info: MethodInfo, params: Mapping[str, Any]) -> None:
    """Refuse NaN, infinities and what single precision can't hold among a method's parameters, before anything runs.

    Numbers may also stand in texts: of a parameter that takes numbers, and of rules.

    Raises
    ------
    UsageError
        ``params.nonfinite`` naming the parameter.
    """
    for name, value in params.items():
        numeric = any(word in info.parameters[name].type_name for word in _NUMERIC) if name in info.parameters else True
        if not _finite(value, numeric):
            shown = f"={value}" if isinstance(value, (float, str)) else ""
            what = "holds NaN, an infinite value or one beyond single precision"
            raise UsageError("params.nonfinite", f"{info.name}: {name}{shown} {what}", "give finite numbers")


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
        f"the explained score of sample {sample} is {score[sample]}{first_nonfinite(model, feed)}",
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


def _finite(value: Any, numeric: bool) -> bool:
    """Whether all numbers of a value are finite in single precision; ``numeric``: texts that are numbers count as such."""
    if isinstance(value, (float, complex, np.inexact)):
        return bool(abs(value.real) <= _LARGEST and abs(value.imag) <= _LARGEST)
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "fc":
            wide = value.astype(np.complex128)
            return bool(((np.abs(wide.real) <= _LARGEST) & (np.abs(wide.imag) <= _LARGEST)).all())
        return value.dtype.kind not in "OU" or all(_finite(each, numeric) for each in value.ravel().tolist())
    if isinstance(value, (list, tuple, set)):
        return all(_finite(each, numeric) for each in value)
    if isinstance(value, Mapping):  # rules as text
        return all(_finite(each, True) for text in value.values() for each in re.split("[:,=/]", str(text)))
    return not (numeric and isinstance(value, str)) or _finite_text(value)


def _finite_text(text: str) -> bool:
    try:
        return abs(float(text)) <= _LARGEST
    except ValueError:
        return True
