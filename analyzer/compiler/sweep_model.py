"""One sweep as an ONNX model that any target can use: its weights on the scores are an input.

Belongs here: recording, writing and checking such a model. Not here: whole methods as models for deployment (``export``),
where models are kept (``shelf``). The numpy code of a method runs around it, the same as around the torch engine.

It takes the original's inputs, ``onnxplain.weights`` shaped like the scores and, for a moved question,
``onnxplain.at.NAME`` for every embedding, and
for a difference ``onnxplain.start.NAME``. It gives the model's own outputs, ``onnxplain.scores``,
``onnxplain.relevance.NAME`` and, where it isn't an input, ``onnxplain.values.NAME``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from analyzer.compiler import agreement
from analyzer.compiler.free_batch import HINT, Recorded, write
from analyzer.compiler.ir import FixedBatchError
from analyzer.compiler.recorded_sweep import SweepBench
from analyzer.compiler.recorder import SweepRecorder
from analyzer.compiler.sweep_cache import ABOUT, Compiled, Subject
from analyzer.engines.protocol import Array, Question
from analyzer.engines.torch_engine import Engine
from analyzer.errors import UnsupportedError
from analyzer.executor.session import Session
from analyzer.importer.interpreter import as_tensor
from analyzer.importer.parity import tolerance_of
from analyzer.importer.recorder import recorded
from analyzer.model import Model
from graph_rules.errors import RuleError


def compile_sweep(model: Model, subject: Subject, question: Question) -> tuple[bytes, Compiled]:
    """The serialised model, and it loaded.

    Raises
    ------
    UnsupportedError
        ``compile.data_dependent``, ``compile.operator``, ``compile.size``, and what the engine refuses.
    ParityError
        ``parity.mismatch``, ``compile.mismatch``: the trace or the compiled model gives other numbers.
    """
    model.require_parity(subject.inputs)

    def record(count: int | None) -> Recorded:
        return _record(model, subject if count is None else subject.of(model, count), question)

    def describe(facts: Mapping[str, Any], batch: int | None) -> dict[str, str]:
        return {ABOUT: json.dumps(_about(model, facts, batch))}

    reason = "" if model.fixed_batch is None else "the model's own batch is fixed"
    written = write(record, subject.batch, reason, describe)
    about = _about(model, written.facts, written.batch)
    found = Compiled(Session(written.content, model.device, threads=model.threads), about)
    _hold_against_torch(model, subject, question, found)
    return written.content, found


def _about(model: Model, facts: Mapping[str, Any], batch: int | None) -> dict[str, Any]:
    return {**facts, "free": batch is None, "tolerance": tolerance_of(model.graph)}


def _record(model: Model, subject: Subject, question: Question) -> Recorded:
    engine = Engine.on(model, subject.inputs, subject.value, subject.weights, "float32")
    _fixed(engine.trace.data_dependent, "node")
    at: list[tuple[str, fx.Node]] | None = None
    about: dict[str, Any] = {
        "sources": [[source.name, source.tokens] for source in engine.sources],
        "rank": len(engine.output.meta["shape"]),
    }
    if question.layer is not None:
        name, node = engine.feature_layer(question.layer)
        at = [(name, node)]
        about |= {"layer": name, "obstacles": list(engine.at_layer(question.layer).obstacles)}
    shape = engine.output.meta["shape"]
    if engine.weights.size != math.prod(shape):
        raise FixedBatchError("the scores don't follow the batch")
    moved = engine.values() if question.moved else {}
    recorder = SweepRecorder()
    with recorder:
        inputs = {name: recorder.placeholder(name, as_tensor(engine.inputs[name])) for name in engine.trace.inputs}
        embedded = {
            source.node: recorder.placeholder(f"onnxplain.at.{source.name}", as_tensor(moved[source.name]))
            for source in engine.sources
            if question.moved and source.tokens
        }
        weights = recorder.placeholder("onnxplain.weights", as_tensor(engine.weights.astype(np.float32)).reshape(shape))
        bench = SweepBench(engine, inputs, lambda scores: weights.to(scores.dtype), overrides=embedded)
        outputs: dict[str, Tensor] = {}
        if question.difference:
            relevance, values = _compared(bench, question, recorder, outputs, about)
        else:
            relevance, values, _ = bench.sweep(question.table.build(), question.initial, at)
        assert bench.scores is not None
        own = {} if question.moved else _tensors(bench.outputs or {})
        about["outputs"] = list(own)
        outputs |= {**own, "onnxplain.scores": bench.scores}
        outputs |= {f"onnxplain.relevance.{name}": value for name, value in relevance.items()}
        given = {source.name for source in engine.sources if not source.tokens} if at is None else set()
        outputs |= {f"onnxplain.values.{name}": value for name, value in values.items() if name not in given}
    _fixed(recorder.data_dependent, "sweep")
    return Recorded(recorder.finish(outputs), list(outputs), about)


def _compared(
    bench: SweepBench, question: Question, recorder: SweepRecorder, outputs: dict[str, Tensor], about: dict[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Multipliers and values; adds the scores at the start, and whether each selecting node chooses otherwise there."""
    starts = {}
    for name, value in bench.engine.values().items():
        starts[name] = recorder.placeholder(f"onnxplain.start.{name}", torch.zeros_like(as_tensor(value)))
    try:
        relevance, values, scores, selections = bench.difference(question.table.build(), starts)
    except RuleError as problem:
        raise UnsupportedError("rule.failed", f"{question.table.name}: {problem}", HINT) from None
    outputs["onnxplain.scores_at_start"] = scores
    varying = {k: [(a, b) for a, b in pairs if recorded(a) or recorded(b)] for k, pairs in selections.items()}
    about["selecting"] = [name for name, pairs in varying.items() if pairs]
    counts = [
        torch.stack([(a != b).to(torch.float32).reshape(-1).sum(0) for a, b in varying[name]]).sum(0)
        for name in about["selecting"]
    ]
    if counts:
        outputs["onnxplain.selecting"] = torch.stack(counts)
    return relevance, values


def _fixed(reason: str | None, what: str) -> None:
    if reason is not None:
        raise UnsupportedError(
            "compile.data_dependent",
            f"what {what} {reason!r} does depends on the input's values: no fixed graph says it",
            HINT,
        )


def _tensors(values: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}


def _hold_against_torch(model: Model, subject: Subject, question: Question, compiled: Compiled) -> None:
    """Refuse a compiled sweep that differs from the torch engine's on this input.

    Raises
    ------
    ParityError
        ``compile.mismatch``.
    """
    engine = Engine.on(model, subject.inputs, subject.value, subject.weights, "float32")
    moved = engine.values() if question.moved else {}
    starts = {name: np.zeros_like(value) for name, value in engine.values().items()} if question.difference else {}
    expected = _relevance(engine, question, moved, starts)
    got = compiled.session.run(
        compiled.feed(subject, moved, starts), [f"onnxplain.relevance.{name}" for name in expected]
    )

    def again() -> Mapping[str, Array]:
        shaken = agreement.shaken(subject.inputs)
        near = Engine.on(model, shaken, subject.value, subject.weights, "float32")
        return _relevance(near, question, agreement.shaken(moved), starts)

    agreement.require(
        question.table.name, {name: got[f"onnxplain.relevance.{name}"] for name in expected}, expected, again, HINT
    )


def _relevance(
    engine: Engine, question: Question, moved: Mapping[str, Array], starts: Mapping[str, Array]
) -> Mapping[str, Array]:
    if question.difference:
        return engine.difference(question.table, starts)[0].relevance
    if question.layer is not None:
        found = engine.at_layer(question.layer)
        return {found.name: found.gradients}
    return engine.sweep(question.table, question.initial, moved or None).relevance
