"""Running a method: target, parity, parameters, the record of what was done.

Belongs here: the steps that every method shares. Not here: the methods.
"""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import InputError, UsageError
from analyzer.explanation import Completeness, Explanation
from analyzer.methods import registry
from analyzer.methods.context import Context, Result
from analyzer.score import Scored
from analyzer.target import Resolved, TargetLike, output_of, resolve

if TYPE_CHECKING:
    from analyzer.model import Model

Array = NDArray[Any]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Request:
    """What was asked for; see :meth:`analyzer.model.Model.explain`."""

    method: str
    params: Mapping[str, Any]
    target: TargetLike = "top1"
    score: str = "logit"
    seed: int = 0
    backend: str = "auto"
    precision: str = "float32"
    progress: Progress | None = field(default=None, repr=False)
    resolved: Resolved | None = field(default=None, repr=False)
    """The target where it has been resolved already, on a larger batch."""


def explain(model: Model, feed: dict[str, Array], request: Request) -> Explanation:
    """Run a method on inputs that fit the model."""
    info = registry.get(request.method)
    params = info.check(request.params)
    if request.backend not in ("auto", "torch") and info.needs == "trace":
        raise UsageError("backend.unknown", f"unknown backend {request.backend!r}", "use auto or torch")
    if request.precision not in ("float32", "float64"):
        raise UsageError("precision.unknown", f"unknown precision {request.precision!r}", "use float32 or float64")
    for name, value in feed.items():
        if value.ndim and len(value) == 0:
            raise InputError("data.bad_shape", f"input {name!r} holds no samples", "give at least one")
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise InputError("data.nonfinite", f"input {name!r} holds NaN or infinite values", "clean the input first")
    size = model.pieces(feed)
    if size is not None:
        return _in_pieces(model, feed, request, size)
    started = time.perf_counter()
    scored = model.scored(output_of(request.target), request.score)
    values = model.values(feed, list(dict.fromkeys([scored.value, scored.output])))
    given = np.asarray(values[scored.output])
    shown = scored.laid_out(np.asarray(values[scored.value]), given)
    if shown is None:  # the scores have other rows than the output
        scored = model.scored(scored.output, "probability")
        values, shown = {**values, **model.values(feed, [scored.value])}, given
    output = np.asarray(values[scored.value])
    resolved = request.resolved or resolve(request.target, shown, model.labels)
    resolved = replace(resolved, weights=scored.pulled_back(resolved.weights, output))
    context = Context(model, feed, scored, resolved, output, request.seed, request.precision, request.progress)
    record = _record(model, request) | {"prediction": _prediction(model, scored, given)}
    if info.needs == "trace":
        record["parity"] = model.require_parity(feed).to_dict()
    began = time.perf_counter()
    result: Result = info.function(context, **params)
    ended = time.perf_counter()
    record["notes"] = [*resolved.notes, *result.notes]
    record["seconds"] = {"method": ended - began, "total": ended - started}
    record.update(result.record)
    raws = {name: result.raws.get(name, value) for name, value in result.attributions.items()}
    return Explanation(
        request.method, params, result.attributions, raws, feed, resolved.names, resolved.classes, context.score,
        scored.kind, info.signed, result.completeness, record,
    )  # fmt: skip


def _record(model: Model, request: Request) -> dict[str, Any]:
    versions = {name: importlib.metadata.version(name) for name in ("onnx", "numpy")}
    versions |= {"python": platform.python_version()}
    for name in ("onnxplain", "onnxruntime-gpu", "onnxruntime", "torch"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "model": {"path": str(model.path) if model.path else None, "sha256": model.sha256},
        "versions": versions,
        "device": model.device,
        "seed": request.seed,
        "precision": request.precision,
        "preprocess": model.preprocess.to_dict() if model.preprocess else None,
    }


def _prediction(model: Model, scored: Scored, output: Array) -> dict[str, Any] | None:
    """The first five classes of every sample with the model's own output for them; None where there are no classes."""
    rows = output.reshape(len(output), -1) if output.ndim else output.reshape(1, 1)
    if output.ndim > 2 and rows.shape[1] != output.shape[1]:
        return None
    kind = "probability" if scored.squashed_by or scored.kind == "probability" else scored.kind
    names = model.labels.name if model.labels is not None and rows.shape[1] > 1 else str
    best = [np.argsort(-row, kind="stable")[:5] for row in rows]
    return {
        "kind": kind,
        "top": [[[int(i), names(int(i)), float(row[i])] for i in order] for row, order in zip(rows, best, strict=True)],
    }


def _in_pieces(model: Model, feed: dict[str, Array], request: Request, size: int) -> Explanation:
    """A model whose batch is fixed: explain piece by piece and put the pieces together."""
    count = len(next(iter(feed.values())))
    parts = []
    whole = _indexed_whole(model, feed, request)
    for start in range(0, count, size):
        target = request.target
        if isinstance(target, (list, tuple, np.ndarray)):
            if len(target) != count:
                raise UsageError("target.count", f"{len(target)} targets were given for a batch of {count}")
            target = list(target[start : start + size])
        piece = {name: value[start : start + size] for name, value in feed.items()}
        part = replace(request, target=target, progress=_counted(request.progress, start // size, count // size))
        if whole is not None:
            part = replace(part, resolved=whole.rows(start, start + size))
        parts.append(explain(model, piece, part))
    first = parts[0]
    completeness = None
    if first.completeness is not None:
        both = [part.completeness for part in parts if part.completeness is not None]
        completeness = Completeness(np.concatenate([c.total for c in both]), np.concatenate([c.expected for c in both]))
    return replace(
        first,
        attributions={k: np.concatenate([part.attributions[k] for part in parts]) for k in first.attributions},
        raws={k: np.concatenate([part.raws[k] for part in parts]) for k in first.raws},
        inputs=feed,
        target=tuple(name for part in parts for name in part.target),
        classes=tuple(c for part in parts for c in part.classes),
        score=np.concatenate([part.score for part in parts]),
        record=_joined_record([part.record for part in parts]),
        completeness=completeness,
    )


def _indexed_whole(model: Model, feed: dict[str, Array], request: Request) -> Resolved | None:
    """An indexed target on the whole batch, which its first index means; None for other targets."""
    if not (isinstance(request.target, str) and request.target.endswith("]")):
        return None
    scored = model.scored(output_of(request.target), request.score)
    return resolve(request.target, model.predict(feed)[scored.output], model.labels)


def _counted(progress: Progress | None, piece: int, pieces: int) -> Progress | None:
    """Progress of one piece as progress of all."""
    if progress is None:
        return None
    return lambda done, total: progress(piece * total + done, pieces * total)


def _joined_record(records: list[Mapping[str, Any]]) -> dict[str, Any]:
    """One record of all pieces: all notes, sums of counts and times, the worst parity, per-sample lists in a row."""
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
