"""A method's ``fill`` read against the input that it replaces parts of.

Belongs here: what the parameter may be, which fills suit which inputs and methods. Not here: how a named fill is computed
(``analyzer.inputs.fills``), how the kinds of replacement are scored (``replacement``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analyzer.errors import UsageError
from analyzer.inputs import fill as computed_fill
from analyzer.inputs import read_columns, read_input
from analyzer.inputs.fills import FILLS
from analyzer.nearest import nearest
from analyzer.perturbation.evaluator import Array, Evaluator
from analyzer.perturbation.replacement import BackgroundRows, Inpainting, Replacement
from analyzer.perturbation.spatial_layout import SpatialLayout

#: A number, a name, ``image:FILE``, ``samples:FILE``, an array, or, of text, a text.
Fill = float | int | str | np.ndarray
#: Up to so many columns or words are taken one by one; a longer row is taken for a series.
COLUMNS = 128
#: The help texts: of a fill for masks that blend, of any fill, and of the number of background samples.
BLENDED_FILL_HELP = "a number, mean, blur, noise, image:FILE, samples:FILE or an array"
FILL_HELP = BLENDED_FILL_HELP.replace("noise", "noise, inpaint") + "; of text, a text"
BACKGROUND_HELP = "most rows of samples:FILE that are used, at least 1"
_FILES = ("image", "samples")
_NAMES = (*FILLS, "inpaint", *_FILES)


def replacement_for(
    evaluator: Evaluator,
    name: str,
    fill: Any,
    *,
    values: Array | None = None,
    columns: tuple[str, ...] = (),
    background: int = 100,
    without: Sequence[str] = (),
) -> Replacement:
    """What masked elements of an input become, by sample.

    Parameters
    ----------
    fill
        See :data:`FILL_HELP`. A 2-D array of more than one row, for an input of rank 2, holds background samples.
    values
        What is changed where that isn't the input: (batch, ...), an embedding or a table put together from ``columns``.
    background
        The most background samples; from more, so many are drawn with the evaluator's seed.
    without
        Kinds of fill that the method can't use: ``inpaint`` where its masks blend, ``samples`` where it needs one array.

    Returns
    -------
    ndarray, BackgroundRows or Inpainting
        The first of the values' shape and type.

    Raises
    ------
    UsageError
        ``fill.*``, ``params.invalid``.
    InputError
        ``data.*`` where a file can't be read or doesn't fit.
    """
    if isinstance(fill, str):
        with contextlib.suppress(ValueError):
            fill = float(fill)
    if isinstance(fill, list | tuple):
        fill = np.asarray(fill)
    if not isinstance(fill, float | int | str | np.ndarray | np.number):
        what = f"a fill of type {type(fill).__name__} isn't one"
        raise UsageError("params.invalid", what, f"allowed: {FILL_HELP}")
    if background < 1:
        raise UsageError("params.invalid", f"background must be at least 1, not {background}", "100 is usual")
    given = evaluator.inputs[name] if values is None else values
    reader = _FillReader(evaluator, name, given, values is not None, columns, background, without)
    fill = fill if isinstance(fill, np.ndarray | str) else float(fill)
    found = reader.array(fill) if isinstance(fill, np.ndarray) else reader.named(fill)
    if isinstance(found, np.ndarray) and columns:
        evaluator.replaced.update((column, found[:, at]) for at, column in enumerate(columns))
    elif isinstance(found, np.ndarray) and values is None and found.ndim <= 2:
        evaluator.replaced[name] = found
    return found


def column_replacements(evaluator: Evaluator, fill: Fill | list[Any], background: int = 100) -> dict[str, Replacement]:
    """What the columns of a table become that are inputs of their own, read as the fill of one row; errors as above."""
    columns = evaluator.columns
    table = np.stack([evaluator.inputs[name].reshape(-1) for name in columns], axis=1).astype(np.float64)
    whole = replacement_for(evaluator, columns[0], fill, values=table, columns=columns, background=background)
    assert not isinstance(whole, Inpainting), "columns have no surroundings"
    rows = whole.rows if isinstance(whole, BackgroundRows) else whole
    found: dict[str, Replacement] = {}
    for at, name in enumerate(columns):
        value = evaluator.inputs[name]
        column = rows[:, at].reshape(-1, *value.shape[1:])
        typed = (np.rint(column) if value.dtype.kind in "iu" else column).astype(value.dtype)
        found[name] = BackgroundRows(typed, whole.note) if isinstance(whole, BackgroundRows) else typed
    return found


@dataclass(frozen=True)
class _FillReader:
    """The values whose elements are replaced, and what a fill of them may be.

    Attributes
    ----------
    derived
        Whether the values aren't the input itself: a table put together from ``columns``, or an embedding.
    columns, background, without
        As of :func:`replacement_for`.
    """

    evaluator: Evaluator
    name: str
    values: Array
    derived: bool
    columns: tuple[str, ...]
    background: int
    without: Sequence[str]

    def named(self, fill: float | str) -> Replacement:
        """A number, a name, or a file."""
        name, colon, path = fill.strip().partition(":") if isinstance(fill, str) else ("", "", "")
        name = name.lower()
        if name and name not in _NAMES:
            near = nearest(name, _NAMES)
            hint = f"did you mean {near!r}? " if near else ""
            raise UsageError("fill.unknown", f"no fill is called {name[:80]!r}", f"{hint}allowed: {FILL_HELP}")
        if name in _FILES and not (colon and path):
            raise UsageError("fill.unknown", f"fill {name!r} needs a file", f'as in "{name}:FILE"')
        if name in _FILES:
            return self._from_file(fill, name, path)
        return self._inpainting() if name == "inpaint" else self._computed(fill)

    def array(self, fill: Array) -> Replacement:
        """One replacement, or rows of background samples."""
        many = self.values.ndim == 2 and fill.ndim == 2 and len(fill) > 1
        return self._background(fill) if many else self._one(fill)

    def _computed(self, fill: float | str) -> Array:
        """A number, or a fill that follows from the sample."""
        values = self.values
        if values.dtype.kind in "iu":
            if isinstance(fill, str) or fill != int(fill):
                message = f"fill {fill!r} doesn't suit whole numbers"
                raise UsageError("params.invalid", message, "give a number, such as 0")
            return np.full_like(values, int(fill))
        channels_last = values.ndim > 2 and self._layout.channels == values.ndim - 1
        filled = computed_fill(values, fill, layout="HWC" if channels_last else "CHW", seed=self.evaluator.seed)
        if not np.isfinite(filled).all():
            message = f"fill {fill!r} can't be computed of a sample with missing values"
            raise UsageError("fill.nonfinite", message, "give a number, or samples:FILE")
        return filled.astype(values.dtype, copy=False)

    def _one(self, given: Array) -> Array:
        """An array as the replacement of every sample."""
        given = self._typed(given)
        try:
            return np.broadcast_to(given, self.values.shape).copy()
        except ValueError:
            raise UsageError(
                "fill.bad_shape",
                f"a fill of shape {given.shape} doesn't broadcast to {self.values.shape}",
                "reshape it",
            ) from None

    def _background(self, given: Array) -> Array | BackgroundRows:
        """Samples (n, ...) as background samples; one alone as the replacement of every sample."""
        rows, shape = self._typed(given), self.values.shape[1:]
        if rows.shape[1:] != shape:
            raise UsageError(
                "fill.bad_shape",
                f"background samples of shape {list(rows.shape[1:])} don't stand in for {list(shape)}",
                "give the model's columns, in its order",
            )
        if len(rows) == 1:
            return self._one(rows)
        if "samples" in self.without:
            raise UsageError(
                "fill.unsuitable", f"this method takes one replacement, not {len(rows)}", "give one sample"
            )
        return BackgroundRows.of(rows, self.background, self.evaluator.seed)

    def _typed(self, given: Array) -> Array:
        """Numbers of the values' type."""
        kind = self.values.dtype
        if given.dtype.kind not in "fiub":
            raise UsageError(
                "fill.bad_shape", f"a fill of type {given.dtype} holds no numbers", "give an array of numbers"
            )
        missing = self.evaluator.model.takes_missing.intersection(self.columns or (self.name,))
        with np.errstate(over="ignore", invalid="ignore"):
            typed = given.astype(kind)
        if np.isinf(given).any() or np.isinf(typed).any() or (np.isnan(given).any() and not missing):
            what = f"the fill holds NaN, infinite values or some beyond {kind}"
            raise UsageError("fill.nonfinite", what, "give finite values")
        if kind.kind in "iu" and (typed != given).any():
            raise UsageError("params.invalid", f"the fill doesn't suit whole numbers of type {kind}", "round it")
        return typed

    def _inpainting(self) -> Inpainting:
        values = self.values
        if "inpaint" in self.without:
            raise UsageError("fill.unsuitable", "this method can't inpaint: its masks blend", "use blur, or occlusion")
        row = values.ndim == 2 and values.shape[1] <= COLUMNS
        if self.derived or values.dtype.kind != "f" or values.ndim < 2 or row:
            message = "inpaint needs a picture or a series: columns and words have no surroundings"
            raise UsageError("fill.unsuitable", message, "use mean")
        return Inpainting(self._layout.sample_axes)

    def _from_file(self, fill: Any, kind: str, path: str) -> Replacement:
        """``image:FILE`` or ``samples:FILE``."""
        if self.derived and not self.columns:
            raise UsageError("params.invalid", f"fill {fill!r} doesn't suit an embedding", "give a number, such as 0")
        rows = self._table(path) if self.columns else self._samples(path)
        if kind == "samples":
            return self._named(self._background(rows), path)
        if len(rows) != 1:
            raise UsageError("fill.bad_shape", f"{path} holds {len(rows)} samples, not one", f'write "samples:{path}"')
        return self._one(rows)

    def _named(self, found: Array | BackgroundRows, path: str) -> Array | BackgroundRows:
        """Background samples, with a note where a file names columns that the model has no names for."""
        header = self.evaluator.files[-1].get("feature_names") if self.evaluator.files else None
        if not header or self.columns or self.evaluator.model.column_input(self.name).features:
            return found
        note = f"the columns of {path} are taken in their order: the model has no names for them"
        if not isinstance(found, BackgroundRows):
            return found
        return replace(found, note="; ".join(filter(None, (found.note, note))))

    def _samples(self, path: str) -> Array:
        """A file's samples, (n, ...), in the model's input space."""
        values, evaluator = self.values, self.evaluator
        shape = (None, *values.shape[1:])
        taken = evaluator.model.column_input(self.name)
        read = read_input(
            path,
            self.name,
            values.dtype,
            shape,
            evaluator.model.preprocess,
            features=taken.features,
            missing=taken.missing,
        )
        evaluator.files.append(read.record)
        return read.array

    def _table(self, path: str) -> Array:
        """A CSV file's rows; columns that are inputs of their own are found by name, else taken in their order."""
        model = self.evaluator.model
        read = read_columns(path, [model.column_input(name) for name in self.columns], model.preprocess, others=True)
        self.evaluator.files.append(read[0].record)
        return np.stack([each.array.reshape(len(each.array)) for each in read], axis=1)

    @property
    def _layout(self) -> SpatialLayout:
        return self.evaluator.changing(self.name).layout
