"""Models and inputs that several tests of checks need, made once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import analyzer
from models.shapes import scenes


@pytest.fixture(scope="session")
def shapes(sample_models: Path) -> tuple[analyzer.Model, Any]:
    """The sample classifier and a dozen scenes."""
    x = np.ascontiguousarray(scenes.dataset(12, 31)[0].transpose(0, 3, 1, 2), dtype=np.float32) / 255
    return analyzer.load(sample_models / "shapes_cnn.onnx", "cpu", threads=1), x
