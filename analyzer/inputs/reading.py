"""From a file to a model's input: what the file is, what the model takes, and a record of what was done between.

Belongs here: choosing the reader by content, preprocessing pictures, holding arrays against shape and type. Not here:
file formats (``images``, ``arrays``, ``tables``), which column is for which input (``columns``), the preprocessing itself
(``schema``).
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import InputError
from analyzer.inputs.arrays import ArrayData, read_array, read_wav
from analyzer.inputs.columns import ColumnInput, column_data
from analyzer.inputs.conform import conform, to_dtype
from analyzer.inputs.files import MEMORY_LIMIT, decode_text, open_regular, read_bytes
from analyzer.inputs.images import read_picture
from analyzer.inputs.shapes import Dims, fixed, image_shape, numpy_dtype, show
from analyzer.inputs.tables import Table

if TYPE_CHECKING:
    from analyzer.inputs.schema import Preprocess

Kind = Literal["image", "table", "series", "tensor"]
SampleLayout = Literal["CHW", "HWC"]
#: What a file holds.
Form = Literal["picture", "array", "sound", "table"]

#: Endings of files that are tables.
TABLES = (".csv", ".tsv")
#: Most bytes of a text that is one sample.
TEXT_LIMIT = 16 * 2**20
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"<svg", b"qoif")


@dataclass(frozen=True)
class LoadedInput:
    """A model's input from a file.

    Attributes
    ----------
    name
        The model input it is for.
    array
        In the model's own input space and type, batch axis first.
    kind
        ``image``, ``table``, ``series`` or ``tensor``.
    picture
        uint8 (H, W, 3): what the model sees of the (first) picture, else None.
    layout
        Where a picture's channels are, without the batch axis.
    feature_names
        Column names of a table, else None.
    path, sha256
        The file.
    record
        JSON-ready: all of the above but the arrays, the notes, and the preprocessing.
    """

    name: str
    array: NDArray[Any]
    kind: Kind
    picture: NDArray[np.uint8] | None
    layout: SampleLayout | None
    feature_names: tuple[str, ...] | None
    path: Path
    sha256: str
    record: dict[str, Any] = field(repr=False)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed, chosen or converted on the way, one line each."""
        return tuple(self.record["notes"])


def read_input(
    path: str | os.PathLike[str],
    spec_name: str,
    dtype: Any,
    shape: Dims,
    preprocess: Preprocess | str | os.PathLike[str] | None = None,
    *,
    key: str | None = None,
    columns: Sequence[str | int] | None = None,
    features: tuple[str, ...] | None = None,
    missing: bool = False,
    limit: int = MEMORY_LIMIT,
) -> LoadedInput:
    """Read a file as one input of a model.

    Pictures go through the preprocessing (`default_for` the input where None). Arrays, tables and sound must already
    be in the model's input space; their shape and type are checked. A ``.txt`` file is one text of a model that takes text.

    Parameters
    ----------
    spec_name, dtype, shape
        The model input: its name, type (numpy's or ONNX's name) and dimensions, batch first, free ones as None, a
        name or 0.
    preprocess
        What to do to a picture: a `Preprocess`, a preset's name, or a file.
    key
        Which array of an ``.npz``; by default the one called like the input, or ``input`` or ``x``.
    columns
        Which columns of a table.
    features
        What the model calls the input's columns: a table's are found by these names.
    missing
        Whether the input may hold NaN; empty cells of a table are NaN then.
    limit
        Bytes the array may take.

    Raises
    ------
    InputError
        ``data.*`` and ``limit.memory``, naming the file; ``data.bad_shape`` names the expected and the actual shape.
    UsageError
        ``config.preprocess``, ``data.missing``, ``data.npz_key``, ``data.unknown_column``.
    """
    path = Path(path)
    wanted = numpy_dtype(dtype)
    form = recognise(path, shape)
    if path.suffix.lower() == ".txt" and wanted.kind in "USO":
        return input_from_array(_whole_text(path), "array", path, ColumnInput(spec_name, wanted, shape), preprocess)
    if form == "picture":
        return _from_picture(path, spec_name, wanted, shape, preprocess)
    if form == "array":
        data = read_array(path, key, (spec_name, "input", "x"), limit)
    elif form == "sound":
        data = read_wav(path)
    else:
        taken = ColumnInput(spec_name, wanted, shape, features, missing)
        return read_columns(path, [taken], preprocess, columns=columns)[0]
    return input_from_array(data, form, path, ColumnInput(spec_name, wanted, shape, features, missing), preprocess)


def read_columns(
    path: str | os.PathLike[str],
    inputs: Sequence[ColumnInput],
    preprocess: Preprocess | str | os.PathLike[str] | None = None,
    *,
    columns: Sequence[str | int] | None = None,
    others: bool = False,
) -> list[LoadedInput]:
    """Read one table as all the inputs that take its columns; see :func:`~analyzer.inputs.columns.match`.

    Parameters
    ----------
    columns
        For a single input: which columns it takes, whatever they are called.
    others
        Whether columns that no input takes are left out; else they are refused.

    Raises
    ------
    InputError
        ``data.*`` naming the file, and line and column where it is a cell.
    UsageError
        ``data.unknown_column`` for one of ``columns``.
    """
    data, _ = column_data(Table(path), inputs, columns=columns, others=others)
    return [
        input_from_array(own, "table", Path(path), each, preprocess) for own, each in zip(data, inputs, strict=True)
    ]


def _whole_text(path: Path) -> ArrayData:
    """A file's text, as one text of one sample."""
    content = read_bytes(path, TEXT_LIMIT)
    text = np.array([decode_text(content, path, "data.text_unreadable").strip()], object)
    return ArrayData(text, hashlib.sha256(content).hexdigest())


def array_picture(
    sample: NDArray[Any], layout: SampleLayout, preprocess: Preprocess | None = None
) -> tuple[NDArray[np.uint8], str]:
    """The picture uint8 (H, W, 3) in a model's input (C, H, W) or (H, W, C), and a note on how it was made.

    The preprocessing is inverted where it is known; otherwise the sample's own range is stretched to 0..255.
    """
    if preprocess is not None:
        return preprocess.decode(sample), "picture shown: the array with its preprocessing inverted"
    values = np.asarray(sample, dtype=np.float64)
    values = values if layout == "HWC" else np.moveaxis(values, 0, -1)
    low, high = float(values.min()), float(values.max())
    grey = np.rint((values - low) * (255 / (high - low))) if high > low else np.full_like(values, 128)
    pixels = np.ascontiguousarray(np.broadcast_to(grey, (*grey.shape[:2], 3)), dtype=np.uint8)
    return pixels, f"picture shown: the array's range {low:g}..{high:g} stretched to 0..255"


def shown_by(preprocess: Any, shape: Dims, dtype: Any) -> Preprocess:
    """The preprocessing by which an array that has its size already is shown: colour, scale, mean and std alone matter for it.

    Raises
    ------
    UsageError
        ``config.preprocess``.
    """
    from analyzer.inputs.preprocess import load_preprocess

    sizeless = {"resize": None, "resize_short": None, "crop": None, "letterbox": None}
    return load_preprocess(preprocess).model_copy(update=sizeless).fit(shape, dtype)


def recognise(path: Path, shape: Dims) -> Form:
    """What a file is by its first bytes; its ending decides only between text that is a table and text that isn't."""
    with open_regular(path) as handle:
        head = handle.read(4096)
    suffix = path.suffix.lower()
    if head.startswith((b"\x93NUMPY", b"PK\x03\x04", b"PK\x05\x06")) or suffix in (".npy", ".npz"):
        return "array"
    if head.startswith(b"RIFF") and head[8:12] == b"WAVE":
        return "sound"
    if head.startswith(_PICTURES) or not head:
        return "table" if suffix in TABLES and not head else "picture"
    if suffix == ".wav":
        return "sound"
    if suffix in TABLES or (image_shape(shape) is None and b"\0" not in head):
        return "table"
    return "picture"


def _from_picture(path: Path, name: str, dtype: np.dtype[Any], shape: Dims, preprocess: Any) -> LoadedInput:
    picture = read_picture(path)
    if len(shape) != 4 or (preprocess is None and image_shape(shape) is None):
        raise InputError(
            "data.bad_shape",
            f"{path} is a picture, but input {name!r} has shape {show(shape)}",
            "give an array file (.npy, .npz, .csv) of that shape",
        )
    from analyzer.inputs.preprocess import default_for, load_preprocess

    chosen = default_for(shape, dtype) if preprocess is None else load_preprocess(preprocess)
    fitted = chosen.fit(shape, dtype)
    pixels = fitted.resized(picture, shape)
    values, _ = to_dtype(fitted.encode(pixels)[None], dtype, str(path))
    notes = [*picture.notes, *([fitted.note] if fitted.note else [])]
    values, more = conform(values, shape, name, str(path))
    layout: SampleLayout = "HWC" if fitted.layout == "NHWC" else "CHW"
    extra = {"format": picture.format, "picture_size": list(picture.pixels.shape[:2]), "preprocess": fitted.to_dict()}
    return _finish(name, values, "image", pixels, layout, None, path, picture.sha256, [*notes, *more], extra)


def input_from_array(data: ArrayData, form: Form, path: Path, taken: ColumnInput, preprocess: Any) -> LoadedInput:
    """Values from a file as an input: held against its shape and type, its axes added, its picture made.

    Raises
    ------
    InputError
        ``data.bad_shape``, ``data.bad_dtype``, ``data.nonfinite``, ``data.empty``.
    """
    name, dtype, shape = taken.name, taken.dtype, taken.shape
    values, notes = data.values, list(data.notes)
    if form == "sound":
        values = _place_sound(values, shape, notes)
    values, more = conform(values, shape, name, str(path), rows=form == "table")
    notes += more
    values, more = to_dtype(values, dtype, str(path), missing=taken.missing)
    notes += more
    image = image_shape(shape)
    picture: NDArray[np.uint8] | None = None
    layout: SampleLayout | None = None
    extra: dict[str, Any] = {}
    kind: Kind = "series" if form == "sound" or values.ndim == 3 else "tensor"
    channels = image and (values.shape[1] if image.layout == "NCHW" else values.shape[3])
    if image and channels in (1, 3) and dtype.kind in "fu":
        kind = "image"
        layout = "HWC" if image.layout == "NHWC" else "CHW"
        fitted = None
        if preprocess is not None:
            fitted = shown_by(preprocess, values.shape, dtype)
            extra["preprocess_shown"] = fitted.to_dict()
        picture, note = array_picture(values[0], layout, fitted)
        notes.append(note)
    elif values.ndim == 2 and form != "sound" and dtype.kind in "fbUO":
        kind = "table"
    if data.sample_rate:
        extra["sample_rate"] = data.sample_rate
    names = data.feature_names
    if names and math.prod(values.shape[1:]) != len(names):
        names = None
    return _finish(name, values, kind, picture, layout, names, path, data.sha256, notes, extra)


def _place_sound(values: NDArray[Any], shape: Dims, notes: list[str]) -> NDArray[Any]:
    """Sound (T,) or (channels, T) as the model wants it, without batch axis: (T,), (C, T) or (T, C)."""
    rank = len(shape)
    channels_last = rank == 3 and fixed(shape[2]) in (1, 2) and fixed(shape[1]) not in (1, 2)
    wanted = 1 if rank <= 2 else fixed(shape[2] if channels_last else shape[1])
    if values.ndim == 2 and wanted == 1:
        notes.append(f"{values.shape[0]} channels averaged to one")
        values = values.mean(axis=0, dtype=np.float64).astype(np.float32)
    if rank == 3:
        values = np.atleast_2d(values)
        values = values.T if channels_last else values
    return values


def _finish(
    name: str,
    values: NDArray[Any],
    kind: Kind,
    picture: NDArray[np.uint8] | None,
    layout: SampleLayout | None,
    feature_names: tuple[str, ...] | None,
    path: Path,
    sha256: str,
    notes: list[str],
    extra: dict[str, Any],
) -> LoadedInput:
    record: dict[str, Any] = {
        "path": str(path),
        "sha256": sha256,
        "input": name,
        "kind": kind,
        "shape": list(values.shape),
        "dtype": "str" if values.dtype.kind == "O" else str(values.dtype),
        "layout": layout,
        "notes": notes,
        **({"feature_names": list(feature_names)} if feature_names else {}),
        **extra,
    }
    return LoadedInput(name, values, kind, picture, layout, feature_names, path, sha256, record)
