"""Preprocessing: the schema and its algebra, sizes taken from the model, files and their faults."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from analyzer.errors import UsageError
from analyzer.inputs import PRESETS, Preprocess, default_for, discover, load_preprocess

SQUARE = (1, 3, 224, 224)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


numbers = st.floats(-300, 300, allow_nan=False, width=32)
divisors = st.one_of(st.floats(0.05, 300), st.floats(-300, -0.05))
small_pictures = hnp.arrays(np.uint8, st.tuples(st.integers(1, 7), st.integers(1, 7), st.just(3)))


@settings(max_examples=80, deadline=None)
@given(
    pixels=small_pictures,
    scale=st.floats(1e-3, 2),
    mean=st.lists(numbers, min_size=3, max_size=3),
    std=st.lists(divisors, min_size=3, max_size=3),
    color=st.sampled_from(["RGB", "BGR"]),
    layout=st.sampled_from(["NCHW", "NHWC"]),
)
def test_values_are_scaled_then_shifted_then_divided_per_channel(pixels, scale, mean, std, color, layout):
    chosen = Preprocess(color=color, layout=layout, scale=scale, mean=tuple(mean), std=tuple(std))
    height, width = pixels.shape[:2]
    shape = (1, 3, height, width) if layout == "NCHW" else (1, height, width, 3)
    got = chosen.apply(pixels, shape)
    assert got.dtype == np.float32 and got.shape == shape[1:]
    order = [0, 1, 2] if color == "RGB" else [2, 1, 0]
    for row in range(height):
        for column in range(width):
            for channel in range(3):
                expected = (float(pixels[row, column, order[channel]]) * scale - mean[channel]) / std[channel]
                value = got[channel, row, column] if layout == "NCHW" else got[row, column, channel]
                assert value == np.float32(expected)


@settings(max_examples=80, deadline=None)
@given(
    pixels=small_pictures,
    scale=st.floats(1e-3, 2),
    mean=st.lists(numbers, min_size=3, max_size=3),
    std=st.lists(divisors, min_size=3, max_size=3),
    dtype=st.sampled_from(["float32", "float16", "uint8"]),
)
def test_low_and_high_bound_every_picture_exactly(pixels, scale, mean, std, dtype):
    chosen = Preprocess(color="RGB", layout="NCHW", scale=scale, mean=mean, std=std, dtype=dtype)
    low, high = chosen.low_high()
    values = chosen.encode(pixels)
    assert low.shape == high.shape == (3,) and values.dtype == low.dtype == np.dtype(dtype)
    assert (values >= low[:, None, None]).all() and (values <= high[:, None, None]).all()
    black, white = (chosen.encode(np.full((1, 1, 3), level, np.uint8))[:, 0, 0] for level in (0, 255))
    assert np.array_equal(low, np.minimum(black, white)) and np.array_equal(high, np.maximum(black, white))


@pytest.mark.parametrize("name", sorted(PRESETS))
@settings(max_examples=20, deadline=None)
@given(pixels=small_pictures)
def test_decode_inverts_encode_for_every_preset(name, pixels):
    fitted = PRESETS[name].model_copy(update={"resize_short": None, "crop": None}).fit((1, 3, *pixels.shape[:2]))
    assert np.array_equal(fitted.decode(fitted.encode(pixels)), pixels)


def test_presets_are_the_documented_ones():
    grey = np.full((300, 400, 3), 51, np.uint8)
    red = np.zeros((224, 224, 3), np.uint8)
    red[..., 0] = 255
    imagenet = PRESETS["imagenet"]
    assert (imagenet.resize_short, imagenet.crop, imagenet.color) == (256, (224, 224), "RGB")
    expected = (0.2 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(imagenet.apply(grey, SQUARE)[:, 5, 9], expected, rtol=1e-6)
    np.testing.assert_allclose(
        PRESETS["imagenet-caffe"].apply(red, SQUARE)[:, 0, 0], [-103.94, -116.78, 255 - 123.68], rtol=1e-6
    )
    for name, low, high in [("unit", 0, 1), ("signed", -1, 1), ("raw", 0, 255)]:
        bounds = PRESETS[name].low_high()
        assert bounds[0].tolist() == [low] * 3 and bounds[1].tolist() == [high] * 3
        assert PRESETS[name].apply(red, (None, 3, 10, 12)).shape == (3, 10, 12)


@pytest.mark.parametrize(("side", "short"), [(224, 256), (299, 342), (128, 146), (32, 37)])
def test_imagenet_follows_the_models_size(side: int, short: int):
    fitted = PRESETS["imagenet"].fit((None, 3, side, side))
    assert fitted.crop == (side, side) and fitted.resize_short == short
    assert fitted.apply(picture(300, 451), ("N", 3, side, side)).shape == (3, side, side)


def test_imagenet_geometry_against_pillow():
    pixels = picture(300, 451)
    expected = Image.fromarray(pixels).resize((385, 256), Image.Resampling.BILINEAR).crop((80, 16, 304, 240))
    assert np.array_equal(PRESETS["imagenet"].resized(pixels, SQUARE), np.asarray(expected))


def test_crop_wider_than_the_resized_picture_enlarges_it():
    fitted = PRESETS["imagenet"].fit((1, 3, 240, 320))
    assert fitted.resize_short == 274
    pixels = fitted.resized(picture(500, 100), (1, 3, 240, 320))
    assert pixels.shape == (240, 320, 3) and pixels.std() > 0


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    name=st.sampled_from(sorted(PRESETS)),
    interpolation=st.sampled_from(["bilinear", "bicubic", "nearest", "lanczos"]),
)
def test_any_picture_becomes_the_models_size(height, width, rows, columns, name, interpolation):
    chosen = PRESETS[name].model_copy(update={"interpolation": interpolation})
    shape = (1, rows, columns, 3) if columns != 3 and rows not in (1, 3) else (1, 3, rows, columns)
    assert chosen.apply(picture(height, width), shape).shape == shape[1:]


def test_free_dimensions_keep_the_picture_or_its_proportions():
    pixels = picture(40, 80)
    assert PRESETS["unit"].apply(pixels, ("N", 3, "H", "W")).shape == (3, 40, 80)
    assert PRESETS["unit"].apply(pixels, (0, 3, 20, 0)).shape == (3, 20, 40)
    assert PRESETS["unit"].apply(pixels, (0, 3, -1, 20)).shape == (3, 10, 20)
    assert PRESETS["imagenet"].apply(pixels, (None, 3, None, None)).shape == (3, 224, 224)


def test_layout_color_and_type_come_from_the_model():
    fitted = PRESETS["unit"].fit((None, 28, 28, 1), "tensor(float16)")
    assert (fitted.layout, fitted.color, fitted.dtype) == ("NHWC", "L", "float16")
    values = fitted.apply(picture(28, 28), (None, 28, 28, 1), "tensor(float16)")
    assert values.shape == (28, 28, 1) and values.dtype == np.float16
    assert PRESETS["raw"].apply(picture(9, 9), (1, 3, 9, 9), np.uint8).dtype == np.uint8


def test_grey_is_the_luma_of_the_picture():
    pixels = picture(6, 5)
    got = PRESETS["raw"].apply(pixels, (1, 1, 6, 5))[0]
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    assert np.abs(got - luma).max() <= 1 and got.shape == (6, 5)
    assert (PRESETS["raw"].resized(pixels, (1, 1, 6, 5)) == got[..., None]).all()


def test_letterbox_keeps_proportions_and_pads():
    pixels = np.full((50, 100, 3), 200, np.uint8)
    for at, top in [("center", 10), ("top-left", 0)]:
        chosen = Preprocess(letterbox=114, letterbox_at=at)
        seen = chosen.resized(pixels, (1, 3, 40, 40))
        inside = np.zeros((40, 40), bool)
        inside[top : top + 20] = True
        assert (seen[inside] == 200).all() and (seen[~inside] == 114).all()


@pytest.mark.parametrize(
    ("chosen", "shape", "dtype", "word"),
    [
        (PRESETS["imagenet"], (1, 1, 224, 224), None, "1"),
        (PRESETS["unit"], (1, 10), None, "no picture"),
        (PRESETS["unit"], (1, 3, 8, 8), "tensor(int64)", "int64"),
        (Preprocess(layout="NHWC"), (1, 3, 224, 224), None, "channel"),
        (Preprocess(resize_short=256, crop=(224, 224)), (1, 3, 299, 299), None, "299x299"),
        (Preprocess(dtype="uint8"), (1, 3, 8, 8), "float32", "uint8"),
        (Preprocess(mean=(1, 2, 3)), (1, 1, 8, 8), None, "3 numbers"),
    ],
)
def test_what_contradicts_the_model_is_refused(chosen, shape, dtype, word):
    with pytest.raises(UsageError) as caught:
        chosen.fit(shape, dtype)
    assert caught.value.code == "config.preprocess" and word in caught.value.message


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_the_record_is_json_and_rebuilds_the_same(name: str):
    fitted = PRESETS[name].fit((1, 3, 96, 96))
    assert Preprocess(**json.loads(json.dumps(fitted.to_dict()))) == fitted
    with pytest.raises(ValueError, match="frozen"):
        fitted.scale = 2.0


def test_toml_with_a_preset_as_base(tmp_path: Path):
    file = tmp_path / "mine.toml"
    file.write_text('preset = "imagenet"\nlayout = "NHWC"\nresize = 96\nscale = "1/510"\nmean = 0.5\n')
    chosen = load_preprocess(file)
    assert chosen.layout == "NHWC" and chosen.resize == (96, 96) and chosen.crop is None
    assert chosen.resize_short is None and not chosen.follow_model
    assert chosen.scale == 1 / 510 and chosen.mean == (0.5,) and chosen.std == (0.229, 0.224, 0.225)
    as_json = tmp_path / "mine.json"
    as_json.write_text(json.dumps({"scale": 0.5, "color": "BGR"}))
    assert load_preprocess(str(as_json)) == load_preprocess({"scale": 0.5, "color": "BGR"})
    assert load_preprocess(chosen) is chosen


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('colour = "RGB"', ["colour", "'color'"]),
        ('color = "rgb"', ["color", "'RGB'", "BGR"]),
        ('layout = "NCWH"', ["layout", "'NCHW'", "NHWC"]),
        ('interpolation = "cubic"', ["interpolation", "'bicubic'", "lanczos"]),
        ("std = 0", ["std", "not be 0"]),
        ("std = [1, 2]", ["std", "3"]),
        ("scale = nan", ["scale", "finite"]),
        ("scale = true", ["scale", "number"]),
        ('scale = "one"', ["scale", "number"]),
        ("crop = [224]", ["crop", "[height, width]"]),
        ("crop = 1000000", ["crop", "16384"]),
        ("resize_short = 2.5", ["resize_short"]),
        ("letterbox = 300", ["letterbox", "255"]),
        ("resize = 32\nresize_short = 32", ["resize_short"]),
        ("letterbox = 1\ncrop = 3", ["letterbox"]),
        ("resize_short = 100\ncrop = 224", ["crop"]),
        ('preset = "imagnet"', ["imagnet", "'imagenet'"]),
        ("preset = 3", ["preset", "imagenet-caffe"]),
        ("this is not TOML", ["neither TOML nor JSON"]),
        ('{"color": ', ["neither TOML nor JSON"]),
        ("a = " + "[" * 5000, ["neither TOML nor JSON"]),
        ('color = "L"\nmean = [1, 2, 3]', ["color is L"]),
    ],
)
def test_faults_in_a_file_are_named(tmp_path: Path, text: str, words: list[str]):
    file = tmp_path / "bad.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_preprocess(file)
    line = str(caught.value)
    assert caught.value.code == "config.preprocess" and "bad.toml" in line and "\n" not in line
    assert all(word in line for word in words), line
    assert len(line) < 600


def test_faults_of_the_file_itself(tmp_path: Path):
    with pytest.raises(UsageError, match="'imagenet'"):
        load_preprocess("imagnet")
    with pytest.raises(UsageError) as caught:
        load_preprocess(tmp_path / "none.toml")
    assert caught.value.code == "data.missing"
    for content in (b"\xff\xfe\0", b"x" * (2**20 + 1)):
        file = tmp_path / "odd.toml"
        file.write_bytes(content)
        with pytest.raises(UsageError) as caught:
            load_preprocess(file)
        assert caught.value.code == "config.preprocess"


def test_discover_beside_the_model_then_in_its_metadata(tmp_path: Path):
    model = tmp_path / "squeeze.v1.onnx"
    assert discover(model, {}) is None and discover(None, None) is None
    assert discover(model, {"preprocess": "signed"}) == PRESETS["signed"]
    assert discover(None, {"preprocess": '{"scale": 2}'}) == Preprocess(scale=2)
    assert discover(None, {"preprocess": "scale = 2"}) == Preprocess(scale=2)
    (tmp_path / "squeeze.v1.preprocess.toml").write_text('preset = "unit"')
    assert discover(model, {"preprocess": "signed"}) == PRESETS["unit"]
    secret = tmp_path / "secret.toml"
    secret.write_text("scale = 3")
    with pytest.raises(UsageError, match="metadata"):  # a model may not name a file to read
        discover(tmp_path / "other.onnx", {"preprocess": str(secret)})


def test_default_says_what_it_assumed():
    assert default_for(SQUARE).note == "no preprocessing given: assumed RGB in [0, 1]"
    assert "grey in [0, 1]" in str(default_for((1, 1, 8, 8), "tensor(float)").note)
    assert "0..255" in str(default_for((1, 8, 8, 3), np.uint8).note)
    assert default_for(SQUARE).fit(SQUARE).to_dict()["note"].startswith("no preprocessing given")
    for shape, dtype in [((1, 10), "float32"), ((1, 3, 8, 8), "int64"), ((1, 8, 8, 8), "float32")]:
        with pytest.raises(UsageError):
            default_for(shape, dtype)


def test_importing_the_package_loads_nothing_heavy():
    heavy = ("torch", "onnx", "onnxruntime", "PIL", "pydantic", "skimage", "scipy", "sklearn")
    code = f"import sys, analyzer.inputs; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
