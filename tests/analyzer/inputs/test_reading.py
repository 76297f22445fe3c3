"""From files to model inputs: kinds, shapes, types, pictures and records."""

from __future__ import annotations

import hashlib
import json
import random
import struct
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from analyzer.errors import AnalyzerError, InputError, UsageError
from analyzer.inputs import PRESETS, LoadedInput, array_picture, read_input

IMAGE = ("N", 3, 8, 10)


def pixels(height: int = 8, width: int = 10) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def saved(tmp_path: Path, array: Any, name: str = "a.npy") -> Path:
    np.save(tmp_path / name, array)
    return tmp_path / name


def checked(loaded: LoadedInput) -> LoadedInput:
    """What every loaded input promises."""
    record = json.loads(json.dumps(loaded.record))
    assert record["sha256"] == loaded.sha256 == hashlib.sha256(loaded.path.read_bytes()).hexdigest()
    kind = "str" if loaded.array.dtype == object else str(loaded.array.dtype)
    assert record["shape"] == list(loaded.array.shape) and record["dtype"] == kind
    assert loaded.kind in ("image", "table", "series", "tensor") and tuple(record["notes"]) == loaded.notes
    if loaded.picture is not None:
        assert loaded.picture.dtype == np.uint8 and loaded.picture.shape[2:] == (3,)
    return loaded


def refused(path: Path, shape: Any, dtype: str = "tensor(float)", **options: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        read_input(path, "data", dtype, shape, **options)
    assert path.name in caught.value.message and "\n" not in str(caught.value)
    return caught.value


def test_pictures_go_through_the_preprocessing(tmp_path: Path):
    Image.fromarray(pixels()).save(tmp_path / "p.png")
    loaded = checked(read_input(tmp_path / "p.png", "data", "tensor(float)", IMAGE, "signed"))
    assert loaded.kind == "image" and loaded.layout == "CHW" and np.array_equal(loaded.picture, pixels())
    expected = (np.moveaxis(pixels(), -1, 0)[None] / 127.5 - 1).astype(np.float32)
    np.testing.assert_allclose(loaded.array, expected, atol=1e-7)
    assert loaded.record["preprocess"]["name"] == "signed" and loaded.record["picture_size"] == [8, 10]
    assert loaded.notes == ()


def test_without_preprocessing_the_assumption_is_recorded(tmp_path: Path):
    Image.fromarray(pixels()).convert("L").save(tmp_path / "p.png")
    loaded = checked(read_input(tmp_path / "p.png", "data", "float32", (1, 4, 5, 3)))
    assert loaded.layout == "HWC" and loaded.array.shape == (1, 4, 5, 3)
    assert loaded.array.min() >= 0 and loaded.array.max() <= 1
    assert "no preprocessing given: assumed RGB in [0, 1]" in loaded.notes and len(loaded.notes) == 2
    grey = checked(read_input(tmp_path / "p.png", "data", "float16", (None, 1, None, None)))
    assert grey.array.shape == (1, 1, 8, 10) and grey.array.dtype == np.float16
    wide = checked(read_input(tmp_path / "p.png", "data", "tensor(double)", IMAGE))
    assert wide.array.dtype == np.float64


@pytest.mark.parametrize(
    ("given_shape", "shape", "got"),
    [
        ((1, 3, 8, 10), IMAGE, (1, 3, 8, 10)),
        ((3, 8, 10), IMAGE, (1, 3, 8, 10)),
        ((5, 3, 8, 10), IMAGE, (5, 3, 8, 10)),
        ((2, 3, 8, 10), (1, 3, 8, 10), (2, 3, 8, 10)),
        ((28, 28), (None, 1, 28, 28), (1, 1, 28, 28)),
        ((7,), (0, 7), (1, 7)),
        ((28, 1), ("batch", 28, 1), (1, 28, 1)),
        ((4, 9), ("batch", "time"), (4, 9)),
        ((), (), ()),
        ((6,), (6,), (6,)),
    ],
)
def test_arrays_that_fit(tmp_path: Path, given_shape, shape, got):
    loaded = checked(read_input(saved(tmp_path, np.ones(given_shape)), "data", "tensor(float)", shape))
    assert loaded.array.shape == got and loaded.array.dtype == np.float32
    assert any("axis" in note or "taken as" in note for note in loaded.notes) == (got != given_shape)


@pytest.mark.parametrize(
    ("given_shape", "shape", "hint"),
    [
        ((1, 8, 10, 3), IMAGE, "channels are last"),
        ((1, 3, 8, 10), (1, 8, 10, 3), "channels are first"),
        ((1, 4, 8, 10), IMAGE, ""),
        ((1, 3, 9, 10), IMAGE, ""),
        ((2, 240), IMAGE, "reshape it to (2, 3, 8, 10)"),
        ((200, 28, 28), (None, 1, 28, 28), "reshape it to (200, 1, 28, 28)"),
        ((4, 8), (None, 7), "label column"),
        ((3, 7), (2, 7), ""),
        ((1, 1, 3, 8, 10), IMAGE, ""),
        ((3,), (2,), ""),
    ],
)
def test_arrays_that_do_not_fit_say_both_shapes(tmp_path: Path, given_shape, shape, hint):
    problem = refused(saved(tmp_path, np.ones(given_shape)), shape)
    assert problem.code == "data.bad_shape" and hint in problem.hint
    assert str(tuple(given_shape)) in problem.message and "'data' takes (" in problem.message


def test_empty_and_nonfinite_arrays(tmp_path: Path):
    assert refused(saved(tmp_path, np.ones((0, 7))), (None, 7)).code == "data.empty"
    for bad in (np.nan, np.inf, -np.inf):
        values = np.ones((2, 7))
        values[1, 3] = bad
        problem = refused(saved(tmp_path, values), (None, 7))
        assert problem.code == "data.nonfinite" and "(1, 3)" in problem.message
    assert refused(saved(tmp_path, np.full((1, 7), 1e300)), (None, 7)).code == "data.nonfinite"
    assert refused(saved(tmp_path, np.full((1, 7), 70000.0)), (None, 7), "float16").code == "data.nonfinite"


@pytest.mark.parametrize(
    ("values", "dtype", "code"),
    [
        ([0.5], "tensor(int64)", "data.bad_dtype"),
        ([300], "tensor(uint8)", "data.bad_dtype"),
        ([-1], "tensor(uint8)", "data.bad_dtype"),
        ([2**40], "tensor(int32)", "data.bad_dtype"),
        ([1e30], "tensor(int64)", "data.bad_dtype"),
        ([2], "tensor(bool)", "data.bad_dtype"),
        (["x"], "tensor(float)", "data.bad_dtype"),
        ([1.0], "tensor(string)", "data.bad_dtype"),
        ([1.0], "tensor(bfloat16)", "data.bad_dtype"),
        ([3.0], "tensor(int64)", None),
        ([1], "tensor(bool)", None),
        (["x"], "tensor(string)", None),
        ([True], "tensor(float)", None),
        ([7], "tensor(double)", None),
    ],
)
def test_types_are_never_cut(tmp_path: Path, values, dtype, code):
    path = saved(tmp_path, np.array([values]))
    if code is None:
        loaded = checked(read_input(path, "data", dtype, (None, 1)))
        assert loaded.array[0, 0] == values[0]
        return
    with pytest.raises(InputError) as caught:
        read_input(path, "data", dtype, (None, 1))
    assert caught.value.code == code


@given(
    x=hnp.arrays(np.float32, (2, 3, 4), elements=st.floats(-1e6, 1e6, width=32)),
    layout=st.sampled_from(["CHW", "HWC"]),
)
def test_pictures_of_arrays_span_the_grey_range(x, layout):
    x = x[:1] if layout == "CHW" else x[..., :3]
    picture, note = array_picture(x, layout)
    assert picture.shape == ((3, 4, 3) if layout == "CHW" else (2, 3, 3)) and "stretched" in note
    if x.max() > x.min():
        assert picture.min() == 0 and picture.max() == 255
    else:
        assert (picture == 128).all()


def test_image_like_arrays_show_a_picture(tmp_path: Path):
    original = pixels()
    for preset in ("imagenet", "imagenet-caffe", "unit"):
        sizeless = PRESETS[preset].model_copy(update={"crop": None, "resize_short": None})
        path = saved(tmp_path, sizeless.apply(original, IMAGE))
        loaded = checked(read_input(path, "data", "tensor(float)", IMAGE, preset))
        assert np.array_equal(loaded.picture, original) and any("inverted" in n for n in loaded.notes)
        blind = checked(read_input(path, "data", "tensor(float)", IMAGE))
        assert blind.kind == "image" and any("stretched" in n for n in blind.notes)
        assert np.array_equal(blind.array, loaded.array)
    assert read_input(saved(tmp_path, np.ones((1, 8, 4, 4))), "d", "float32", (1, 8, 4, 4)).picture is None


def test_tables(tmp_path: Path):
    path = tmp_path / "t.csv"
    path.write_text("a,b,c,d\n1,2,3,4\n5,6,7,8\n")
    loaded = checked(read_input(path, "data", "tensor(float)", (0, 4)))
    assert loaded.kind == "table" and loaded.feature_names == ("a", "b", "c", "d") and loaded.array.shape == (2, 4)
    assert loaded.record["feature_names"] == ["a", "b", "c", "d"]
    assert read_input(path, "data", "tensor(int64)", (0, 4)).array.dtype == np.int64
    series = checked(read_input(path, "data", "tensor(float)", (None, 4, 1)))
    assert series.kind == "series" and series.array[1, :, 0].tolist() == [5, 6, 7, 8]
    assert checked(read_input(path, "data", "tensor(float)", (None, None, 2))).array.shape == (2, 2, 2)
    picture = checked(read_input(path, "data", "tensor(float)", (None, 1, 2, 2)))
    assert picture.kind == "image" and picture.array[0, 0].tolist() == [[1, 2], [3, 4]]
    assert read_input(path, "data", "float32", (0, 2), columns=["d", "a"]).array.tolist() == [[4, 1], [8, 5]]
    assert refused(path, (None, 3)).code == "data.bad_shape"
    assert refused(path, (None, 3, 1)).code == "data.bad_shape"
    path.write_text("")
    assert refused(path, (None, 3)).code == "data.empty"


def test_files_are_known_by_content(tmp_path: Path):
    Image.fromarray(pixels()).save(tmp_path / "p.png")
    (tmp_path / "p.png").rename(tmp_path / "p.csv")
    assert read_input(tmp_path / "p.csv", "data", "float32", IMAGE).kind == "image"
    saved(tmp_path, np.ones((1, 7))).rename(tmp_path / "a.jpg")
    assert read_input(tmp_path / "a.jpg", "data", "float32", (1, 7)).array.sum() == 7
    (tmp_path / "rows.dat").write_text("1 , 2\n")
    assert read_input(tmp_path / "rows.dat", "data", "float32", (1, 2)).array.tolist() == [[1, 2]]
    np.savez(tmp_path / "e.npz", data=np.ones((1, 2)), input=np.zeros((1, 2)))
    assert read_input(tmp_path / "e.npz", "data", "float32", (1, 2)).array.sum() == 2
    assert read_input(tmp_path / "e.npz", "data", "float32", (1, 2), key="input").array.sum() == 0


@pytest.mark.parametrize("content", [b"", b"words\n", b"<svg/>", b"\x89PNG\r\n\x1a\n"])
def test_no_picture_for_a_picture_model(tmp_path: Path, content: bytes):
    (tmp_path / "p.png").write_bytes(content)
    assert refused(tmp_path / "p.png", IMAGE).code == "data.image_unreadable"


def test_pictures_for_models_that_take_none(tmp_path: Path):
    Image.fromarray(pixels()).save(tmp_path / "p.png")
    for shape in [(1, 10), (1, 4, 8, 8), (1, 3, 8)]:
        assert refused(tmp_path / "p.png", shape).code == "data.bad_shape"
    assert refused(tmp_path / "p.png", (4, 3, 8, 10)).code == "data.bad_shape"
    with pytest.raises(UsageError) as caught:
        read_input(tmp_path / "p.png", "data", "float32", (1, 1, 8, 8), "imagenet")
    assert caught.value.code == "config.preprocess"


def test_sound_takes_the_models_axes(tmp_path: Path):
    path = tmp_path / "s.wav"
    for channels in (1, 2):
        with wave.open(str(path), "wb") as file:
            file.setparams((channels, 2, 16000, 0, "NONE", ""))
            file.writeframes(struct.pack(f"<{6 * channels}h", *range(0, 600 * channels, 100)))
        for shape, got in [
            (("N", "T"), (1, 6)),
            (("N", 6, 1), (1, 6, 1)),
            (("N", 1, "T"), (1, 1, 6)),
            (("N", channels, "T"), (1, channels, 6)),
            (("N", 6, channels), (1, 6, channels)),
        ]:
            loaded = checked(read_input(path, "data", "tensor(float)", shape))
            assert loaded.array.shape == got and loaded.kind == "series"
            assert loaded.record["sample_rate"] == 16000
            assert any("averaged" in n for n in loaded.notes) == (channels == 2 and 2 not in got)
    mono = read_input(path, "data", "float32", ("N", "T")).array[0]
    np.testing.assert_allclose(mono, np.arange(50, 1200, 200) / 32768, rtol=1e-6)
    assert refused(path, (None, 5)).code == "data.bad_shape"


def test_faults_of_the_path(tmp_path: Path):
    assert refused(tmp_path, IMAGE).code == "data.not_regular"
    with pytest.raises(UsageError) as caught:
        read_input(tmp_path / "absent.png", "data", "float32", IMAGE)
    assert caught.value.code == "data.missing"


def test_a_large_array_is_refused_before_it_is_read(tmp_path: Path):
    assert refused(saved(tmp_path, np.ones((100, 7))), (None, 7), limit=5000).code == "limit.memory"


def test_damaged_files_give_an_input_or_one_clear_error(tmp_path: Path):
    dice = random.Random(0)
    saved(tmp_path, np.arange(12.0).reshape(3, 4))
    np.savez(tmp_path / "a.npz", data=np.arange(12.0).reshape(3, 4))
    np.savez_compressed(tmp_path / "c.npz", data=np.arange(12).reshape(3, 4))
    (tmp_path / "t.csv").write_text("a,b,c,d\n1,2,3,4\n5,6,7,8\n")
    with wave.open(str(tmp_path / "s.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(b"\1\2" * 20)
    outcomes = {"read": 0, "refused": 0}
    for name in ("a.npy", "a.npz", "c.npz", "t.csv", "s.wav"):
        complete = (tmp_path / name).read_bytes()
        for _ in range(150):
            content = bytearray(complete)
            for _ in range(dice.randint(1, 4)):
                content[dice.randrange(len(content))] = dice.randrange(256)
            cut = len(content) if dice.random() < 0.7 else dice.randrange(len(content))
            (tmp_path / name).write_bytes(content[:cut])
            try:
                assert np.isfinite(read_input(tmp_path / name, "data", "tensor(float)", (None, None)).array).all()
                outcomes["read"] += 1
            except AnalyzerError as problem:
                assert problem.code.startswith(("data.", "limit.")) and "\n" not in str(problem)
                outcomes["refused"] += 1
    assert min(outcomes.values()) > 50
