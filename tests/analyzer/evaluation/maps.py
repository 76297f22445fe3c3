"""Linear models with known contributions, and explanations with any map. Not here: what is checked on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

import analyzer
from analyzer.evaluation.context import MetricContext
from tests.common.models import Array, assemble

PICTURE = (1, 8, 8)


def draw(seed: int, *shape: int) -> Array:
    """Normal numbers, float32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def linear(
    shape: Sequence[int], weights: Array, bias: Array | None = None, end: str = "", batch: Any = "n"
) -> onnx.ModelProto:
    """Scores ``x W + b``, ended by an operator; input ``x`` (batch, *shape), weights (elements, classes)."""
    classes = weights.shape[1]
    values = {"w": weights, "b": np.zeros(classes, np.float32) if bias is None else bias}
    last = "logits" if end else "scores"
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "w", "b"], [last], name="linear"),
        *([helper.make_node(end, [last], ["scores"], name="end")] if end else []),
    ]
    shapes = {"x": (TensorProto.FLOAT, [batch, *shape])}
    return assemble(nodes, shapes, {"scores": (TensorProto.FLOAT, [batch, classes])}, values)


def two_layers(shape: Sequence[int], first: Array, second: Array) -> onnx.ModelProto:
    """Scores of a network with one hidden layer of ReLUs."""
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"], name="flatten"),
        helper.make_node("MatMul", ["flat", "w1"], ["z"], name="first"),
        helper.make_node("Relu", ["z"], ["a"], name="relu"),
        helper.make_node("MatMul", ["a", "w2"], ["scores"], name="second"),
    ]
    shapes = {"x": (TensorProto.FLOAT, ["n", *shape])}
    outputs = {"scores": (TensorProto.FLOAT, ["n", second.shape[1]])}
    return assemble(nodes, shapes, outputs, {"w1": first, "w2": second})


def load(proto: onnx.ModelProto | Path) -> analyzer.Model:
    """The model on the CPU with one thread."""
    return analyzer.load(proto, "cpu", threads=1)


def explained(model: analyzer.Model, x: Array, target: Any = 1, **options: Any) -> analyzer.Explanation:
    """A cheap explanation, whose map is of no interest."""
    whole = {"window": x.shape[-1]} if x.ndim > 2 else {}
    return model.explain(x, "occlusion", target=target, **whole, **options)


def with_map(e: analyzer.Explanation, *maps: Array, **changes: Any) -> analyzer.Explanation:
    """The explanation with other maps, one for each input that has one."""
    attributions = dict(zip(e.attributions, maps, strict=True))
    return replace(e, attributions=attributions, raws=attributions, **changes)


def context_of(model: analyzer.Model, e: analyzer.Explanation) -> MetricContext:
    """What a metric works with."""
    return MetricContext(model, e, dict(e.inputs), {}, 0)
