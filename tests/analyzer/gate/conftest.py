"""Models that several tests of the gate need, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.shapes.measure import model_input
from tests.analyzer.gate.scenes import MODELS, scenes


@pytest.fixture(scope="session")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``shapes_cnn`` as onnxruntime's static quantiser makes it of 64 scenes."""
    from tests.analyzer.gate.quantised import quantised

    folder = tmp_path_factory.mktemp("int8")
    return quantised(MODELS / "shapes_cnn.onnx", folder / "int8.onnx", model_input(scenes(64, 3_000_002)[0]))
