"""Linear models, whose perturbation scores are known in closed form. Not here: what is checked on them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

import analyzer
from analyzer.inputs.layout import axes_of
from tests.common.models import assemble

Array = NDArray[Any]


def weights_of(*shape: int, seed: int = 0) -> Array:
    """Weights of one score per sample of the given shape."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def linear(w: Array, bias: float = 0.5, batch: int | str = "n", dtype: int = TensorProto.FLOAT) -> analyzer.Model:
    """The model ``y = sum(w * x) + bias`` per sample; ``w`` has the sample's shape."""
    nodes = [
        helper.make_node("Cast", ["x"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["real"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["z"]),
        helper.make_node("Add", ["z", "b"], ["y"]),
    ]
    weights = {"w": w.reshape(-1, 1), "b": np.array([bias], np.float32)}
    shapes = {"x": (dtype, [batch, *w.shape])}
    proto = assemble(nodes, shapes, {"y": (TensorProto.FLOAT, [batch, 1])}, weights)
    layout = axes_of((1, *w.shape), None).letters  # said, so that nobody has to guess it
    return analyzer.load(proto, "cpu", threads=1, layout=layout)
