"""Reading pictures safely with Pillow: any common raster file becomes uint8 (H, W, 3) in sRGB order.

Belongs here: recognising, limits, orientation, colour models, and the notes on what was converted. Not here: sizes
and values that a model wants (``schema``).
"""

from __future__ import annotations

import hashlib
import os
import threading
import warnings
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import InputError
from analyzer.inputs.files import mebibytes, open_regular, size_of

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 89_000_000
MAX_FILE_BYTES = 512 * 2**20

# Raster formats only: no decoder that starts another program (EPS) or reads a scene description (WMF).
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "PPM", "MPO", "JPEG2000", "ICO", "AVIF", "QOI")

# Beginnings of files that Pillow's quickly loaded plugins read: PNG and JPEG. All plugins together take ten times as long.
_COMMON = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")

# Warning filters belong to the process: two threads that change them at once would leave them changed.
_quiet = threading.Lock()

_ELSEWHERE = (
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x80", "a pickle"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"version https://git-lfs", "a git-lfs pointer; fetch the file with git lfs pull"),
    (b"%!PS", "a PostScript document"),
)


@dataclass(frozen=True)
class Picture:
    """A picture as it is displayed.

    Attributes
    ----------
    pixels
        uint8 (H, W, 3), red, green, blue.
    notes
        What had to be converted, one line each; empty for a plain 8-bit RGB file.
    format
        The file's format by its content, for example ``PNG``.
    sha256
        Of the file.
    """

    pixels: NDArray[np.uint8]
    notes: tuple[str, ...] = ()
    format: str = ""
    sha256: str = ""


def read_picture(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a picture by its content, whatever its name ends in.

    The orientation in EXIF is applied, the first frame of an animation is taken, transparency is put on white,
    palettes, CMYK and more than 8 bits a channel are converted; each is noted.

    Raises
    ------
    InputError
        ``data.image_too_large`` above ``max_pixels`` or 512 MiB; ``data.image_unreadable`` for a file that is empty,
        cut off, damaged or no raster picture.
    """
    with open_regular(path) as handle:
        if size_of(handle) > MAX_FILE_BYTES:
            raise _too_large(path, f"has {mebibytes(size_of(handle))}, more than {mebibytes(MAX_FILE_BYTES)}")
        content = handle.read(MAX_FILE_BYTES + 1)
    if not content:
        raise _unreadable(path, "is empty", "copy or download it again")
    image, animated = _open(path, content, max_pixels)
    notes: list[str] = []
    try:
        if animated:
            image.seek(0)
            notes.append("first frame of several")
        image.load()
        kind = image.format or ""
        image = _upright(image, notes)
        if content.startswith(b"\x89PNG") and content[24:25] == b"\x10" and not image.mode.startswith("I"):
            notes.append("16 bits a channel: the lower 8 dropped")
        pixels = np.array(_to_rgb(image, notes), dtype=np.uint8)
    except InputError:
        raise
    except Exception as problem:  # decoders answer damaged files with errors of every kind
        raise _unreadable(path, f"is damaged or cut off ({_reason(problem)})", "copy or download it again") from None
    return Picture(pixels, tuple(notes), kind, hashlib.sha256(content).hexdigest())


def _open(path: str | os.PathLike[str], content: bytes, max_pixels: int) -> tuple[Image, bool]:
    """The picture with only its head read, and whether it has more than one frame."""
    from PIL import Image as PillowImage
    from PIL import UnidentifiedImageError

    PillowImage.preinit() if content.startswith(_COMMON) else PillowImage.init()
    try:
        with _quiet, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the limit below is stricter than Pillow's warning
            image = PillowImage.open(BytesIO(content), formats=[name for name in FORMATS if name in PillowImage.OPEN])
            animated = bool(getattr(image, "is_animated", False))
    except PillowImage.DecompressionBombError:
        raise _too_large(path, f"has more than {max_pixels:,} pixels") from None
    except UnidentifiedImageError:
        raise _unreadable(path, *_what_it_is(content)) from None
    except Exception as problem:
        raise _unreadable(path, f"is damaged ({_reason(problem)})", "copy or download it again") from None
    width, height = image.size
    if width * height > max_pixels:
        raise _too_large(path, f"has {width} x {height} pixels, more than {max_pixels:,}")
    if width < 1 or height < 1:
        raise _unreadable(path, f"has no pixels ({width} x {height})", "give a picture with pixels")
    return image, animated


def _upright(image: Image, notes: list[str]) -> Image:
    from PIL import ImageOps

    try:
        turn = image.getexif().get(0x0112, 1)
        if turn == 1 or turn not in range(2, 9):
            return image
        upright = ImageOps.exif_transpose(image)
    except Exception:  # EXIF is free-form and often broken; the pixels are still good
        notes.append("EXIF unreadable: orientation ignored")
        return image
    notes.append(f"turned upright (EXIF orientation {turn})")
    return upright


def _to_rgb(image: Image, notes: list[str]) -> Image:
    """8-bit RGB; what had to be done is added to ``notes``."""
    if image.mode.startswith("I;16"):
        notes.append("16-bit grey scaled to 8 bits (divided by 257)")
        return _grey_from(_to_8_bits(np.asarray(image).astype(np.float64), 65535.0))
    if image.mode in ("I", "F"):
        return _grey_from(_deep_grey(np.asarray(image).astype(np.float64), notes))
    if image.mode == "P":
        notes.append("palette expanded")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        return _on_white(image, notes)
    if image.mode in ("1", "L"):
        notes.append("grey repeated to three channels")
    elif image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        notes.append(f"{image.mode} converted to RGB without a colour profile")
    return image.convert("RGB")


def _on_white(image: Image, notes: list[str]) -> Image:
    from PIL import Image as PillowImage

    layer = image.convert("RGBA")
    lowest = layer.getchannel("A").getextrema()[0]
    notes.append("opaque alpha channel dropped" if lowest == 255 else "transparency put on white")
    ground = PillowImage.new("RGBA", layer.size, (255, 255, 255, 255))
    return PillowImage.alpha_composite(ground, layer).convert("RGB")


def _deep_grey(values: NDArray[np.float64], notes: list[str]) -> NDArray[np.uint8]:
    """32-bit integer or float grey by the range of its values: 0..1, 0..255, 0..65535, else its own."""
    if not np.isfinite(values).all():
        raise ValueError("pixels that are not finite")
    low, high = float(values.min()), float(values.max())
    if low >= 0:
        for top in (1.0, 255.0, 65535.0):
            if high <= top and (top > 1 or high > 0):
                notes.append(f"32-bit grey taken as 0..{top:.0f} and scaled to 8 bits")
                return _to_8_bits(values, top)
    notes.append(f"32-bit grey scaled to 8 bits from its own range {low:g}..{high:g}")
    return _to_8_bits(values - low, high - low if high > low else 1.0)


def _to_8_bits(values: NDArray[np.float64], top: float) -> NDArray[np.uint8]:
    return np.clip(np.rint(values * (255.0 / top)), 0, 255).astype(np.uint8)


def _grey_from(values: NDArray[np.uint8]) -> Image:
    from PIL import Image as PillowImage

    return PillowImage.fromarray(values).convert("RGB")


def _what_it_is(content: bytes) -> tuple[str, str]:
    """What a file that holds no raster picture is, and what to do about it."""
    head = content[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    low = head.lower()
    if b"<svg" in low:
        return "is an SVG drawing, not a raster picture", "export it as PNG"
    if low.startswith((b"<!doctype html", b"<html")):
        return "is an HTML page, not a picture", "download the picture itself"
    for magic, what in _ELSEWHERE:
        if head.startswith(magic):
            return f"is {what}, not a picture", "give a PNG or JPEG file"
    try:
        text = content[:4096].decode("utf-8")
    except UnicodeDecodeError as problem:
        text = "" if problem.start < 4000 else "text"
    if text and all(sign.isprintable() or sign.isspace() for sign in text):
        return "is a text file, not a picture", "give a PNG or JPEG file"
    return "is no picture in a known format, or its head is damaged", f"known: {', '.join(FORMATS)}"


def _reason(problem: Exception) -> str:
    return (str(problem) or type(problem).__name__)[:120]


def _unreadable(path: Any, why: str, hint: str) -> InputError:
    return InputError("data.image_unreadable", f"{path} {why}", hint)


def _too_large(path: Any, why: str) -> InputError:
    return InputError("data.image_too_large", f"{path} {why}", "shrink the picture first")
