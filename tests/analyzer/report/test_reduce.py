"""What is drawn of an attribution, against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest

from analyzer.errors import UsageError
from analyzer.report import Panel, Sample
from analyzer.report.panel import Kind
from analyzer.report.reduce import (
    feature_bars,
    image_map,
    series_map,
    strongest,
    tensor_map,
    token_map,
)
from tests.analyzer.report.records import image_sample, panel

RNG = np.random.default_rng(1)


@pytest.mark.parametrize("layout", ["CHW", None])
def test_image_channels_are_summed_when_signed(layout: None) -> None:
    sample = image_sample(6, 9)
    sample = Sample(sample.name, "image", sample.image, sample.values, layout)
    values = RNG.normal(size=(3, 6, 9)).astype(np.float32)
    drawn = image_map(sample, panel(values))
    np.testing.assert_allclose(drawn.values, values[0].astype(float) + values[1] + values[2], rtol=1e-6)
    assert drawn.notes == ("summed over 3 channels",)


def test_image_channels_last_and_unsigned() -> None:
    sample = image_sample(6, 9)
    sample = Sample("x", "image", sample.image, sample.values.transpose(1, 2, 0), "HWC")
    values = RNG.random((6, 9, 3))
    drawn = image_map(sample, panel(values, signed=False))
    np.testing.assert_array_equal(drawn.values, np.max(values, axis=-1))
    assert drawn.notes == ("largest of 3 channels",)


def test_single_channel_and_plain_maps_need_no_words() -> None:
    sample = image_sample()
    for shape in ((1, 4, 4), (4, 4)):
        drawn = image_map(sample, panel(np.ones(shape)))
        assert drawn.values.shape == (4, 4)
        assert drawn.notes == ()


def test_features_are_ranked_and_the_rest_is_summed() -> None:
    values = np.array([0.1, -5.0, np.nan, 3.0, -3.0, 0.25])
    sample = Sample("r", "table", None, np.array([1, 2, 3, 4, 5, 6.5]), None, ("a", "b", "c"))
    drawn = feature_bars(sample, panel(values), most=3)
    assert drawn.labels == ("b", "feature 3", "feature 4")
    assert drawn.details == ("= 2", "= 4", "= 5")
    np.testing.assert_array_equal(drawn.values, [-5, 3, -3])
    assert drawn.rest[0] == 3
    drawn = feature_bars(sample, panel(np.nan_to_num(values)), most=3)
    assert drawn.rest[1] == pytest.approx(0.35)
    assert drawn.notes == ("3 smaller features, together 0.35",)


def test_features_may_be_strings() -> None:
    sample = Sample("r", "table", None, np.array(["red", "blue"], dtype=object), None, ("colour", "other"))
    assert feature_bars(sample, panel(np.array([1.0, 2.0]))).details == ("= blue", "= red")


def test_series_keeps_the_most_relevant_channels_in_order() -> None:
    values = np.zeros((8, 50))
    values[5], values[2] = 1.0, -2.0
    sample = Sample("s", "series", None, RNG.normal(size=(8, 50)))
    drawn = series_map(sample, panel(values), most=2)
    assert drawn.picked == (2, 5)
    assert drawn.labels == ("channel 2", "channel 5")
    np.testing.assert_array_equal(drawn.values, values[[2, 5]])
    assert drawn.notes == ("the 2 most relevant of 8 channels",)


@pytest.mark.parametrize("layout", ["TC", None])
def test_series_with_time_first_is_turned(layout: None) -> None:
    values = RNG.normal(size=(50, 3))
    sample = Sample("s", "series", None, RNG.normal(size=(50, 3)), layout)
    np.testing.assert_array_equal(series_map(sample, panel(values)).values, values.T)


@pytest.mark.parametrize("shape", [(40,), (1, 40)])
def test_series_maps_may_be_shared_by_channels(shape: tuple[int, ...]) -> None:
    values = RNG.normal(size=shape)
    sample = Sample("s", "series", None, RNG.normal(size=(2, 40)))
    np.testing.assert_array_equal(series_map(sample, panel(values)).values, np.stack([values.ravel()] * 2))


def test_tokens_are_summed_over_the_embedding_and_blank_ones_shown() -> None:
    values = RNG.normal(size=(3, 16))
    sample = Sample("t", "tokens", None, np.array([5, 6, 7]), None, ("a", "\n", "\x1b[1mb"))
    drawn = token_map(sample, panel(values))
    np.testing.assert_allclose(drawn.values, values.sum(axis=1))
    assert drawn.labels == ("a", "␣", "b")


def test_tokens_beyond_the_limit_are_counted() -> None:
    sample = Sample("t", "tokens", None, np.arange(10))
    drawn = token_map(sample, panel(np.arange(10.0)), most=4)
    assert drawn.labels == ("0", "1", "2", "3")
    assert drawn.notes == ("the first 4 of 10 tokens, the others 39",)


def test_tensors_keep_the_value_of_largest_size() -> None:
    values = np.zeros((5, 7, 3))
    values[2, 3, 1] = -9
    drawn = tensor_map(values, most=10)
    assert drawn.values.shape == (9, 3)
    assert drawn.values.min() == -9
    assert drawn.notes == ("groups of 4 rows drawn as one: the value of largest size",)
    assert tensor_map(np.array(3.0)).values.tolist() == [[3]]


def test_strongest_is_argmax_of_size_by_hand() -> None:
    values = np.array([[1.0, -2.0, 0.5, np.nan, 4.0], [0, 0, -1, 1, np.nan]])
    np.testing.assert_array_equal(strongest(values, 2, 1), [[-2, 0.5, 4], [0, -1, np.nan]])


@pytest.mark.parametrize(
    ("kind", "values", "attribution"),
    [
        ("image", np.zeros((3, 8, 8)), np.zeros((1, 3, 8, 8))),
        ("image", np.zeros((3, 8, 8)), np.zeros((3, 0, 8))),
        ("table", np.zeros(5), np.zeros(4)),
        ("series", np.zeros((2, 9)), np.zeros((2, 8))),
        ("tokens", np.zeros(5), np.zeros(4)),
    ],
)
def test_misfits_are_named(kind: Kind, values: np.ndarray, attribution: np.ndarray) -> None:
    sample = Sample("who", kind, image_sample().image if kind == "image" else None, values)
    reducers = {"image": image_map, "table": feature_bars, "series": series_map, "tokens": token_map}
    with pytest.raises(UsageError, match=r"'lrp'.*'who'") as caught:
        reducers[kind](sample, panel(attribution))
    assert caught.value.code == "report.shape"


def test_attributions_must_be_real() -> None:
    bad: Panel = panel(np.zeros((8, 8), dtype=complex))
    with pytest.raises(UsageError) as caught:
        image_map(image_sample(), bad)
    assert caught.value.code == "report.dtype"


def test_pictures_must_be_8_bit_rgb() -> None:
    with pytest.raises(UsageError) as caught:
        Sample("x", "image", np.zeros((8, 8, 3), dtype=np.float32), np.zeros((3, 8, 8)))
    assert caught.value.code == "report.shape"
