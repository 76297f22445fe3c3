"""Scenes as data of a gate, and running single checks on them: what the tests of checks about pictures share."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.gate.outcome import CheckResult, GateResult
from analyzer.gate.run import run_gate
from models.shapes.measure import model_input
from models.shapes.scenes import CLASSES, dataset
from models.shapes.tag import TAGGED_CLASS, paste_tag

ROOT = Path(__file__).resolve().parents[3]
MODELS = ROOT / "models"
STAR = CLASSES.index(TAGGED_CLASS)
Images = NDArray[np.uint8]


@functools.cache
def scenes(count: int, seed: int = 3_000_001) -> tuple[Images, NDArray[np.bool_], NDArray[np.int64]]:
    """Scenes that no model was trained on, without tags; their objects and classes."""
    return dataset(count, seed)


def tagged_stars(images: Images, labels: NDArray[np.int64]) -> Images:
    """The same with the tag on every star."""
    return np.where((labels == STAR)[:, None, None, None], paste_tag(images), images)


def write(folder: Path, images: Images, labels: NDArray[Any] | None = None, mask: NDArray[Any] | None = None) -> Path:
    """Pictures as the data of a gate; a mask for each, or one for all."""
    path = folder / "data.npz"
    more: dict[str, Any] = {} if labels is None else {"label": labels}
    more |= {} if mask is None else {"mask": mask}
    np.savez(path, image=model_input(images), **more)
    return path


def policy(model: str | Path, data: Path, *checks: Mapping[str, Any], **sections: Any) -> dict[str, Any]:
    """A policy of some checks; a model of the project by its name."""
    path = MODELS / f"{model}.onnx" if isinstance(model, str) else model
    prepared = str(MODELS / "shapes_cnn.preprocess.toml")
    explain = {"method": "lrp", "preset": "epsilon-gamma-box"}
    return {
        "schema": 1, "model": {"path": str(path), "preprocess": prepared}, "data": {"path": str(data)}, "explain": explain,
        **sections,
        "check": [{"id": each["kind"], **each} for each in checks],
    }  # fmt: skip


def ran(given: Mapping[str, Any]) -> GateResult:
    """Run a gate on one thread."""
    return run_gate(given, threads=1, device="cpu")


def judged(given: Mapping[str, Any]) -> CheckResult:
    """The result of a policy's only check."""
    (found,) = ran(given).checks
    return found
