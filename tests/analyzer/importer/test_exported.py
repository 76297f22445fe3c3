"""Everyday architectures of many exporters: the trace equals onnxruntime at two batch sizes, and gradients flow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import analyzer

FOLDER = Path(__file__).resolve().parents[4] / "shared" / "exported"
#: Trees have no derivative.
TREES = ("skl_rf", "xgb_clf")
FILES = sorted(path.name for path in FOLDER.glob("*.onnx")) if FOLDER.exists() else []


@pytest.mark.skipif(not FILES, reason="needs the reference data folder ../shared, which is absent here")
@pytest.mark.parametrize("name", FILES or ["absent"])
def test_equals_onnxruntime(name: str) -> None:
    data = np.load(FOLDER / f"{name.split('__')[0]}.npz")
    model = analyzer.load(FOLDER / name, "cpu")
    for prefix in ("", "b3_"):
        feed = {key: data[f"{prefix}in{i}"] for i, key in enumerate(model.inputs) if f"{prefix}in{i}" in data}
        if not feed:
            continue
        got, expected = model.predict(feed, backend="torch"), model.predict(feed)
        for key, reference in expected.items():
            assert got[key].shape == reference.shape
            assert np.abs(got[key].astype(np.float64) - reference).max() <= 1e-3 * max(np.abs(reference).max(), 1e-9)
    feed = {key: data[f"in{i}"] for i, key in enumerate(model.inputs)}
    if name.startswith(TREES):
        with pytest.raises(analyzer.UnsupportedError):
            model.explain(feed, method="gradient")
        assert np.isfinite(model.explain(feed, method="feature-ablation").attribution).all()
        return
    gradients = np.concatenate([np.ravel(a) for a in model.explain(feed, method="gradient").attributions.values()])
    assert np.isfinite(gradients).all()
    assert np.abs(gradients).max() > 0
