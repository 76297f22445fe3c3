"""One sweep as an ONNX model that fits every target: the weights on the scores are an input.

Belongs here: recording, writing and checking such a model. Not here: an entire method as a model for deployment
(``analyzer.export``), where compiled sweeps are cached (``sweep_cache``). A method's numpy code runs around it as it does
around the torch engine.

It takes the original's inputs (those of half precision as float32), ``onnxplain.weights`` shaped like the scores, for a sweep
from given embeddings ``onnxplain.at.NAME`` for every one, and for a difference ``onnxplain.start.NAME``. It gives the model's
own outputs, ``onnxplain.scores``, ``onnxplain.relevance.NAME`` and, where it isn't an input, ``onnxplain.values.NAME``; of a
conserving table also ``onnxplain.absorbed``, where relevance was kept.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analyzer.compiler import agreement
from analyzer.compiler.free_batch import HINT, Recorded, write
from analyzer.compiler.recorder import SweepRecorder
from analyzer.compiler.recording_engine import RecordedTarget, RecordingEngine
from analyzer.compiler.subject import ABOUT, Compiled, Subject
from analyzer.compiler.unify import FixedBatchError
from analyzer.engines.protocol import Array, SweepResult, SweepSpec, at_least_single
from analyzer.engines.torch_engine import TorchEngine
from analyzer.engines.traced_score import selections
from analyzer.errors import UnsupportedError
from analyzer.executor.session import Session
from analyzer.importer.conversion import as_tensor
from analyzer.importer.parity import tolerance_of
from analyzer.importer.recorder import recorded
from analyzer.onnx_model import OnnxModel
from graph_rules.rectifiers import plain_units
from graph_rules.totals import Absorption

MakeEngine = Callable[[Subject], TorchEngine]


def compile_sweep(
    model: OnnxModel, make_engine: MakeEngine, subject: Subject, spec: SweepSpec
) -> tuple[bytes, Compiled]:
    """The serialised model, and it loaded.

    Parameters
    ----------
    make_engine
        Makes the torch engine for a subject, on whose inputs it has verified the trace.

    Raises
    ------
    UnsupportedError
        ``compile.data_dependent``, ``compile.operator``, ``compile.size``, and what the engine refuses.
    ParityError
        ``parity.mismatch``, ``compile.mismatch``: the trace or the compiled model gives other numbers.
    """
    engine = make_engine(subject)

    def record(count: int | None) -> Recorded:
        return _record(engine if count is None else make_engine(subject.of(model, count)), spec)

    def describe(facts: Mapping[str, Any], batch: int | None) -> dict[str, str]:
        return {ABOUT: json.dumps(_about(model, facts, batch))}

    reason = "" if model.fixed_batch is None else "the model's own batch is fixed"
    written = write(record, subject.batch, reason, describe)
    about = _about(model, written.facts, written.batch)
    found = Compiled(model.open_session(written.content), about)
    here = found if model.device == "cpu" else Compiled(Session(written.content, threads=model.threads), about)
    _check_against_torch(
        engine, make_engine, subject, spec, here
    )  # on the CPU, as torch's: it is the graph that is checked
    return written.content, found


def _about(model: OnnxModel, facts: Mapping[str, Any], batch: int | None) -> dict[str, Any]:
    return {**facts, "free": batch is None, "tolerance": tolerance_of(model.graph)}


def _record(engine: TorchEngine, spec: SweepSpec) -> Recorded:
    traced = engine.traced
    _refuse_data_dependent(traced.trace.data_dependent, "node")
    shape = traced.output.meta["shape"]
    about: dict[str, Any] = {"sources": [[entry.name, entry.tokens] for entry in traced.explained], "rank": len(shape)}
    if spec.table.rectifying:
        about["units"] = list(plain_units(traced.plan(spec.table, tuple(traced.nodes.values()))))
    if spec.layer is not None:
        at = traced.feature_layer(spec.layer)
        read = [entry.name for entry in traced.explained if entry.node in at.sources]
        about |= {"layer": at.name, "inputs": read, "obstacles": list(traced.obstacles(at.node))}
    if engine.weights.size != math.prod(shape):
        raise FixedBatchError("the scores don't follow the batch")
    embeddings = engine.values() if spec.embedded else {}
    recorder = SweepRecorder()
    with recorder:
        feed = {name: as_tensor(at_least_single(engine.inputs[name])) for name in traced.trace.inputs}
        inputs = {name: recorder.placeholder(name, value) for name, value in feed.items()}
        given = {
            entry.name: recorder.placeholder(f"onnxplain.at.{entry.name}", as_tensor(embeddings[entry.name]))
            for entry in traced.explained
            if spec.embedded and entry.tokens
        }
        weights = recorder.placeholder("onnxplain.weights", as_tensor(engine.weights.astype(np.float32)).reshape(shape))
        target = RecordedTarget(lambda scores: weights.to(scores.dtype))
        outputs = _swept(RecordingEngine(engine, inputs, target), spec, given, recorder, about)
    _refuse_data_dependent(recorder.data_dependent, "sweep")
    return Recorded(recorder.finish(outputs), list(outputs), about)


def _swept(
    engine: RecordingEngine, spec: SweepSpec, given: Mapping[str, Any], recorder: SweepRecorder, about: dict[str, Any]
) -> dict[str, Tensor]:
    """The outputs of a recorded sweep by name."""
    extra: dict[str, Tensor] = {}
    result: Any
    if spec.difference:
        result = _compared(engine, spec, recorder, extra, about)
    elif spec.layer is not None:
        found = engine.at_layer(spec.layer)
        result = SweepResult({found.name: found.gradients}, {found.name: found.values}, found.score)
    elif given:
        result = engine.sweep_from(spec.table, spec.initial, given)
    else:
        engine.absorption = Absorption() if spec.table.conserving else None
        result = engine.sweep(spec.table, spec.initial)
        if engine.absorption is not None:
            about["absorbed"], extra["onnxplain.absorbed"] = engine.absorption.labelled()
    scores = engine.target.scores
    assert scores is not None
    outputs_of_model = {} if given else engine.target.outputs
    about["outputs"] = [name for name in outputs_of_model if name not in engine.example.model.behind]
    inputs_themselves = {entry.name for entry in engine.explained if not entry.tokens} if spec.layer is None else set()
    return {
        **outputs_of_model,
        "onnxplain.scores": scores,
        **extra,
        **{f"onnxplain.relevance.{name}": value for name, value in result.relevance.items()},
        **{f"onnxplain.values.{name}": value for name, value in result.values.items() if name not in inputs_themselves},
    }


def _compared(
    engine: RecordingEngine, spec: SweepSpec, recorder: SweepRecorder, outputs: dict[str, Tensor], about: dict[str, Any]
) -> SweepResult:
    """Multipliers and values; adds the scores at the baseline, and how many elements each selecting node chooses otherwise."""
    starts = {}
    for name, value in engine.example.values().items():
        starts[name] = recorder.placeholder(f"onnxplain.start.{name}", torch.zeros_like(as_tensor(value)))
    result, _, scores, run = engine.compared(spec.table, starts)
    outputs["onnxplain.scores_at_start"] = scores
    varying = {k: [(a, b) for a, b in pairs if recorded(a) or recorded(b)] for k, pairs in selections(run).items()}
    about["selecting"] = [name for name, pairs in varying.items() if pairs]
    counts = [
        torch.stack([(a != b).to(torch.float32).reshape(-1).sum(0) for a, b in varying[name]]).sum(0)
        for name in about["selecting"]
    ]
    if counts:
        outputs["onnxplain.selecting"] = torch.stack(counts)
    return result


def _refuse_data_dependent(reason: str | None, what: str) -> None:
    if reason is not None:
        raise UnsupportedError(
            "compile.data_dependent",
            f"what {what} {reason!r} does depends on the input's values: no fixed graph says it",
            HINT,
        )


def _check_against_torch(
    engine: TorchEngine, make_engine: MakeEngine, subject: Subject, spec: SweepSpec, compiled: Compiled
) -> None:
    """Refuse a compiled sweep that differs from the torch engine's on this input.

    Raises
    ------
    ParityError
        ``compile.mismatch``.
    """
    embeddings = engine.values() if spec.embedded else {}
    starts = {name: np.zeros_like(value) for name, value in engine.values().items()} if spec.difference else {}
    expected = _relevance(engine, spec, embeddings, starts)
    got = compiled.session.run(
        compiled.feed(subject, embeddings, starts), [f"onnxplain.relevance.{name}" for name in expected]
    )

    def perturbed() -> Mapping[str, Array]:
        near = make_engine(dataclasses.replace(subject, inputs=agreement.with_rounding_noise(subject.inputs)))
        return _relevance(near, spec, agreement.with_rounding_noise(embeddings), starts)

    agreement.require(
        spec.table.name, {name: got[f"onnxplain.relevance.{name}"] for name in expected}, expected, perturbed, HINT
    )


def _relevance(
    engine: TorchEngine, spec: SweepSpec, embeddings: Mapping[str, Array], starts: Mapping[str, Array]
) -> Mapping[str, Array]:
    if spec.difference:
        return engine.difference(spec.table, starts)[0].relevance
    if spec.layer is not None:
        found = engine.at_layer(spec.layer)
        return {found.name: found.gradients}
    return engine.sweep(spec.table, spec.initial, embeddings or None).relevance
