"""Running a sample model the way a user would: onnxruntime, and the preprocessing file beside the model.

Written apart from ``models``: what its scripts measure is held against this.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

# A card's figure may differ by this much on another processor: half a per cent is six of 1,200 scenes.
CARD_TOLERANCE = 0.005


def prepared(path: Path, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pictures (N, H, W, C) as the preprocessing file of the model at `path` says."""
    how: dict[str, Any] = tomllib.loads(path.with_suffix(".preprocess.toml").read_text(encoding="utf-8"))
    assert set(how) <= {"layout", "color", "resize", "scale", "mean", "std"}
    assert list(pictures.shape[1:3]) == how["resize"]
    assert pictures.shape[3] == {"RGB": 3, "L": 1}[how["color"]]
    assert how["layout"] == "NCHW"
    values = (pictures * how["scale"] - how.get("mean", 0)) / how.get("std", 1)
    return np.ascontiguousarray(np.moveaxis(values, 3, 1), np.float32)


def outputs(path: Path, values: NDArray[np.float32]) -> list[Any]:
    """The outputs of a model with one input."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {session.get_inputs()[0].name: values}))


def classes(path: Path, pictures: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The class that an image classifier gives each picture."""
    return np.asarray(outputs(path, prepared(path, pictures))[0].argmax(axis=1), np.int64)
