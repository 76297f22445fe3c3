"""Pictures: every colour model and file kind, and files that are none."""

from __future__ import annotations

import io
import os
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from analyzer.errors import InputError, UsageError
from analyzer.inputs import read_picture

RED, HALF = (255, 0, 0), 128


def pattern(height: int = 12, width: int = 20) -> np.ndarray[Any, Any]:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(width: int, height: int, depth: int = 8, color: int = 2, data: bytes = b"") -> bytes:
    """A PNG file by hand, for heads that no encoder writes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def refused(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        read_picture(path)
    assert path.name in caught.value.message and caught.value.hint and "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp", "ppm", "gif", "jpg"])
def test_common_formats_by_content_whatever_their_name(tmp_path: Path, suffix: str):
    original = pattern()
    options = {"webp": {"lossless": True}, "jpg": {"quality": 95, "subsampling": 0}}.get(suffix, {})
    path = tmp_path / "picture.data"
    Image.fromarray(original).save(buffer := io.BytesIO(), {"jpg": "JPEG"}.get(suffix, suffix), **options)
    path.write_bytes(buffer.getvalue())
    picture = read_picture(path)
    assert picture.pixels.dtype == np.uint8 and picture.pixels.shape == (12, 20, 3) and len(picture.sha256) == 64
    if suffix not in ("gif", "jpg"):
        assert np.array_equal(picture.pixels, original) and picture.notes == ()


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, turn: int):
    original = pattern()
    upright = {
        1: original,
        2: original[:, ::-1],
        3: original[::-1, ::-1],
        4: original[::-1],
        5: original.transpose(1, 0, 2),
        6: np.rot90(original, -1),
        7: np.rot90(original.transpose(1, 0, 2), 2),
        8: np.rot90(original, 1),
    }[turn]
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(original).save(tmp_path / "turned.png", exif=exif)
    picture = read_picture(tmp_path / "turned.png")
    assert np.array_equal(picture.pixels, upright)
    assert any("EXIF" in note for note in picture.notes) == (turn != 1)


def test_animation_gives_its_first_frame(tmp_path: Path):
    frames = [Image.new("RGB", (6, 4), color) for color in (RED, (0, 255, 0), (0, 0, 255))]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    picture = read_picture(tmp_path / "moving.gif")
    assert (picture.pixels == RED).all() and any("first frame" in note for note in picture.notes)


def test_cmyk_palette_grey_and_bilevel(tmp_path: Path):
    Image.new("CMYK", (5, 5), (0, 255, 255, 0)).save(tmp_path / "ink.jpg", quality=100)
    picture = read_picture(tmp_path / "ink.jpg")
    assert np.abs(picture.pixels.astype(int) - RED).max() <= 4 and any("CMYK" in note for note in picture.notes)
    Image.new("RGB", (5, 5), RED).quantize(4).save(tmp_path / "palette.png")
    picture = read_picture(tmp_path / "palette.png")
    assert (picture.pixels == RED).all() and any("palette" in note for note in picture.notes)
    Image.new("L", (5, 5), 77).save(tmp_path / "grey.png")
    picture = read_picture(tmp_path / "grey.png")
    assert (picture.pixels == 77).all() and picture.notes == ("grey repeated to three channels",)
    Image.new("1", (5, 5), 1).save(tmp_path / "two.png")
    assert (read_picture(tmp_path / "two.png").pixels == 255).all()


def test_transparency_is_put_on_white(tmp_path: Path):
    Image.new("RGBA", (4, 4), (*RED, HALF)).save(tmp_path / "half.png")
    picture = read_picture(tmp_path / "half.png")
    assert np.abs(picture.pixels[0, 0].astype(int) - (255, 127, 127)).max() <= 1
    assert picture.notes == ("transparency put on white",)
    Image.new("LA", (4, 4), (0, 0)).save(tmp_path / "clear.png")
    assert (read_picture(tmp_path / "clear.png").pixels == 255).all()
    Image.new("RGBA", (4, 4), (*RED, 255)).save(tmp_path / "opaque.png")
    picture = read_picture(tmp_path / "opaque.png")
    assert (picture.pixels == RED).all() and picture.notes == ("opaque alpha channel dropped",)
    holed = Image.new("P", (4, 4), 1)
    holed.putpalette([0, 0, 0, 255, 0, 0])
    holed.save(tmp_path / "holed.gif", transparency=1)
    assert (read_picture(tmp_path / "holed.gif").pixels == 255).all()


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_are_scaled_not_cut(tmp_path: Path, suffix: str):
    levels = np.array([[0, 257, 32768, 65535], [128, 129, 25700, 1000]], np.uint16)
    Image.fromarray(levels).save(tmp_path / f"deep.{suffix}")
    picture = read_picture(tmp_path / f"deep.{suffix}")
    assert np.array_equal(picture.pixels[..., 0], np.rint(levels / 257.0)) and "16-bit" in picture.notes[0]
    assert (picture.pixels == picture.pixels[..., :1]).all()


def test_float_tiff_is_scaled_by_its_range_and_says_so(tmp_path: Path):
    for values, expected in [
        (np.array([[0, 0.5], [1, 0.25]]), [[0, 128], [255, 64]]),
        (np.array([[0, 51.2], [255, 3]]), [[0, 51], [255, 3]]),
        (np.array([[-1, 0], [1, 1]]), [[0, 128], [255, 255]]),
        (np.array([[-7, -7], [-7, -7]]), [[0, 0], [0, 0]]),
    ]:
        Image.fromarray(values.astype(np.float32)).save(tmp_path / "float.tiff")
        picture = read_picture(tmp_path / "float.tiff")
        assert picture.pixels[..., 1].tolist() == expected and "32-bit" in picture.notes[0]
    Image.fromarray(np.array([[np.nan, 1]], np.float32)).save(tmp_path / "nan.tiff")
    assert refused(tmp_path / "nan.tiff").code == "data.image_unreadable"


def test_sixteen_bit_colour_is_noted(tmp_path: Path):
    row = b"\0" + struct.pack(">3H", 65535, 0, 32768) * 2
    (tmp_path / "deep.png").write_bytes(png(2, 2, depth=16, data=row * 2))
    picture = read_picture(tmp_path / "deep.png")
    assert picture.pixels[0, 0].tolist() == [255, 0, 128] and "16 bits" in picture.notes[0]


@pytest.mark.parametrize("side", [100_000, 12_000, 9_500])
def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path, side: int):
    (tmp_path / "bomb.png").write_bytes(png(side, side))
    assert refused(tmp_path / "bomb.png").code == "data.image_too_large"


def test_the_limit_is_the_callers(tmp_path: Path):
    Image.fromarray(pattern(10, 10)).save(tmp_path / "small.png")
    assert read_picture(tmp_path / "small.png", max_pixels=100).pixels.shape == (10, 10, 3)
    with pytest.raises(InputError) as caught:
        read_picture(tmp_path / "small.png", max_pixels=99)
    assert caught.value.code == "data.image_too_large"


def encoded(kind: str) -> bytes:
    Image.fromarray(pattern(64, 64)).save(buffer := io.BytesIO(), kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (b"just some words\n", "text"),
        ("Größe\n".encode(), "text"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"<!DOCTYPE html><html>404</html>", "HTML"),
        (b"%PDF-1.7", "PDF"),
        (b"PK\x03\x04rest", "zip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
        (bytes(range(128, 256)) * 9, "pickle"),
        (bytes(range(1, 256)), "known format"),
        (png(0, 5), ""),
        (png(5, 0), ""),
        (encoded("PNG")[:2000], "cut off"),
        (encoded("JPEG")[:900], "cut off"),
        (encoded("PNG")[:20], ""),
        (encoded("GIF")[:100], ""),
        (encoded("WEBP")[:200], ""),
        (encoded("BMP")[:60], ""),
    ],
)
def test_what_is_no_picture_is_named(tmp_path: Path, content: bytes, word: str):
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    problem = refused(path)
    assert problem.code == "data.image_unreadable" and word in str(problem) and problem.exit_code == 3


@pytest.mark.filterwarnings("ignore:.*(Tag data|EXIF).*:UserWarning")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"])
def test_damaged_files_either_decode_or_are_refused(tmp_path: Path, kind: str):
    source, dice = encoded(kind), random.Random(kind)
    path = tmp_path / "damaged"
    for _ in range(60):
        content = bytearray(source)
        for _ in range(dice.randint(1, 8)):
            content[dice.randrange(min(len(content), 400))] = dice.randrange(256)
        path.write_bytes(content)
        try:
            assert read_picture(path).pixels.ndim == 3
        except InputError as problem:
            assert problem.code in ("data.image_unreadable", "data.image_too_large")


def test_only_regular_files_are_read(tmp_path: Path):
    assert refused(tmp_path).code == "data.not_regular"
    with pytest.raises(UsageError) as caught:
        read_picture(tmp_path / "absent.png")
    assert caught.value.code == "data.missing" and caught.value.exit_code == 2
    with pytest.raises(UsageError):
        read_picture("nul\0byte.png")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
        assert refused(tmp_path / "pipe.png").code == "data.not_regular"
