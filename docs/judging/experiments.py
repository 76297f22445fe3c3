"""What ``docs/judging.md`` claims, computed: each function is one claim's figures.

Belongs here: models made for the purpose, and figures of them. Not here: pictures (``pictures``), the sentences (the page).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import analyzer
from analyzer.evaluation.measure import Evaluation
from analyzer.explanation import Explanation
from models.shapes import scenes

Array = NDArray[Any]
MODEL = Path(__file__).resolve().parents[2] / "models" / "shapes_cnn.onnx"
#: Scenes that no training or held-out set drew.
SEED = 20_261_127
GAMMAS = (0.0, 0.3, 0.7, 1.0)


def shapes(count: int, seed: int = SEED) -> Array:
    """Scenes as the model takes them, float32 (count, 3, 64, 64) in [0, 1]."""
    images, _, _ = scenes.dataset(count, seed)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32) / np.float32(255)


def sums(count: int = 20) -> dict[str, tuple[float, float]]:
    """Explanation -> medians of ΣR / f and of Σ|R| / |f| over scenes."""
    model, x = analyzer.load(MODEL, "cpu"), shapes(count)
    asked: dict[str, tuple[str, dict[str, Any]]] = {
        "gradient-x-input": ("gradient-x-input", {}),
        "lrp epsilon": ("lrp", {"composite": "epsilon"}),
        "lrp zplus": ("lrp", {"composite": "zplus"}),
        "lrp zplus, no share for biases": ("lrp", {"composite": "zplus", "zero_bias": True}),
    }
    found = {}
    for name, (method, params) in asked.items():
        e = model.explain(x, method, **params)
        maps = np.asarray(e.attribution, np.float64).reshape(count, -1)
        found[name] = (
            float(np.median(maps.sum(axis=1) / e.score)),
            float(np.median(np.abs(maps).sum(axis=1) / np.abs(e.score))),
        )
    return found


def moving(steps: int = 9, across: int = 2) -> Array:
    """One scene, moved to the right a pixel at a time over itself, float32 (steps · across + 1, 3, 64, 64)."""
    image = shapes(1, SEED + 3)[0]
    return np.stack([np.roll(image, shift, axis=-1) for shift in range(-steps * across // 2, steps * across // 2 + 1)])


def maps_of_moving(gamma: float, x: Array) -> Explanation:
    """LRP with one γ throughout, of the class that the scene in the middle has."""
    model = analyzer.load(MODEL, "cpu")
    middle = model.explain(x[len(x) // 2 : len(x) // 2 + 1], "gradient").classes[0]
    return model.explain(x, "lrp", [middle] * len(x), composite="gamma", gamma=gamma)


def roughness(gamma: float) -> float:
    """How far maps move from one pixel's shift to the next, beside how large they are: the mean of ‖R − R'‖₁ / ‖R‖₁.

    The maps are moved back first, so that a map that follows its object counts as not having changed.
    """
    x = moving()
    maps = np.asarray(maps_of_moving(gamma, x).attribution, np.float64).sum(axis=1)
    back = np.stack([np.roll(each, len(x) // 2 - at, axis=-1) for at, each in enumerate(maps)])
    change = np.abs(np.diff(back, axis=0)).sum(axis=(1, 2))
    size = np.abs(back).sum(axis=(1, 2))
    return float(np.mean(change / (0.5 * (size[1:] + size[:-1]))))


def deep_network(depth: int, width: int, rng: np.random.Generator) -> onnx.ModelProto:
    """A network of ``depth`` fully connected ReLU layers without biases, He-initialised, with one output."""
    nodes, weights, value = [], [], "x"
    sizes = [width] * (depth + 1)
    for at, (rows, columns) in enumerate(pairwise(sizes)):
        weight = (rng.standard_normal((rows, columns)) * np.sqrt(2 / rows)).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{at}"))
        nodes += [
            helper.make_node("MatMul", [value, f"w{at}"], [f"z{at}"]),
            helper.make_node("Relu", [f"z{at}"], [f"a{at}"]),
        ]
        value = f"a{at}"
    last = np.abs(rng.standard_normal((width, 1)) / np.sqrt(width)).astype(np.float32)
    weights.append(numpy_helper.from_array(last, "last"))
    nodes.append(helper.make_node("MatMul", [value, "last"], ["y"]))
    return _model(nodes, weights, width, 1)


def exploding(depths: tuple[int, ...] = (1, 4, 16, 32, 64), width: int = 64, count: int = 15) -> dict[str, list[float]]:
    """Explanation -> median of Σ|R| / |f| over random networks of each depth."""
    found: dict[str, list[float]] = {"gradient-x-input": [], "lrp gamma": [], "lrp zplus": []}
    for depth in depths:
        ratios: dict[str, list[float]] = {name: [] for name in found}
        for seed in range(count):
            rng = np.random.default_rng([seed, depth])
            model = analyzer.load(deep_network(depth, width, rng), "cpu", threads=1)
            x = rng.uniform(0, 1, (1, width)).astype(np.float32)
            for name in found:
                method, _, composite = name.partition(" ")
                params: dict[str, Any] = {"composite": composite} if composite else {}
                e = model.explain(x, method, 0, **params)
                ratios[name].append(float(np.abs(e.attribution).sum() / abs(e.score[0])))
        for name, each in ratios.items():
            found[name].append(float(np.median(each)))
    return found


def max_networks() -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Two networks that compute max(x₁, x₂): x₂ + relu(x₁ − x₂), and ½ (x₁ + x₂ + relu(x₁ − x₂) + relu(x₂ − x₁))."""

    def network(first: Array, second: Array) -> onnx.ModelProto:
        weights = [numpy_helper.from_array(w.astype(np.float32), n) for n, w in (("w1", first), ("w2", second))]
        nodes = [
            helper.make_node("MatMul", ["x", "w1"], ["z"]),
            helper.make_node("Relu", ["z"], ["a"]),
            helper.make_node("MatMul", ["a", "w2"], ["y"]),
        ]
        return _model(nodes, weights, 2, 1)

    # for inputs from zero on: x₂ = relu(x₂), x₁ + x₂ = relu(x₁ + x₂)
    return (
        network(np.array([[0, 1], [1, -1]]), np.array([[1], [1]])),
        network(np.array([[1, 1, -1], [1, -1, 1]]), np.array([[0.5], [0.5], [0.5]])),
    )


def explanations_of_max(x1: float = 1.0, x2: float = 0.5) -> dict[str, tuple[Array, Array]]:
    """Explanation -> its map of (x₁, x₂) in each of the two networks."""
    x = np.array([[x1, x2]], np.float32)
    loaded = [analyzer.load(each, "cpu", threads=1) for each in max_networks()]
    found = {}
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("gradient-x-input", "gradient-x-input", {}),
        ("lrp zplus", "lrp", {"composite": "zplus"}),
    ]
    for name, method, params in asked:
        first, second = (np.asarray(model.explain(x, method, 0, **params).attribution[0]) for model in loaded)
        found[name] = first, second
    return found


def uniform(e: Explanation) -> Explanation:
    """The score shared out to all pixels alike: it conserves, it is continuous, and it says nothing."""
    each = {name: np.ones_like(value) for name, value in e.attributions.items()}
    maps = {
        name: value * (e.score / value[0].size).reshape(-1, *[1] * (value.ndim - 1)).astype(np.float32)
        for name, value in each.items()
    }
    return replace(e, attributions=maps, raws=maps, method="uniform", completeness=None)


def flipped(count: int = 50, steps: int = 24) -> dict[str, Evaluation]:
    """Explanation -> pixel-flipping of scenes, with the two controls: chance, and the uniform map."""
    model, x = analyzer.load(MODEL, "cpu"), shapes(count)
    asked: dict[str, tuple[str, dict[str, Any]]] = {
        "occlusion": ("occlusion", {"window": 12, "stride": 4, "fill": "mean"}),
        "lrp epsilon-gamma-box": ("lrp", {"composite": "epsilon-gamma-box", "low": 0.0, "high": 1.0}),
        "gradient-x-input": ("gradient-x-input", {}),
        "deconvnet": ("deconvnet", {}),
    }
    found = {}
    for name, (method, params) in asked.items():
        e = model.explain(x, method, **params)
        found[name] = analyzer.evaluate(model, x, e, "pixel-flipping", steps=steps, size=2)
    found["uniform"] = analyzer.evaluate(model, x, uniform(e), "pixel-flipping", steps=steps, size=2)
    found["chance"] = analyzer.evaluate(model, x, e, "pixel-flipping", steps=steps, size=2, order="random", seed=1)
    return found


def _model(nodes: list[onnx.NodeProto], weights: list[TensorProto], inputs: int, outputs: int) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", inputs])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", outputs])
    graph = helper.make_graph(nodes, "judging", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
