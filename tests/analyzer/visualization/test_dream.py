"""DeepDream: any size of photo, the layer's score rises, frames begin with the photo, numbers stay in range."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import analyzer
from analyzer.errors import AnalyzerError
from analyzer.visualization.dream import _mirrored, _spans
from tests.analyzer.visualization.models import model

MODELS = Path(__file__).parents[3] / "models"
ANY_SIZE = """
<ir_version: 8, opset_import: ["": 17]>
net (float[n, h, w, 3] x) => (float[n, 4] y) {
    [turned] t = Transpose <perm = [0, 3, 1, 2]> (x)
    [conv] c = Conv <pads = [1, 1, 1, 1]> (t, kernel)
    [relu] r = Relu (c)
    [pool] p = GlobalAveragePool (r)
    [flat] y = Flatten (p)
}"""


def photo(rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(0).random((3, rows, columns)).astype(np.float32)


def channels_last() -> analyzer.Model:
    kernel = np.random.default_rng(1).standard_normal((4, 3, 3, 3)).astype(np.float32)
    return analyzer.load(model(ANY_SIZE, kernel=kernel))


@pytest.mark.parametrize("size", [(100, 70), (40, 150)], ids=["tall", "smaller than a tile"])
def test_a_photo_of_any_size_excites_the_layer_more(size: tuple[int, int]) -> None:
    loaded, start = analyzer.load(MODELS / "shapes_cnn.onnx"), photo(*size)
    found = loaded.dream(start, "relu_5", octaves=1, steps=5, frames=5)
    assert found.x.shape == start.shape
    assert 0 <= found.x.min() <= found.x.max() <= 1
    np.testing.assert_array_equal(found.frames[0], start)
    np.testing.assert_array_equal(found.frames[-1], found.x)
    assert found.scores[-1] > found.scores[0]


def test_a_model_of_any_size_with_channels_last_dreams_of_one_channel_in_octaves() -> None:
    loaded, start = channels_last(), np.moveaxis(photo(50, 41), 0, -1)
    found = loaded.dream(start, "conv", channel=2, octaves=3, steps=3, tile=24, frames=9)
    assert found.x.shape == start.shape
    assert all(frame.shape == start.shape for frame in found.frames)
    assert len(found.scores) == 9

    def mean(x: np.ndarray) -> float:
        return float(loaded.activations(x[None], "conv")["c"][0, 2].mean())

    assert mean(found.x) > mean(start)


def test_tiles_cover_an_axis_and_short_pictures_are_mirrored() -> None:
    for length, tile in ((10, 4), (4, 4), (5, 4), (3, 4)):
        covered = {at for span in _spans(length, tile) for at in range(span.start, span.stop)}
        assert covered == set(range(length))
    assert _mirrored(3, 7).tolist() == [1, 0, 0, 1, 2, 2, 1]


def test_an_interrupt_keeps_the_picture_so_far() -> None:
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    start = np.moveaxis(photo(40, 40), 0, -1)
    found = channels_last().dream(start, "conv", octaves=2, steps=4, tile=24, progress=stop)
    assert found.x.shape == start.shape
    assert any("interrupted after 3 of 8" in note for note in found.notes)
    assert np.abs(found.x - start).max() > 0


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({}, "maximize.no_target"),
        ({"layer": "conv", "octaves": 0}, "params.invalid"),
        ({"layer": "conv", "octave_scale": 1.0}, "params.invalid"),
        ({"layer": "conv", "rate": 0}, "params.invalid"),
        ({"layer": "conv", "depth": 3}, "params.unknown"),
        ({"layer": "cov"}, "layer.unknown"),
        ({"layer": "conv", "channel": 4}, "unit.out_of_range"),
    ],
)
def test_wrong_use_is_one_line_with_its_code(given: dict[str, Any], code: str) -> None:
    with pytest.raises(AnalyzerError) as problem:
        channels_last().dream(np.moveaxis(photo(30, 30), 0, -1), **given)
    assert problem.value.code == code


def test_models_without_pictures_are_refused() -> None:
    loaded = analyzer.load(MODELS / "tumour_mlp.onnx")
    with pytest.raises(AnalyzerError) as problem:
        loaded.dream(photo(30, 30), target=0)
    assert problem.value.code == "dream.no_picture"
