"""How far inputs found by activation maximization get, and how near to real data their inner values lie.

    python -m benchmarks.maximization [digits] [shapes] [nni]

For every class and three seeds: the probability that onnxruntime gives the input found, by plain gradient ascent and with
regularisers; per layer the distance of its mean activations to those of real samples of the class.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import analyzer
from analyzer.visualization.channels import channel_axis

ROOT = Path(__file__).parents[1]
SEEDS, REAL = (0, 1, 2), 40
Array = NDArray[Any]
#: Model -> regularisers that are measured beside plain ascent.
REGULARISED: Mapping[str, dict[str, Any]] = {
    "digits": {"blur": 0.6, "l2": 0.003},
    "shapes": {"blur": 1.5, "tv": 0.0002},
    "nni": {"parametrisation": "fourier", "steps": 512},
}


def digits() -> tuple[Path, Array, Array]:
    """Real digits of 8x8 with their classes."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return ROOT / "models" / "digits_cnn.onnx", found.images[:, None].astype(np.float32) / 16, found.target


def shapes() -> tuple[Path, Array, Array]:
    """Fresh scenes with their classes."""
    from models.shapes.measure import model_input
    from models.shapes.scenes import dataset

    images, _, labels = dataset(6 * REAL, 77)
    return ROOT / "models" / "shapes_cnn.onnx", model_input(images), labels


def nni() -> tuple[Path, Array, Array]:
    """MNIST, where the shared data lie beside the project."""
    folder = ROOT.parent / "shared" / "data"
    with np.load(folder / "mnist" / "t10k_first_2000.npz") as found:
        x = found["images"][:, None].astype(np.float32) / 255
        return folder / "models" / "nni_model_am.onnx", x, found["labels"]


SETS: Mapping[str, Callable[[], tuple[Path, Array, Array]]] = {"digits": digits, "shapes": shapes, "nni": nni}


def means(model: analyzer.Model, x: Array) -> dict[str, Array]:
    """Layer -> mean activation of each channel, over samples and places."""
    found = {}
    for name, value in model.activations(x, ["Conv", "Relu", "Gemm"]).items():
        axis = channel_axis(model, name, value.ndim) or 0
        found[name] = value.mean(axis=tuple(each for each in range(value.ndim) if each != axis))
    return found


def distances(model: analyzer.Model, x: Array, real: Array) -> dict[str, float]:
    """Layer -> distance of mean activations, relative to the size of the real samples' own."""
    ours, theirs = means(model, x), means(model, real)
    return {name: float(np.linalg.norm(ours[name] - theirs[name]) / np.linalg.norm(theirs[name])) for name in ours}


def measured(which: str, params: Mapping[str, Any], classes: int | None = None) -> tuple[list[float], dict[str, float]]:
    """(probabilities of every class and seed, layer -> mean distance)."""
    path, x, labels = SETS[which]()
    model = analyzer.load(path)
    chances: list[float] = []
    apart: list[dict[str, float]] = []
    for target in sorted(set(labels.tolist()))[:classes]:
        runs = [model.maximize(target, seed=seed, bounds=(0, 1), **params) for seed in SEEDS]
        chances += [float(run.probabilities[0]) for run in runs if run.probabilities is not None]
        real = x[labels == target][:REAL]
        apart.append(distances(model, np.concatenate([run.x for run in runs]), real))
    return chances, {name: float(np.mean([each[name] for each in apart])) for name in apart[0]}


def main(names: list[str]) -> None:
    """Print a table for each model."""
    for which in names or list(SETS):
        ways: dict[str, dict[str, Any]] = {
            "plain, logit": {"score": "logit"}, "plain": {}, "regularised": REGULARISED[which],
        }  # fmt: skip
        found = {title: measured(which, params) for title, params in ways.items()}
        print(f"\n{which}: {REGULARISED[which]}")
        for title, (chances, _) in found.items():
            reached = sum(each >= 0.99 for each in chances)
            print(f"{title}: {reached} of {len(chances)} at p ≥ 0.99, least {min(chances):.4f}")
        print(f"| layer | {' | '.join(ways)} |\n|---|{'---|' * len(ways)}")
        for name in found["plain"][1]:
            print(f"| {name} | {' | '.join(f'{apart[name]:.2f}' for _, apart in found.values())} |")


if __name__ == "__main__":
    main(sys.argv[1:])
