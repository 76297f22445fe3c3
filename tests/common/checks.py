"""What the common checks share: the registered methods, quick parameters for them, how a model is explained.

A newly registered attribution method is checked without a word here; name it in :data:`LINEAR` only where it is linear in
the score.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import analyzer
from analyzer.methods.registry import MethodInfo
from tests.common.models import LABELS, Array, Case

#: Methods whose attribution is linear in the explained score.
LINEAR = ("gradient", "gradient-x-input", "integrated-gradients", "occlusion", "lime")


def registered() -> dict[str, MethodInfo]:
    """Methods that explain an input; those of the family ``model`` explain the model itself."""
    return {name: info for name, info in analyzer.methods().items() if info.family != "model"}


def suits(method: str, case: Case) -> bool:
    """Whether a method is meant for a case's kind of input."""
    return case.modality in registered()[method].modalities


def explain(model: onnx.ModelProto | analyzer.Model, x: Any, method: str, **options: Any) -> analyzer.Explanation:
    """An explanation with quick parameters."""
    loaded = load(model) if isinstance(model, onnx.ModelProto) else model
    return loaded.explain(x, method=method, **{**QUICK.get(method, {}), **options})


def load(proto: onnx.ModelProto) -> analyzer.Model:
    """The model on the CPU with one thread and class names."""
    return analyzer.load(proto, "cpu", labels=LABELS, threads=1)


def same(got: Array, expected: Array, rtol: float = 1e-4) -> None:
    """Assert that two attributions are equal up to ``rtol`` of the largest value."""
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=rtol * max(float(np.abs(expected).max()), 1e-12))


#: Parameters that make a method quick on a tiny model, as each declares them.
QUICK: dict[str, dict[str, Any]] = {name: dict(info.quick) for name, info in registered().items()}
each_method = pytest.mark.parametrize("method", list(registered()))
