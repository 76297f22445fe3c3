"""Running a method: target, parity, parameters, the record of what was done.

Belongs here: the steps that every method shares. Not here: the methods, what is explained (``aiming``), fixed batches
(``pieces``).
"""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import InputError, UnsupportedError, UsageError
from analyzer.explain import backends
from analyzer.explain.fixed_batch import in_pieces
from analyzer.explain.request import Request
from analyzer.explanation import Explanation, NodeTotals
from analyzer.methods import registry
from analyzer.methods.context import Context, Result
from analyzer.targets.resolve import aim

if TYPE_CHECKING:
    from analyzer.model import Model
    from analyzer.targets.language import TargetLike

Array = NDArray[Any]


def explain(model: Model, feed: dict[str, Array], request: Request) -> Explanation:
    """Run a method on inputs that fit the model."""
    info = registry.get(request.method)
    if request.layer is not None and "layer" in info.parameters:
        request = replace(request, params={**request.params, "layer": request.layer}, layer=None)
    params = info.check(request.params)
    if request.at is not None and not info.inner:
        able = ", ".join(name for name, known in registry.methods().items() if known.inner)
        raise UsageError("at.method", f"{info.name} can't be given at an inner value", f"methods that can: {able}")
    backends.check(request.backend, request.precision)
    if request.precision not in ("float32", "float64"):
        raise UsageError("precision.unknown", f"unknown precision {request.precision!r}", "use float32 or float64")
    for name, value in feed.items():
        if value.ndim and len(value) == 0:
            raise InputError("data.bad_shape", f"input {name!r} holds no samples", "give at least one")
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise InputError("data.nonfinite", f"input {name!r} holds NaN or infinite values", "clean the input first")
    size = model.pieces(feed)
    if size is not None:
        return in_pieces(model, feed, request, size, explain)
    started = time.perf_counter()
    scored, resolved, output, aimed = aim(model, feed, request, info.needs)
    context = Context(
        model, feed, scored, resolved, output, request.seed, request.precision, request.progress, request.at,
        request.shared,
    )  # fmt: skip
    record = _record(model, request) | aimed
    began = time.perf_counter()
    result: Result
    if info.needs == "trace":
        result, ran = backends.run(context, request.backend, lambda given: info.function(given, **params))
        record.update(ran)
    else:
        result = info.function(context, **params)
    ended = time.perf_counter()
    record["notes"] = [*resolved.notes, *result.notes]
    record["seconds"] = {"method": ended - began, "total": ended - started}
    if context.masks is not None:
        record["masks"] = context.masks
    if context.files:
        record["fills"] = context.files
    record.update(result.record)
    raws = {name: result.raws.get(name, value) for name, value in result.attributions.items()}
    complete = result.completeness if request.at is None else None  # others may carry the rest past an inner value
    return Explanation(
        request.method, params, result.attributions, raws, feed, resolved.names, resolved.classes, context.score,
        scored.kind, info.signed, complete, record, functools.partial(totals, replace(context), info, params),
    )  # fmt: skip


def totals(context: Context, info: registry.MethodInfo, params: Mapping[str, Any]) -> dict[str, NodeTotals]:
    """Relevance totals of every ONNX node, from one more sweep.

    Raises
    ------
    UnsupportedError
        ``nodes.method`` for methods that aren't one reverse sweep.
    """
    refusal = UnsupportedError(
        "nodes.method", f"{info.name} isn't one reverse sweep: it has no totals by node", "use lrp, or gradient"
    )
    if info.needs != "trace" or info.family not in ("gradient", "relevance"):
        raise refusal
    from graph_rules.totals import NoTotalsError, RelevanceTotals

    again, tally = replace(context, shared=None), RelevanceTotals()
    again.engine.tally = tally
    try:
        info.function(again, **params)
    except NoTotalsError:
        raise refusal from None
    if tally.sweeps != 1:
        raise refusal
    return {name: NodeTotals(*found) for name, found in tally.by_onnx_node().items()}


def explain_targets(
    model: Model, feed: dict[str, Array], request: Request, targets: Sequence[TargetLike]
) -> list[Explanation]:
    """One explanation per target; where the method needs a trace, one forward pass serves all."""
    shared: dict[Any, Any] = {"engines": {}}
    try:
        return [explain(model, feed, replace(request, target=target, shared=shared)) for target in targets]
    finally:
        for engine in shared["engines"].values():
            engine.passes.clear()
        shared["engines"].clear()


def _record(model: Model, request: Request) -> dict[str, Any]:
    return {
        "model": {"path": str(model.path) if model.path else None, "sha256": model.sha256},
        "versions": dict(_versions()),
        "device": model.device,
        "seed": request.seed,
        "precision": request.precision,
        "preprocess": model.preprocess.to_dict() if model.preprocess else None,
    }


@functools.cache
def _versions() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in ("onnx", "numpy")}
    versions |= {"python": platform.python_version()}
    for name in ("onnxplain", "onnxruntime-gpu", "onnxruntime", "torch"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
