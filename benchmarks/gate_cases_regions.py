"""Cases of known truth for the checks of regions, of references and of parameters: tags, quantised models, a flat method."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import analyzer
from benchmarks.gate import ROOT, Case
from models.shapes.measure import model_input
from models.shapes.scenes import CLASSES, dataset
from models.shapes.tag import TAGGED_CLASS, paste_tag, tag_mask

MODELS = ROOT / "models"
LRP = {"method": "lrp", "preset": "epsilon-gamma-box"}
#: Calibration of the quantised models.
_CALIBRATION, _SEED = 64, 3_000_002


def honest() -> analyzer.Model:
    """The classifier that looks at objects."""
    return analyzer.load(MODELS / "shapes_cnn.onnx", "cpu", threads=1)


def cheater() -> analyzer.Model:
    """The classifier that reads the tag."""
    return analyzer.load(MODELS / "shapes_cheater.onnx", "cpu", threads=1)


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


def _quantised() -> Path:
    from tests.analyzer.gate.quantised import quantised

    target = Path(_folder().name) / "int8.onnx"
    if not target.exists():
        quantised(MODELS / "shapes_cnn.onnx", target, model_input(dataset(_CALIBRATION, _SEED)[0]))
    return target


def _loaded(path: Path) -> analyzer.Model:
    return analyzer.load(path, "cpu", threads=1, preprocess=str(MODELS / "shapes_cnn.preprocess.toml"))


def int8() -> analyzer.Model:
    """``shapes_cnn`` in int8."""
    return _loaded(_quantised())


def wrong_scale() -> analyzer.Model:
    """The same with one value stored 96 times too coarsely."""
    from tests.analyzer.gate.quantised import with_wrong_scale

    return _loaded(with_wrong_scale(_quantised(), Path(_folder().name) / "wrong.onnx", 96)[0])


def tagged(x: Any, masks: Any, labels: Any) -> Any:
    """The tag on every star."""
    pictures = paste_tag(np.rint(x.transpose(0, 2, 3, 1) * 255).astype(np.uint8))
    star = labels == CLASSES.index(TAGGED_CLASS)
    return np.where(star[:, None, None, None], model_input(pictures), x).astype(np.float32)


REGION = {"kind": "forbidden_region"}
MASS = {"kind": "region_mass", "min_n_per_class": 10}
DRIFT, SQNR, HANS = {"kind": "explanation_drift"}, {"kind": "tensor_sqnr"}, {"kind": "clever_hans"}
PRESETS = {
    "kind": "compare_presets", "grid": {"composite": ["flat", "epsilon-gamma-box"]},
    "objective": "pixel_flipping", "objective_params": {"steps": 6, "size": 8, "fill": "blur"},
}  # fmt: skip
FLAT = {"method": "lrp", "preset": "flat"}
STARS, PLAIN = "tag on every star", "no tag anywhere"

CASES = [
    Case("region.honest", True, f"shapes_cnn, {STARS}", REGION, honest, LRP, change=tagged, region=tag_mask),
    Case("region.untagged", True, f"shapes_cnn, {PLAIN}", REGION, honest, LRP, region=tag_mask),
    Case("region.cheater", False, f"shapes_cheater, {STARS}", REGION, cheater, LRP, change=tagged, region=tag_mask),
    Case("mass.honest", True, f"shapes_cnn, {STARS}", MASS, honest, LRP, change=tagged),
    Case("mass.cheater", False, f"shapes_cheater, {STARS}", MASS, cheater, LRP, change=tagged),
    Case("hans.honest", True, f"shapes_cnn, {STARS}", HANS, honest, LRP, change=tagged),
    Case("hans.cheater", False, f"shapes_cheater, {STARS}", HANS, cheater, LRP, change=tagged),
    Case("drift.int8", True, "shapes_cnn in int8", DRIFT, int8, LRP, reference=honest),
    Case("drift.scale", False, "a value stored 96 times too coarsely", DRIFT, wrong_scale, LRP, reference=honest),
    Case("sqnr.int8", True, "shapes_cnn in int8", SQNR, int8, LRP, reference=honest),
    Case("sqnr.scale", False, "a value stored 96 times too coarsely", SQNR, wrong_scale, LRP, reference=honest),
    Case("presets.best", True, "the better of two presets", PRESETS, honest, LRP),
    Case("presets.flat", False, "the preset that spreads relevance evenly", PRESETS, honest, FLAT),
]
