"""Kernel SHAP beside the shap package at equal evaluations: how far each is from Shapley values that are known.

Five models whose 12 to 16 features give few enough coalitions to run all of them: their scores give the exact values. Errors
are root mean squares over features as a part of the exact values' own, means over seeds. The shap package is given both its
default (``l1_reg`` keeps ten features at most) and ``l1_reg=False``; it evaluates two coalitions more than it is told to.

Belongs here: the models, the exact values, the comparison. Not here: the call of shap (``perturbation_peers``).
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.perturbation_side import Side

SAMPLES = (128, 512)
SEEDS = tuple(range(10))
#: Blocks of the picture model: 4 x 4 of 8 elements.
_SIDE, _BLOCK = 32, 8


def _saved(path: Path, nodes: list[Any], weights: dict[str, np.ndarray], shape: list[Any]) -> Path:
    graph = helper.make_graph(
        nodes, path.stem,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(value.astype(np.float32) if value.dtype.kind == "f" else value, name)
         for name, value in weights.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def linear(path: Path) -> tuple[Path, np.ndarray]:
    """A sum of 15 weighted features."""
    rng = np.random.default_rng(1)
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"])
    return _saved(path, [node], {"w": rng.normal(size=(15, 1)), "b": np.ones(1)}, [15]), rng.normal(size=(1, 15))


def product(path: Path) -> tuple[Path, np.ndarray]:
    """The product of 1 + 0.8 x over 12 features."""
    rng = np.random.default_rng(2)
    nodes = [
        helper.make_node("Mul", ["x", "slope"], ["scaled"]),
        helper.make_node("Add", ["scaled", "one"], ["factors"]),
        helper.make_node("ReduceProd", ["factors"], ["y"], axes=[1], keepdims=1),
    ]
    return _saved(path, nodes, {"slope": np.full(1, 0.8), "one": np.ones(1)}, [12]), rng.uniform(-1, 1, (1, 12))


def trees(path: Path) -> tuple[Path, np.ndarray]:
    """60 boosted trees of depth 4 on 14 features."""
    from skl2onnx import to_onnx
    from sklearn.ensemble import GradientBoostingRegressor

    rng = np.random.default_rng(3)
    x = rng.normal(size=(500, 14)).astype(np.float32)
    y = x[:, 0] * x[:, 1] + np.sin(2 * x[:, 2]) + np.where(x[:, 3] > 0, x[:, 4], -x[:, 5]) + 0.3 * x[:, 6:].sum(axis=1)
    made = GradientBoostingRegressor(n_estimators=60, max_depth=4, random_state=0).fit(x, y)
    onnx.save(to_onnx(made, x[:1], target_opset={"": 17, "ai.onnx.ml": 3}), path)
    return path, x[:1]


def network(path: Path) -> tuple[Path, np.ndarray]:
    """Two hidden layers of 24 tanh on 16 features."""
    rng = np.random.default_rng(4)
    sizes, nodes, value = (16, 24, 24, 1), [], "x"
    weights: dict[str, np.ndarray] = {}
    for at, (fan, width) in enumerate(itertools.pairwise(sizes)):
        weights |= {
            f"w{at}": rng.normal(size=(fan, width)) * 2 / math.sqrt(fan),
            f"b{at}": rng.normal(size=width) * 0.3,
        }
        last = at == len(sizes) - 2
        nodes.append(helper.make_node("Gemm", [value, f"w{at}", f"b{at}"], ["y" if last else f"h{at}"]))
        if not last:
            nodes.append(helper.make_node("Tanh", [f"h{at}"], [f"a{at}"]))
            value = f"a{at}"
    return _saved(path, nodes, weights, [16]), rng.normal(size=(1, 16))


def picture_network(path: Path) -> tuple[Path, np.ndarray]:
    """Two convolutions and a dense layer on a picture of 16 blocks."""
    rng = np.random.default_rng(5)
    weights = {
        "w0": rng.normal(size=(8, 3, 5, 5)) / math.sqrt(75 / 2), "b0": rng.normal(size=8) * 0.2,
        "w1": rng.normal(size=(12, 8, 3, 3)) / math.sqrt(36), "b1": rng.normal(size=12) * 0.2,
        "w2": rng.normal(size=(12 * 16, 1)) / math.sqrt(96), "b2": np.zeros(1),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], pads=[2, 2, 2, 2], strides=[2, 2]),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("MaxPool", ["r1"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w2", "b2"], ["y"]),
    ]
    return _saved(path, nodes, weights, [3, _SIDE, _SIDE]), rng.normal(size=(1, 3, _SIDE, _SIDE))


MODELS = {
    "linear, 15 features": linear, "product, 12 features": product, "boosted trees, 14 features": trees,
    "dense network, 16 features": network, "convolutions, 16 segments": picture_network,
}  # fmt: skip


def exact(path: Path, x: np.ndarray, ids: np.ndarray | None) -> np.ndarray:
    """Shapley values from the scores of all coalitions, what is left out being 0."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    count = x.size if ids is None else int(ids.max()) + 1
    kept = np.arange(2**count)[:, None] >> np.arange(count) & 1
    scores = np.empty(len(kept))
    name = session.get_inputs()[0].name
    for start in range(0, len(kept), 4096):
        part = kept[start : start + 4096].astype(np.float32)
        mask = part if ids is None else part[:, ids][:, None]
        scores[start : start + len(part)] = session.run(None, {name: x * mask})[0].reshape(-1)
    sizes = kept.sum(axis=1)
    share = np.array([1 / (count * math.comb(count - 1, size)) for size in range(count)])
    values = np.empty(count)
    for feature in range(count):
        without = np.flatnonzero(kept[:, feature] == 0)
        values[feature] = share[sizes[without]] @ (scores[without | 1 << feature] - scores[without])
    return values


def ours(path: Path, x: np.ndarray, ids: np.ndarray | None, samples: int) -> tuple[np.ndarray, float]:
    """Values per seed, (seeds, features), and the evaluations of a call."""
    import analyzer

    model = analyzer.load(path, "cpu", threads=1)
    params: dict[str, Any] = {} if ids is None else {"segments": ids}
    made = [model.explain(x, "kernel-shap", target=0, samples=samples, seed=seed, **params) for seed in SEEDS]
    if ids is None:
        values = [e.attribution.reshape(-1) for e in made]
    else:
        first = [int(np.flatnonzero(ids.ravel() == segment)[0]) for segment in range(int(ids.max()) + 1)]
        values = [e.attribution[0, 0].ravel()[first] for e in made]
    return np.stack(values).astype(np.float64), float(made[0].record["evaluations"])


def error(values: np.ndarray, truth: np.ndarray) -> float:
    """Mean over seeds of the relative root mean square."""
    return float(np.mean(np.linalg.norm(values - truth, axis=1)) / np.linalg.norm(truth))


def measured(folder: Path, peers: Side | None) -> list[dict[str, Any]]:
    """A row for each model and number of samples."""
    rows = []
    blocks = np.arange(_SIDE) // _BLOCK
    for at, (name, build) in enumerate(MODELS.items()):
        path, x = build(folder / f"shapley{at}.onnx")
        x = x.astype(np.float32)
        ids = blocks[:, None] * (_SIDE // _BLOCK) + blocks if x.ndim == 4 else None
        truth = exact(path, x, ids)
        for samples in SAMPLES:
            values, count = ours(path, x, ids, samples)
            errors, counts = {"ours": error(values, truth)}, {"ours": count}
            if peers is not None:
                cut = None if ids is None else ids[None].tolist()
                for label, l1 in (("shap", "num_features(10)"), ("shap, l1_reg=False", False)):
                    asked = {"model": str(path), "x": x.tolist(), "n": samples, "seeds": SEEDS, "l1": l1, "ids": cut}
                    got = peers.ask("shap package", **asked)
                    errors[label], counts[label] = error(np.array(got["values"]), truth), got["evaluations"]
            rows.append({"model": name, "samples": samples, "evaluations": counts, "error": errors})
    if peers is not None:
        peers.close()
    return rows
