"""Segments: always contiguous, always broadcastable, masks checked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from analyzer.errors import UsageError
from analyzer.inputs import segment, segment_with_notes


def scene(height: int = 48, width: int = 64) -> np.ndarray:
    """Four flat quarters: superpixels should not cross between them."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (220, 30, 30)
    pixels[: height // 2, width // 2 :] = (30, 220, 30)
    pixels[height // 2 :, : width // 2] = (30, 30, 220)
    pixels[height // 2 :, width // 2 :] = (230, 230, 40)
    return pixels


def contiguous(ids: np.ndarray) -> int:
    assert ids.dtype == np.int64
    count = int(ids.max()) + 1
    assert np.array_equal(np.unique(ids), np.arange(count))
    return count


sides = st.integers(1, 24)


@settings(max_examples=80, deadline=None)
@given(
    data=st.data(),
    height=sides,
    width=sides,
    how=st.sampled_from(["slic", None, 1, 7, 40, "grid", "grid:8", "grid:3x5", "voronoi", "elements"]),
    form=st.sampled_from(["picture", "chw", "hwc", "grey", "plane"]),
)
def test_segments_of_pictures_are_contiguous_and_broadcast(data, height, width, how, form):
    shape = {
        "picture": (height, width, 3),
        "chw": (3, height, width),
        "hwc": (height, width, 3),
        "grey": (1, height, width),
        "plane": (height, width),
    }[form]
    kind = np.uint8 if form == "picture" else np.float32
    elements = st.integers(0, 255) if kind == np.uint8 else st.floats(-3, 3, width=32)
    sample = data.draw(hnp.arrays(kind, shape, elements=elements, fill=st.just(0)))
    layout = {"chw": "CHW", "grey": "CHW", "hwc": "HWC"}.get(form)
    ids = segment(sample, how, kind="image", layout=layout)
    contiguous(ids)
    if form == "picture":
        assert ids.shape == (height, width)
    else:
        assert np.broadcast_shapes(ids.shape, shape) == shape
        assert ids.shape == ((height, width, 1) if form == "hwc" else (height, width))


def test_superpixels_follow_edges_and_counts():
    pixels = scene()
    ids = segment(pixels, "slic", 40)
    assert 20 <= contiguous(ids) <= 60
    quarter = (np.arange(48)[:, None] >= 24) * 2 + (np.arange(64)[None] >= 32)
    purity = [np.bincount(quarter[ids == s]).max() / (ids == s).sum() for s in range(ids.max() + 1)]
    assert np.average(purity, weights=np.bincount(ids.ravel())) > 0.95
    assert np.array_equal(ids, segment(pixels, 40)) and np.array_equal(ids, segment(pixels, "40"))
    normalised = (np.moveaxis(pixels, -1, 0) / 255.0 - 0.45).astype(np.float32)
    assert 20 <= contiguous(segment(normalised, "slic", 40)) <= 60
    assert contiguous(segment(pixels, 10)) < contiguous(ids)


def test_constant_pictures_are_cut_into_a_grid_with_a_note(monkeypatch: pytest.MonkeyPatch):
    for pixels in (np.full((50, 60, 3), 9, np.uint8), np.zeros((1, 50, 60), np.float32)):
        assert contiguous(segment(pixels, "slic", 30)) > 5
    import skimage.segmentation

    monkeypatch.setattr(skimage.segmentation, "slic", lambda image, **_: np.zeros(image.shape[:2], int))
    ids, notes = segment_with_notes(np.full((50, 60, 3), 9, np.uint8), "slic", 30)
    assert 20 <= contiguous(ids) <= 40 and len(notes) == 1 and "grid" in notes[0]
    assert segment_with_notes(scene(), "slic", 1)[1] == ()


def test_grid_blocks_start_at_multiples_and_are_cut_at_the_border():
    ids = segment(np.zeros((20, 30, 3), np.uint8), "grid:8")
    for row in range(20):
        for column in range(30):
            assert ids[row, column] == (row // 8) * 4 + column // 8
    ids = segment(np.zeros((3, 20, 30), np.float32), "grid:10x7")
    assert contiguous(ids) == 2 * 5 and ids[9, 0] == 0 and ids[10, 0] == 5 and ids[0, 7] == 1
    assert contiguous(segment(np.zeros((3, 4, 4)), "grid:100")) == 1


def test_voronoi_is_seeded_and_ignores_the_picture():
    one, two = (segment(p, "voronoi", 20, seed=5) for p in (scene(), np.zeros((48, 64, 3), np.uint8)))
    assert np.array_equal(one, two) and contiguous(one) == 20
    assert not np.array_equal(one, segment(scene(), "voronoi", 20, seed=6))


@given(length=st.integers(1, 300), count=st.integers(1, 400))
def test_series_are_cut_into_equal_pieces(length: int, count: int):
    ids = segment(np.zeros(length, np.float32), count, kind="series")
    pieces = contiguous(ids)
    sizes = np.bincount(ids)
    assert pieces == min(count, length) and sizes.max() - sizes.min() <= 1 and (np.diff(ids) >= 0).all()


def test_series_with_channels_tables_and_tokens():
    assert segment(np.zeros((28, 1)), 4).shape == (28, 1)
    assert segment(np.zeros((1, 28)), 4).shape == (1, 28)
    assert segment(np.zeros((3, 28)), 4, kind="series", layout="CHW").shape == (1, 28)
    assert segment(np.zeros((28, 3)), "grid:10", kind="series").ravel().tolist() == [0] * 10 + [1] * 10 + [2] * 8
    for how in (None, "slic", "elements"):
        assert segment(np.zeros(130), how, kind="table").tolist() == list(range(130))
    assert segment(np.zeros(6), 3, kind="table").tolist() == [0, 0, 1, 1, 2, 2]
    assert segment(np.zeros(6), None, 2, kind="tokens").tolist() == [0, 0, 0, 1, 1, 1]
    assert segment(np.array([5, 5, 9])).tolist() == [0, 1, 2]
    assert segment(np.zeros(20)).tolist() == list(range(20))
    assert contiguous(segment(np.zeros(500))) == 50
    assert contiguous(segment(np.zeros(500), "voronoi", 7)) == 7
    assert segment(np.zeros((2, 2, 2, 2)), kind="tokens").shape == (2, 2, 2, 2)


@settings(max_examples=50)
@given(
    mask=hnp.arrays(st.sampled_from([np.int64, np.uint8, np.int16, np.bool_]), (5, 7)),
    dressing=st.sampled_from(["plain", "batch", "channel", "float", "channels"]),
)
def test_masks_keep_their_partition(mask, dressing):
    given_mask = {
        "plain": mask,
        "batch": mask[None, None],
        "channel": mask[None],
        "float": mask.astype(np.float64),
        "channels": np.stack([mask] * 3),
    }[dressing]
    if dressing == "float" and np.abs(given_mask).max() > 2**53:
        return  # beyond what a float can hold
    ids = segment(np.zeros((3, 5, 7), np.float32), given_mask)
    contiguous(ids)
    assert np.broadcast_shapes(ids.shape, (3, 5, 7)) == (3, 5, 7)
    flat, old = np.broadcast_to(ids, (3, 5, 7))[0].ravel(), mask.ravel()
    for a in range(len(flat)):
        assert np.array_equal(flat == flat[a], old == old[a])


def test_masks_for_channels_last_and_pictures():
    mask = np.arange(15).reshape(3, 5)
    assert segment(np.zeros((3, 5, 3)), mask, layout="HWC").shape == (3, 5, 1)
    assert np.array_equal(segment(np.zeros((3, 5, 3), np.uint8), mask), mask)
    assert segment(np.zeros(4), [3, 3, 8, -1]).tolist() == [1, 1, 2, 0]


@pytest.mark.parametrize(
    ("how", "code"),
    [
        (np.zeros((4, 4), int), "segments.bad_mask"),
        (np.full((5, 7), 0.5), "segments.bad_mask"),
        (np.full((5, 7), np.nan), "segments.bad_mask"),
        (np.zeros((2, 3, 5, 7), int), "segments.bad_mask"),
        (np.array([["a"] * 7] * 5), "segments.bad_mask"),
        ("slick", "segments.unknown"),
        ("grid:", "segments.unknown"),
        ("grid:0", "segments.unknown"),
        ("grid:8x0", "segments.unknown"),
        ("grid:-3", "segments.unknown"),
        ("grid:axb", "segments.unknown"),
        ("slic:9", "segments.unknown"),
        (0, "segments.bad_count"),
        (-4, "segments.bad_count"),
        (True, "segments.bad_count"),
        (2.5, "segments.bad_count"),
    ],
)
def test_what_is_no_way_of_cutting(how, code):
    with pytest.raises(UsageError) as caught:
        segment(np.zeros((3, 5, 7), np.float32), how)
    assert caught.value.code == code


def test_near_names_and_empty_samples():
    with pytest.raises(UsageError, match="did you mean 'slic'"):
        segment(scene(), "slick")
    with pytest.raises(UsageError):
        segment(np.zeros((3, 0, 5)))
