"""Engines and evaluators as a method gets them, for tests that look below the public API."""

from __future__ import annotations

from typing import Any

import numpy as np

import analyzer
from analyzer.compiler.subject import Subject
from analyzer.engines.torch_engine import TorchEngine
from analyzer.methods.context import Context
from analyzer.perturbation.evaluator import Evaluator
from analyzer.targets.resolve import resolve_on
from analyzer.targets.target import Resolved


def torch_engine(
    model: analyzer.Model, feed: dict[str, Any], value: str, weights: Any, precision: str = "float32"
) -> TorchEngine:
    """The torch engine on inputs, explaining ``sum(weights * value)``; the trace isn't held against onnxruntime."""
    return model.backends.torch(Subject(feed, value, np.asarray(weights)), precision, verify=False)


def context(model: analyzer.Model, feed: dict[str, Any], target: Any = 1) -> Context:
    """What a white-box method gets."""
    base = evaluator(model, feed, target)
    assert isinstance(base.target, Resolved)
    engine = torch_engine(model, feed, base.target.value, base.target.weights)
    return Context(model, feed, base.target, base.output, 0, engine_on=base.engine_on, engine=engine)


def evaluator(model: analyzer.Model, feed: dict[str, Any], target: Any = 1, **parts: Any) -> Evaluator:
    """What a perturbation method gets."""
    explained = resolve_on(model, feed, target)

    def engine_on(inputs: dict[str, Any], weights: Any) -> TorchEngine:
        return torch_engine(model, inputs, explained.scored.value, weights)

    return Evaluator(model, feed, explained.target, explained.output, 0, engine_on=engine_on, **parts)
