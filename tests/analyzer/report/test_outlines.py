"""The outline of an explained detection on pictures."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from analyzer.report import heat
from analyzer.report.panel import Panel, Sample


def sample(height: int = 20, width: int = 30) -> tuple[Sample, Panel]:
    grey = np.full((height, width, 3), 90, np.uint8)
    values = np.zeros((3, height, width), np.float32)
    panel = Panel("rise", {}, np.random.default_rng(0).standard_normal((1, height, width)), True, "dog", 1.0)
    return Sample("dog", "image", grey, values, "CHW"), panel


def test_the_box_is_drawn_on_picture_and_overlay_but_not_on_the_map() -> None:
    drawn_sample, panel = sample()
    plain = heat.layers(drawn_sample, panel)
    boxed = heat.layers(drawn_sample, dataclasses.replace(panel, boxes=((5.2, 3.6, 15.4, 12.0),)))
    edge = np.zeros((20, 30), bool)
    edge[[4, 11], 5:15] = True
    edge[4:12, [5, 14]] = True
    for name in ("picture", "overlay"):
        before, after = getattr(plain, name), getattr(boxed, name)
        assert (after[edge] == heat.BOX).all()
        np.testing.assert_array_equal(after[~edge], before[~edge])
    np.testing.assert_array_equal(boxed.heat, plain.heat)
    assert (drawn_sample.image == 90).all()


@pytest.mark.parametrize("box", [(-50.0, -9, 400, 600), (25, 18, 90, 90), (0, 0, 0, 0)])
def test_boxes_that_leave_the_picture_are_cut_off(box: tuple[float, ...]) -> None:
    drawn_sample, panel = sample()
    drawn = heat.layers(drawn_sample, dataclasses.replace(panel, boxes=(box,))).picture
    assert drawn.shape == (20, 30, 3)
    x0, y0 = max(0, int(box[0])), max(0, int(box[1]))
    assert tuple(drawn[y0, x0]) == heat.BOX


@pytest.mark.parametrize("box", [(np.nan, 0, 3, 3), (0, 0, np.inf, 3), (40, 0, 50, 10)])
def test_boxes_that_are_nowhere_are_left_out(box: tuple[float, ...]) -> None:
    drawn_sample, panel = sample()
    drawn = heat.layers(drawn_sample, dataclasses.replace(panel, boxes=(box,))).picture
    np.testing.assert_array_equal(drawn, heat.layers(drawn_sample, panel).picture)


def test_lines_grow_with_the_picture() -> None:
    drawn_sample, panel = sample(480, 720)
    drawn = heat.layers(drawn_sample, dataclasses.replace(panel, boxes=((100, 100, 300, 300),))).picture
    assert (drawn[200] == heat.BOX).all(axis=1).nonzero()[0].tolist() == [100, 101, 102, 297, 298, 299]


def test_a_region_is_bordered_from_outside_and_along_the_edge_of_the_picture() -> None:
    drawn_sample, panel = sample()
    region = np.zeros((20, 30), bool)
    region[14:, :6] = True
    drawn = heat.layers(drawn_sample, dataclasses.replace(panel, region=region)).picture
    border = np.zeros((20, 30), bool)
    border[13, :6] = border[14:, 6] = border[14:, 0] = border[19, :6] = True
    np.testing.assert_array_equal((drawn == heat.BOX).all(axis=-1), border)
    other = dataclasses.replace(panel, region=np.ones((3, 3), bool))
    assert (heat.layers(drawn_sample, other).picture == 90).all(), "a region of another shape is left out"
