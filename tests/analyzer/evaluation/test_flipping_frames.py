"""The pictures of an input that loses its units are what the metric scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import analyzer
from analyzer.errors import UnsupportedError
from analyzer.evaluation.flipping_frames import flipping_frames

MODELS = Path(__file__).resolve().parents[3] / "models"


@pytest.fixture(scope="module")
def explained():
    model = analyzer.load(MODELS / "shapes_cnn.onnx", "cpu", threads=1)
    x = np.random.default_rng(0).uniform(0, 1, (2, 3, 64, 64)).astype(np.float32)
    return model, x, model.explain(x, "gradient-x-input")


def test_scores_are_the_metric_s_curve(explained):
    model, x, e = explained
    frames = flipping_frames(model, x, e, 1, steps=6, fill=0.25)
    curve = analyzer.evaluate(model, x, e, "pixel-flipping", steps=6, fill=0.25).curves["morf"]
    np.testing.assert_allclose(frames.scores, curve.y[1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(frames.shares, curve.x)


def test_pictures_are_what_is_scored(explained):
    model, x, e = explained
    frames = flipping_frames(model, x, e, 0, steps=4, fill=0.0)
    assert frames.pictures.shape == (5, 64, 64, 3) and frames.pictures.dtype == np.uint8
    assert not frames.pictures[-1].any(), "everything is replaced by black in the end"
    gone = [(picture.sum(axis=-1) == 0).mean() for picture in frames.pictures]
    np.testing.assert_allclose(gone, frames.shares, atol=0.01)
    relevance = e.attribution[0].sum(axis=0)
    first = frames.pictures[1].sum(axis=-1) == 0
    assert relevance[first].min() >= relevance[~first].max(), "the most relevant go first"


def test_what_is_no_picture_is_refused():
    model = analyzer.load(MODELS / "tumour_mlp.onnx", "cpu", threads=1)
    x = np.zeros((1, 30), np.float32)
    with pytest.raises(UnsupportedError, match="no picture"):
        flipping_frames(model, x, model.explain(x, "gradient"))
