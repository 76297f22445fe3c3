"""Masks lie where the model sees what they were drawn over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import analyzer
from analyzer.data.dataset import open_dataset
from analyzer.errors import InputError, UsageError
from analyzer.inputs import Preprocess
from analyzer.model import Model
from tests.common.models import cnn, mlp


def load(**how: Any) -> Model:
    return analyzer.load(cnn(), preprocess=Preprocess(scale=1 / 255, **how))


def white(path: Path, height: int, width: int, seed: int = 0) -> Path:
    """A black picture with a white patch."""
    path.parent.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    pixels = np.zeros((height, width), np.uint8)
    top, left = rng.integers(0, height // 2), rng.integers(0, width // 2)
    pixels[top : top + height // 2, left : left + width // 3] = 255
    Image.fromarray(pixels).convert("RGB").save(path)
    return path


@pytest.mark.parametrize(
    "how",
    [
        {}, {"resize": (8, 8)}, {"resize_short": 10, "crop": (8, 8)}, {"crop": (8, 8)}, {"resize": (8, 8), "letterbox": 200},
        {"resize": (8, 8), "letterbox": 0, "letterbox_at": "top-left"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("ending", ["png", "npy"])
def test_a_mask_goes_where_its_picture_goes(tmp_path: Path, how: dict[str, Any], ending: str) -> None:
    """The picture is its own mask: what the model sees white is inside."""
    model = load(interpolation="nearest", **how)
    for seed, (height, width) in enumerate([(16, 24), (31, 17), (8, 8), (40, 40)]):
        path = white(tmp_path / "data" / f"{seed}.png", height, width, seed)
        if ending == "npy":
            (tmp_path / "masks").mkdir(exist_ok=True)
            np.save(tmp_path / "masks" / f"{seed}.npy", np.asarray(Image.open(path))[..., 0])
        else:
            white(tmp_path / "masks" / f"{seed}.png", height, width, seed)
    data = open_dataset(model, tmp_path / "data", masks=tmp_path / "masks")
    assert data.masks == (True,) * 4
    shares = set()
    for at in range(4):
        sample = data.read(at)
        assert sample.mask is not None
        seen = sample.feed["x"][0, 0] > 0.9
        np.testing.assert_array_equal(sample.mask, seen)
        shares.add(float(seen.mean()))
    assert len(shares) > 1


def test_a_model_that_takes_channels_last(tmp_path: Path) -> None:
    model = analyzer.load(
        cnn(nhwc=True), preprocess=Preprocess(scale=1 / 255, interpolation="nearest", resize_short=10, crop=(8, 8))
    )
    sample = open_dataset(model, white(tmp_path / "a.png", 16, 24), masks=tmp_path / "a.png").read(0)
    np.testing.assert_array_equal(sample.mask, sample.feed["x"][0, :, :, 0] > 0.9)


def test_the_nearest_pixel_is_taken_however_the_picture_is_smoothed(tmp_path: Path) -> None:
    path = white(tmp_path / "data" / "a.png", 32, 48)
    masks = white(tmp_path / "masks" / "a.png", 32, 48).parent
    found = [open_dataset(load(interpolation=name), path, masks=masks).read(0).mask for name in ("nearest", "bicubic")]
    np.testing.assert_array_equal(*found)


def test_a_mask_of_the_input_s_size_is_taken_as_it_is(tmp_path: Path) -> None:
    path = white(tmp_path / "data" / "a.png", 32, 48)
    inside = np.random.default_rng(0).random((8, 8)) > 0.5
    for shape in ((8, 8), (1, 8, 8), (8, 8, 1)):
        np.save(tmp_path / "mask.npy", inside.reshape(shape))
        found = open_dataset(load(resize_short=9, crop=(8, 8)), path, masks=tmp_path / "mask.npy").read(0).mask
        np.testing.assert_array_equal(found, inside)


def test_a_mask_of_another_size_is_refused_with_both_sizes(tmp_path: Path) -> None:
    path = white(tmp_path / "data" / "a.png", 32, 48)
    for mask in (white(tmp_path / "masks" / "a.png", 48, 32), tmp_path / "m.npy"):
        np.save(tmp_path / "m.npy", np.ones((48, 32)))
        data = open_dataset(load(), path, masks=mask.parent if mask.suffix == ".png" else mask)
        with pytest.raises(InputError, match=r"48 x 32.*32 x 48.*8 x 8.*data\.mask_size"):
            data.read(0)


def test_half_is_outside_and_more_is_inside(tmp_path: Path) -> None:
    pixels = np.full((8, 8), 127, np.uint8)
    pixels[2, 3:5] = 128, 255
    Image.fromarray(pixels).save(tmp_path / "m.png")
    path = white(tmp_path / "data" / "a.png", 8, 8)
    mask = open_dataset(load(), path, masks=tmp_path / "m.png").read(0).mask
    np.testing.assert_array_equal(np.argwhere(mask), [[2, 3], [2, 4]])


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "I;16"])
def test_masks_of_every_kind_of_picture(tmp_path: Path, mode: str) -> None:
    inside = np.random.default_rng(0).random((8, 8)) > 0.5
    grey = Image.fromarray(np.where(inside, 255, 0).astype(np.uint8))
    image = Image.fromarray(np.where(inside, 65535, 0).astype(np.uint16)) if mode == "I;16" else grey.convert(mode)
    image.save(tmp_path / "m.png")
    path = white(tmp_path / "data" / "a.png", 8, 8)
    np.testing.assert_array_equal(open_dataset(load(), path, masks=tmp_path / "m.png").read(0).mask, inside)


def test_a_mask_of_ones_among_255_is_no_black_mask(tmp_path: Path) -> None:
    path = white(tmp_path / "data" / "a.png", 8, 8)
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(InputError, match=r"brightest pixel is 1 of 255.*data\.mask_values"):
        open_dataset(load(), path, masks=tmp_path / "m.png").read(0)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "m.png")
    mask = open_dataset(load(), path, masks=tmp_path / "m.png").read(0).mask
    assert mask is not None
    assert not mask.any()
    np.save(tmp_path / "m.npy", np.full((8, 8), np.nan))
    with pytest.raises(InputError, match=r"holds NaN.*data\.mask_values"):
        open_dataset(load(), path, masks=tmp_path / "m.npy").read(0)


def test_masks_are_found_by_name(tmp_path: Path) -> None:
    for name in ("cat/1.png", "bee/1.png", "bee/2.png", "bee/3.png"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        white(tmp_path / "data" / name, 8, 8)
    masks = tmp_path / "data" / "masks"  # inside the data: no samples
    (masks / "bee").mkdir(parents=True)
    for at, name in enumerate(("bee/1", "2", "1")):
        mask = np.zeros((8, 8))
        mask[at] = 1
        np.save(masks / f"{name}.npy", mask)
    data = open_dataset(load(), tmp_path / "data", masks=masks)
    assert data.ids == ("bee/1.png", "bee/2.png", "bee/3.png", "cat/1.png")
    rows = [None if (mask := data.read(at).mask) is None else int(np.argmax(mask[:, 0])) for at in range(4)]
    assert rows == [0, 1, None, None]  # cat/1 must not take what may be bee/1's
    assert data.masks == (True, True, False, False)


def test_masks_that_fit_no_sample_are_refused(tmp_path: Path) -> None:
    path = white(tmp_path / "data" / "a.png", 8, 8)
    white(tmp_path / "masks" / "other.png", 8, 8)
    with pytest.raises(UsageError, match=r"called like a sample; the first sample's is a.png or a.npy.*data\.masks"):
        open_dataset(load(), path, masks=tmp_path / "masks")
    for outer in (tmp_path / "data", tmp_path):
        with pytest.raises(UsageError, match=r"holds the data too.*data\.masks"):
            open_dataset(load(), tmp_path / "data", masks=outer)
    with pytest.raises(UsageError, match=r"data\.missing"):
        open_dataset(load(), path, masks=tmp_path / "nowhere")


def test_masks_of_a_manifest_and_of_rows(tmp_path: Path) -> None:
    white(tmp_path / "a.png", 16, 16)
    white(tmp_path / "m.png", 16, 16, 1)
    (tmp_path / "list.csv").write_text("path,mask\na.png,m.png\na.png,\na.png,gone.png\n")
    data = open_dataset(load(interpolation="nearest"), tmp_path / "list.csv")
    assert data.masks == (True, False, True)
    seen = open_dataset(load(interpolation="nearest"), tmp_path / "m.png").read(0).feed["x"][0, 0] > 0.9
    np.testing.assert_array_equal(data.read(0).mask, seen)
    assert data.read(1).mask is None
    with pytest.raises(InputError, match=r"gone.png.*data\.missing"):
        data.read(2)


def test_columns_have_masks_too(tmp_path: Path) -> None:
    model = analyzer.load(mlp())
    width = int(next(iter(model.inputs.values())).shape[1])
    inside = np.arange(width) % 2 == 0
    np.savez(tmp_path / "d.npz", x=np.zeros((3, width), np.float32), mask=inside)
    data = open_dataset(model, tmp_path / "d.npz")
    assert all(np.array_equal(data.read(at).mask, inside) for at in range(3))


def test_the_digest_tells_masks(tmp_path: Path) -> None:
    path = white(tmp_path / "data" / "a.png", 8, 8)
    digests = {open_dataset(load(), path).digest}
    for at in range(2):
        np.save(tmp_path / "m.npy", np.eye(8, k=at))
        digests.add(open_dataset(load(), path, masks=tmp_path / "m.npy").digest)
    assert len(digests) == 3
