"""Implementation invariance: every export of one network gives the same explanations, whatever the exporter wrote.

Held on small networks of many families (``families``): a few of them in every run, all of them, by every exporter and every
white-box method, under the mark ``slow``. All in double precision, so that what is left is the exporters' own folding in
single precision.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import analyzer
from analyzer import Model, load
from analyzer.errors import AnalyzerError
from graph_rules import composites
from tests.analyzer.methods import families

SHARED = Path(__file__).resolve().parents[4] / "shared"
VARIANTS = ("opset17_legacy", "opset17_legacy_nofold", "opset18_dynamo", "opset18_dynamo_noopt")
NETS = ("vgg", "resnet", "gapnet", "mobilenet", "mlp", "textcnn", "transformer", "generator")
Method = tuple[str, dict[str, Any]]
METHODS: list[Method] = [
    ("gradient", {}), ("guided-backprop", {}), ("deconvnet", {}), ("deep-taylor", {}), ("deeplift", {}),
    ("deeplift", {"variant": "reveal-cancel"}),
    *(("lrp", {"composite": name}) for name in ("epsilon", "epsilon-plus", "epsilon-plus-flat", "gamma", "alpha-beta",
                                                "attn-lrp")),
]  # fmt: skip
#: Families and exporters of the quick run: those that had differed.
QUICK = ("TabNetAtOnce", "Functions", "SqueezeExcite")
QUICK_EXPORTS = ("legacy-17-unfolded", "legacy-20", "dynamo-18")


def every_method() -> list[Method]:
    """All white-box methods that need no bound, each composite of LRP for itself."""
    names = [name for name, info in analyzer.methods().items() if info.family in ("gradient", "relevance", "CAM")]
    lrp = [("lrp", {"composite": name}) for name in composites.names() if name != "epsilon-gamma-box"]
    box: Method = ("lrp", {"composite": "epsilon-gamma-box", "low": -4.0, "high": 4.0})
    pooling: Method = ("deeplift", {"pooling": "exact"})
    return [*METHODS[:6], *((n, {}) for n in names if n not in ("lrp", "deeplift")), *lrp, box, pooling]


def agree(models: list[Model], x: np.ndarray, method: str, params: dict[str, Any], target: Any, rtol: float) -> bool:
    """Assert that all explain alike, or refuse alike; whether they explain."""
    quick = dict(analyzer.methods()[method].quick)
    precision = "float32" if method in ("score-cam", "ablation-cam") else "float64"  # these run onnxruntime
    found = []
    for model in models:
        try:
            found.append(model.explain(x, method, target, precision=precision, **{**quick, **params}).raw)
        except AnalyzerError as refusal:
            found.append(refusal.code)
    if any(isinstance(each, str) for each in found):
        assert all(isinstance(each, str) and each == found[0] for each in found), f"{method} {params}: {found}"
        return False
    first, *others = found
    for model, other in zip(models[1:], others, strict=True):
        gap = np.abs(other - first).max() / max(np.abs(first).max(), 1e-12)
        assert gap < rtol, f"{method} {params}: {model} differs by {gap:.1e} of the largest value"
    return bool(np.abs(first).max() > 0)


@functools.cache
def exports(name: str, ways: tuple[str, ...]) -> tuple[list[Model], np.ndarray]:
    """The files that compute the network's function, and its input.

    Exporters refuse what their opset can't say, and some write another function: sums by index before opset 16.
    """
    net, x = families.network(name)
    with torch.no_grad():
        expected = net(x).numpy()
    models = []
    for how in ways:
        try:
            model = load(families.exported(net, x, how), "cpu")
            output = next(iter(model.predict(x.numpy()).values()))
        except (torch.onnx.errors.OnnxExporterError, AnalyzerError):
            continue
        if np.allclose(output, expected, rtol=1e-3, atol=1e-4):
            models.append(model)
    assert len(models) > 1, "no two exports to compare"
    return models, x.numpy()


@pytest.mark.parametrize(("method", "params"), METHODS, ids=lambda v: v if isinstance(v, str) else str([*v.values()]))
@pytest.mark.parametrize("name", QUICK)
def test_exports_made_here(name: str, method: str, params: dict[str, Any]) -> None:
    models, x = exports(name, QUICK_EXPORTS)
    assert len(models) == len(QUICK_EXPORTS)
    assert agree(models, x, method, params, 1, 1e-4)


@pytest.mark.parametrize(("method", "params"), METHODS, ids=lambda v: v if isinstance(v, str) else str([*v.values()]))
def test_maxima_over_places_however_they_are_written(method: str, params: dict[str, Any]) -> None:
    names = [name for name in families.FAMILIES if name.startswith("MaxBy")]
    pairs = [exports(name, ("legacy-17", "legacy-13")) for name in names]
    assert len(pairs) == 5
    assert agree([models[0] for models, _ in pairs], pairs[0][1], method, params, 1, 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", families.FAMILIES)
def test_every_export_by_every_method(name: str) -> None:
    models, x = exports(name, tuple(families.EXPORTS))
    explained = [agree(models, x, method, params, 1, 1e-4) for method, params in every_method()]
    assert sum(explained) >= 20


@pytest.mark.skipif(not SHARED.exists(), reason="needs the reference networks, which lie beside the repository")
@pytest.mark.parametrize(("method", "params"), METHODS, ids=lambda v: v if isinstance(v, str) else str([*v.values()]))
@pytest.mark.parametrize("net", NETS)
def test_exports_of_the_reference_networks(net: str, method: str, params: dict[str, Any]) -> None:
    target = "output[:,1,8,8]" if net == "generator" else "top1"
    assert agree(*reference(net), method, params, target, 5e-6)


@functools.cache
def reference(net: str) -> tuple[list[Model], np.ndarray]:
    folder = SHARED / "golden" / net
    return [load(folder / f"model_{variant}.onnx") for variant in VARIANTS], np.load(folder / "io.npz")["input"][:1]
