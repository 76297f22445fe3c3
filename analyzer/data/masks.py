"""Where the truth lies in a sample: masks from files, brought to the places of the model's input.

Belongs here: reading a mask, and cutting one that was drawn over a picture as the picture was cut. Not here: which mask is for
which sample (``forms``), metrics that need them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import InputError
from analyzer.inputs import LoadedInput, geometry, read_array, read_picture
from analyzer.inputs.files import file_digest
from analyzer.inputs.stored import StoredArray
from analyzer.onnx_model import OnnxModel

Bool = NDArray[np.bool_]
#: Brighter than this is inside.
_HALF = 127


@dataclass(frozen=True)
class Mask:
    """A mask as it was given: true inside, and where it comes from, in words."""

    inside: Bool
    where: str


class MaskSource(Protocol):
    """The masks of samples by number."""

    def has(self, at: int) -> bool:
        """Whether a sample has one."""

    def read(self, at: int) -> Mask:
        """A sample's mask; raises as :func:`read_mask` does."""

    def digest(self, at: int) -> str:
        """What tells a sample's mask from others; empty for none."""


@dataclass(frozen=True)
class FileMasks:
    """A file for each sample that has a mask."""

    paths: Sequence[Path | None]

    def has(self, at: int) -> bool:
        return at < len(self.paths) and self.paths[at] is not None

    def read(self, at: int) -> Mask:
        path = self.paths[at]
        if path is None:
            raise IndexError(at)
        return read_mask(path)

    def digest(self, at: int) -> str:
        path = self.paths[at] if self.has(at) else None
        return "" if path is None else file_digest(path)


@dataclass(frozen=True)
class StoredMasks:
    """An array in a file: a row for each sample, or one mask for all."""

    stored: StoredArray
    shared: bool

    def has(self, at: int) -> bool:
        return True

    def read(self, at: int) -> Mask:
        stored = self.stored
        return array_mask(stored.whole if self.shared else stored.row(at), f"{stored.path}, array {stored.key!r}")

    def digest(self, at: int) -> str:
        return f"{self.stored.key}[{'' if self.shared else at}]"  # the file's digest is the sample's


NO_MASKS = FileMasks(())


def read_mask(path: Path) -> Mask:
    """A mask from a picture, inside where it is brighter than half, or from a ``.npy`` file, inside where it isn't zero.

    Raises
    ------
    InputError
        ``data.mask_values`` for a picture that isn't black and yet nowhere so bright, ``data.*`` as the readers raise.
    """
    if path.suffix.lower() == ".npy":
        return array_mask(read_array(path).values, str(path))
    grey = np.asarray(geometry.to_image(read_picture(path).pixels, grey=True))
    brightest = int(grey.max())
    if 0 < brightest <= _HALF:
        raise InputError(
            "data.mask_values",
            f"{path}: its brightest pixel is {brightest} of 255, and what is inside is brighter than half",
            "save what is inside as 255, or the mask as .npy",
        )
    return Mask(grey > _HALF, str(path))


def array_mask(values: NDArray[Any], where: str) -> Mask:
    """A mask from numbers or truth values: inside where they aren't zero.

    Raises
    ------
    InputError
        ``data.mask_values`` for text and for NaN.
    """
    if values.dtype.kind not in "biuf" or (values.dtype.kind == "f" and np.isnan(values).any()):
        held = "NaN" if values.dtype.kind == "f" else str(values.dtype)
        raise InputError("data.mask_values", f"{where} holds {held}", "save a mask as 0 outside and 1 inside")
    return Mask(values != 0, where)


def fitted_mask(mask: Mask, model: OnnxModel, loaded: LoadedInput) -> Bool:
    """A mask over the places of an input: as it is where it has their size; cut as the picture was where it has the picture's.

    Parameters
    ----------
    loaded
        The sample's input, a batch of one.

    Raises
    ------
    InputError
        ``data.mask_size`` naming both sizes.
    """
    shape = loaded.array.shape
    size = tuple(shape[axis] for axis in model.axes(loaded.name, shape).places)
    drawn = tuple(loaded.record.get("picture_size", ()))
    inside = mask.inside
    if drawn and _bare(inside.shape) == _bare(drawn):
        inside = _cut(inside.reshape(drawn), loaded.record["preprocess"], shape)
    if _bare(inside.shape) != _bare(size):
        picture = f"the picture has {_show(drawn)} and " if drawn and drawn != size else ""
        raise InputError(
            "data.mask_size",
            f"{mask.where} has {_show(mask.inside.shape)}, {picture}input {loaded.name!r} has {_show(size)}",
            "give a mask of the size of the picture" if drawn else "give a mask of the input's size",
        )
    return np.ascontiguousarray(inside.reshape(size))


def _cut(inside: Bool, record: dict[str, Any], shape: Sequence[int]) -> Bool:
    """A mask resized and cropped as the preprocessing does with a picture; the nearest pixel is taken, a border is outside."""
    from analyzer.inputs import Preprocess

    how = Preprocess(**record)
    how = how.model_copy(update={"interpolation": "nearest", "letterbox": None if how.letterbox is None else 0})
    return np.asarray(how.resized(np.where(inside, np.uint8(255), np.uint8(0)), shape)[..., 0] > _HALF)


def _bare(shape: Sequence[int]) -> tuple[int, ...]:
    """Sizes without axes of length one."""
    return tuple(size for size in shape if size != 1)


def _show(shape: Sequence[int]) -> str:
    return " x ".join(str(size) for size in shape) or "one value"
