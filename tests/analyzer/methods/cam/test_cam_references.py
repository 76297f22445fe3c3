"""Class activation maps beside reference results, and the same layer whatever the exporter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import analyzer
from tests.analyzer.methods.cam.test_weightings import close

REFERENCES = {
    "GradCAM": "grad-cam",
    "GradCAMPlusPlus": "grad-cam++",
    "LayerCAM": "layer-cam",
    "HiResCAM": "hires-cam",
    "XGradCAM": "xgrad-cam",
    "EigenCAM": "eigen-cam",
    "ScoreCAM": "score-cam",
    "AblationCAM": "ablation-cam",
}
VARIANTS = ("opset17_legacy", "opset17_legacy_nofold", "opset18_dynamo", "opset18_dynamo_noopt")
NETS = ("vgg", "resnet", "gapnet", "mobilenet")


def _entries(folder: Path, net: str, library: str) -> list[dict[str, Any]]:
    entries = json.loads((folder / "manifest.json").read_text())["entries"]
    return [e for e in entries if e["net"] == net and e["library"] == library and e.get("file")]


def _layer_named(path: Path, module: str) -> str:
    names: list[str] = [node.name for node in onnx.load(path, load_external_data=False).graph.node]
    return [name for name in names if f"/{module}/" in name][-1]


@pytest.mark.parametrize("net", NETS)
def test_maps_equal_the_reference_results(shared: Path, net: str) -> None:
    folder = shared / "golden"
    path = folder / net / "model_opset17_legacy.onnx"
    model = analyzer.load(path, "cpu", threads=1)
    x = np.load(folder / net / "io.npz")["input"]
    compared = 0
    for entry in _entries(folder, net, "grad-cam"):
        if entry["method"] not in REFERENCES or entry["params"].get("eigen_smooth"):
            continue
        expected = np.load(folder / entry["file"])["raw"][:, None]
        layer = _layer_named(path, entry["params"]["layer"])
        method, target = REFERENCES[entry["method"]], [int(t) for t in entry["target"]]
        got = model.explain(x, method=method, target=target, layer=layer, relu=False).raw
        if method == "eigen-cam":  # a singular vector's sign is free
            got = got * np.sign((got * expected).sum(axis=(1, 2, 3), keepdims=True))
        close(got, expected, 1e-5)
        compared += 1
    assert compared >= 4


@pytest.mark.parametrize("net", ["resnet", "gapnet"])
def test_guided_grad_cam_equals_the_reference_results(shared: Path, net: str) -> None:
    folder = shared / "golden"
    path = folder / net / "model_opset17_legacy.onnx"
    entry = next(e for e in _entries(folder, net, "captum") if e["method"] == "GuidedGradCam")
    assert entry["params"]["interpolate"] == "nearest"
    found = analyzer.load(path, "cpu", threads=1).explain(
        np.load(folder / net / "io.npz")["input"],
        method="guided-grad-cam",
        target=[int(t) for t in entry["target"]],
        layer=_layer_named(path, entry["params"]["layer"]),
        interpolate="nearest",
    )
    close(found.attribution, np.load(folder / entry["file"])["attribution"])


@pytest.mark.parametrize("net", NETS)
def test_the_same_layer_is_found_whatever_the_exporter(shared: Path, net: str) -> None:
    folder = shared / "golden" / net
    x = np.load(folder / "io.npz")["input"]
    maps = [
        analyzer.load(folder / f"model_{variant}.onnx", "cpu", threads=1)
        .explain(x, method="hires-cam", target=1, relu=False)
        .raw
        for variant in VARIANTS
    ]
    for map_ in maps[1:]:
        close(map_, maps[0])
