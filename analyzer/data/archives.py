"""Arrays as data sets: an ``.npz`` with an array for each input, and what lies beside them; an ``.npy`` with one.

Belongs here: which array is for what. Not here: where its rows lie in the file (``analyzer.inputs.stored``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analyzer.data.classes import Classes
from analyzer.data.forms import Rows
from analyzer.data.mask_files import MaskFiles
from analyzer.data.masks import NO_MASKS, MaskSource, StoredMasks
from analyzer.data.reading import column_input
from analyzer.errors import InputError, UsageError
from analyzer.inputs import ColumnInput
from analyzer.inputs.shapes import fixed
from analyzer.inputs.stored import StoredArray, stored_arrays
from analyzer.onnx_model import OnnxModel

#: What the only input's array may be called beside the input's own name, labels, and masks.
_INPUTS, _LABELS, _MASKS = ("input", "x"), ("label", "labels", "y"), ("mask", "masks")


def open_archive(model: OnnxModel, path: Path, masks: MaskFiles | None) -> Rows:
    """The rows of an archive's arrays.

    Arrays are found by the inputs' names; of the others, ``label``, ``labels`` or ``y`` holds classes, ``mask`` or ``masks`` the
    truth, and whatever has one value for each sample is a slice column.

    Raises
    ------
    UsageError
        ``data.npz_key`` where an input's array isn't there.
    InputError
        ``data.bad_shape`` where arrays have different numbers of rows, ``data.label``.
    """
    stored = stored_arrays(path)
    taken = [column_input(model, name, any_batch=True) for name in model.inputs]
    arrays = _input_arrays(path, stored, [each.name for each in taken])
    taken = [_ranked(model, each, arrays[each.name]) for each in taken]
    axes = {each.name: _row_axis(model, each, arrays[each.name]) for each in taken}
    count = _count(path, arrays, axes)
    rest = {name: own for name, own in stored.items() if own not in arrays.values()}
    labels = _labels(model, path, _popped(rest, _LABELS), count)
    drawn = _popped(rest, _MASKS)
    groups = {name: _texts(own) for name, own in rest.items() if _one_each(own, count)}
    found = _masks(drawn, count) if masks is None else of_rows(masks, path, count)
    return Rows(model, path, taken, arrays, axes, row_ids(path, count), labels, groups, found)


def row_ids(path: Path, count: int) -> list[str]:
    """What a file's samples are called: by the file and their numbers from 0; an only one by the file."""
    return [f"{path.name}[{at}]" for at in range(count)] if count != 1 else [path.name]


def of_rows(masks: MaskFiles | None, path: Path, count: int) -> MaskSource:
    """The masks of a file's samples, which are called by their numbers from 0, an only one's by the file."""
    if masks is None:
        return NO_MASKS
    return masks.of([Path(str(at)) for at in range(count)] if count != 1 else [Path(path.name)])


def _input_arrays(path: Path, stored: Mapping[str, StoredArray], names: Sequence[str]) -> dict[str, StoredArray]:
    """Input name -> its array."""
    if len(names) == 1:
        beside = (*_LABELS, *_MASKS)
        only = [name for name in stored if name not in beside]
        key = next((name for name in (names[0], *_INPUTS, *only[: len(only) == 1]) if name in stored), None)
        if key is not None:
            return {names[0]: stored[key]}
    absent = next((name for name in names if name not in stored), None)
    if absent is None:
        return {name: stored[name] for name in names}
    if "" in stored:
        raise UsageError("data.inputs", f"{path} holds one array, the model has {len(names)} inputs: {', '.join(names)}",
                         "give an .npz with an array for each")  # fmt: skip
    listing = ", ".join(repr(name) for name in list(stored)[:20])
    raise UsageError("data.npz_key", f"{path} has no array {absent!r}", f"it has {listing}")


def _ranked(model: OnnxModel, taken: ColumnInput, stored: StoredArray) -> ColumnInput:
    """An input of any rank with that of its array."""
    if model.inputs[taken.name].ranked:
        return taken
    return ColumnInput(taken.name, taken.dtype, (None,) * len(stored.shape), taken.features, taken.missing)


def _row_axis(model: OnnxModel, taken: ColumnInput, stored: StoredArray) -> int | None:
    """The axis that counts an array's samples; None where it is one sample's, or all samples'."""
    if len(stored.shape) < max(len(taken.shape), 1):
        return None
    if isinstance(model.batch_dimension, str):
        if model.batch_dimension in taken.shape and len(stored.shape) == len(taken.shape):
            return taken.shape.index(model.batch_dimension)
        if taken.shape and fixed(taken.shape[0]) is not None:
            return None
    return 0


def _count(path: Path, arrays: Mapping[str, StoredArray], axes: Mapping[str, int | None]) -> int:
    """How many samples there are."""
    counts = {name: arrays[name].shape[axis] for name, axis in axes.items() if axis is not None}
    if len(set(counts.values())) > 1:
        listing = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InputError(
            "data.bad_shape", f"{path}: arrays of different numbers of samples: {listing}", "give each as many"
        )
    return next(iter(counts.values()), 1)


def _popped(rest: dict[str, StoredArray], names: Sequence[str]) -> StoredArray | None:
    """The first array of one of the names, taken out."""
    return next((rest.pop(name) for name in names if name in rest), None)


def _labels(model: OnnxModel, path: Path, stored: StoredArray | None, count: int) -> list[int | None]:
    if stored is None:
        return [None] * count
    if not _one_each(stored, count):
        raise InputError(
            "data.label",
            f"{path}, array {stored.key!r} has shape {list(stored.shape)} for {count} samples",
            "give a number or name of a class for each",
        )
    classes = Classes(model)
    return [classes.label(value, f"{path}, {stored.key}[{at}]") for at, value in enumerate(_values(stored))]


def _masks(stored: StoredArray | None, count: int) -> MaskSource:
    """A mask for each sample, or one for all."""
    if stored is None:
        return NO_MASKS
    return StoredMasks(stored, shared=stored.shape[:1] != (count,))


def _one_each(stored: StoredArray, count: int) -> bool:
    """Whether an array has one value for each sample."""
    shape = stored.shape
    return (shape[:1] == (count,) and all(size == 1 for size in shape[1:])) or (shape == () and count == 1)


def _values(stored: StoredArray) -> list[Any]:
    found: list[Any] = stored.whole.reshape(-1).tolist()
    return [each.decode("utf-8", "replace") if isinstance(each, bytes) else each for each in found]


def _texts(stored: StoredArray) -> list[str]:
    return [str(value) for value in _values(stored)]
