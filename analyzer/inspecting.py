"""What a model takes, gives and contains, and which methods work on it.

Belongs here: facts about a model for people and programs. Not here: printing (``cli``), finding the facts of a trace
(``importer``, ``graph_rules``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from analyzer.errors import AnalyzerError
from analyzer.presenting import operators, parameters

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from analyzer.model import Model

#: What a free dimension becomes in a trial input: the batch, the sides of pictures, other axes.
_FREE_BATCH, _FREE_SIDE, _FREE_LENGTH = 1, 224, 16


def inspect(model: Model, try_methods: bool = True) -> dict[str, Any]:
    """Facts about a model, JSON-ready.

    Parameters
    ----------
    try_methods
        Trace the model on a trial input and say which methods work; imports torch.

    Returns
    -------
    dict
        ``file``, ``inputs``, ``outputs``, ``operators``, ``parameters``, ``explained``, ``methods`` and more.
    """
    proto = model.proto
    scored: dict[str, Any]
    try:
        found = model.scored()
        scored = {"output": found.output, "value": found.value, "kind": found.kind, "taken_off": found.squashed_by}
    except AnalyzerError as problem:
        scored = {"error": str(problem)}
    facts: dict[str, Any] = {
        "file": {
            "path": str(model.path) if model.path else None,
            "sha256": model.sha256,
            "bytes": model.size,
            "producer": f"{proto.producer_name} {proto.producer_version}".strip(),
            "ir_version": proto.ir_version,
            "opsets": {entry.domain or "ai.onnx": entry.version for entry in proto.opset_import},
            "graph": proto.graph.name,
            "metadata": model.metadata,
        },
        "inputs": {name: {"dtype": s.dtype, "shape": list(s.shape)} for name, s in model.inputs.items()},
        "outputs": {name: {"dtype": s.dtype, "shape": list(s.shape)} for name, s in model.outputs.items()},
        "nodes": len(proto.graph.node),
        "operators": operators(model),
        "parameters": parameters(model),
        "functions": len(proto.functions),
        "labels": len(model.labels) if model.labels else None,
        "preprocess": model.preprocess.to_dict() if model.preprocess else None,
        "warnings": list(model.loaded.warnings),
        "explained": scored,
    }
    if try_methods:
        facts |= _methods(model)
    return facts


def trial_input(model: Model, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Random values that fit the model's inputs; free dimensions get usual sizes."""
    rng = np.random.default_rng(seed)
    feed = {}
    for name, spec in model.inputs.items():
        shape = [
            size if isinstance(size, int) else _FREE_BATCH if axis == 0 else _free(len(spec.shape))
            for axis, size in enumerate(spec.shape)
        ]
        if spec.dtype.startswith(("float", "bfloat")):
            feed[name] = rng.standard_normal(shape).astype(spec.dtype if spec.dtype != "bfloat16" else np.float32)
        elif spec.dtype == "bool":
            feed[name] = np.ones(shape, bool)
        else:
            feed[name] = np.ones(shape, spec.dtype)
    return feed


def _free(rank: int) -> int:
    return _FREE_SIDE if rank == 4 else _FREE_LENGTH


def _methods(model: Model) -> dict[str, Any]:
    """Which methods work: those of the runtime where the model runs, white-box ones where it can be traced."""
    from analyzer.methods import registry

    verdicts: dict[str, dict[str, Any]] = {}
    runs, reason = True, ""
    feed: dict[str, NDArray[Any]] = {}
    try:
        feed = trial_input(model)
        model.predict(feed)
    except (AnalyzerError, TypeError, ValueError) as problem:
        runs, reason = False, f"not tried: no trial input fits ({problem})"
    parity, traceable, why = None, runs, reason
    if runs:
        try:
            parity = model.require_parity(feed)
        except AnalyzerError as problem:
            traceable, why = False, str(problem)
    for name, info in registry.methods().items():
        if info.needs == "runtime":
            verdicts[name] = {"works": runs or None, "reason": reason}
        elif not traceable:
            verdicts[name] = {"works": False if runs else None, "reason": why}
        else:
            verdicts[name] = _try(model, feed, name)
    layer = next((v["layer"] for v in verdicts.values() if v.get("layer")), None)
    return {"methods": verdicts, "parity": parity.to_dict() if parity else None, "cam_layer": layer}


def _try(model: Model, feed: dict[str, NDArray[Any]], name: str) -> dict[str, Any]:
    """Explain the trial input with few evaluations."""
    quick: dict[str, Any] = {"integrated-gradients": {"steps": 1}, "smoothgrad": {"samples": 1}}.get(name, {})
    try:
        done = model.explain(feed, method=name, **quick)
    except AnalyzerError as problem:
        return {"works": False, "reason": str(problem)}
    return {"works": True, "reason": "", "layer": done.record.get("layer")}
