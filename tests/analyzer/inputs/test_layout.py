"""Which axes hold channels: by the preprocessing, else by the graph, else by their lengths."""

from __future__ import annotations

import pytest

from analyzer.inputs import Preprocess
from analyzer.inputs.layout import channel_axis, spatial_axes


@pytest.mark.parametrize(
    ("shape", "channels", "spatial"),
    [
        ((1, 3, 8, 9), 1, (2, 3)),
        ((1, 8, 9, 3), 3, (1, 2)),
        ((1, 3, 8, 3), 1, (2, 3)),
        ((1, 5, 6, 7, 1), 4, (1, 2, 3)),
        ((1, 40, 2), 2, (1,)),
        ((1, 2, 40), 1, (2,)),
        ((1, 12), 1, (1,)),
        ((4,), 1, ()),
    ],
)
def test_axes_follow_from_the_shape(shape: tuple[int, ...], channels: int, spatial: tuple[int, ...]) -> None:
    assert channel_axis(shape, None) == channels
    assert spatial_axes(shape, None) == spatial


@pytest.mark.parametrize(("layout", "channels"), [("NCHW", 1), ("NHWC", 3)])
def test_the_preprocessing_comes_first(layout: str, channels: int) -> None:
    preprocess = Preprocess(name="test", layout=layout)
    assert channel_axis((1, 3, 8, 3), preprocess) == channels
    assert channel_axis((1, 2, 40), preprocess) == 1  # no picture
    assert channel_axis((1, 3, 8, 3), preprocess, read=2) == channels


def test_the_graph_comes_before_the_sizes() -> None:
    assert channel_axis((1, 10, 5), None, read=2) == 2
    assert spatial_axes((1, 10, 5), None, read=2) == (1,)
    assert channel_axis((1, 40, 2), None, read=1) == 1
