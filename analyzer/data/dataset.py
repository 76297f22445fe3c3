"""A data set: many samples for a model, read when they are wanted, with labels, masks and slices.

Belongs here: what its users hold, and opening one. Not here: the forms that it can have (``opening``, ``forms``).
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.data.drawing import draw
from analyzer.data.forms import Form
from analyzer.data.masks import fitted_mask
from analyzer.data.opening import DataPath, form_of
from analyzer.errors import InconclusiveError, InputError, UsageError
from analyzer.inputs import LoadedInput
from analyzer.nearest import did_you_mean
from analyzer.onnx_model import OnnxModel

#: The name under which samples are stratified by their labels.
LABEL = "label"


@dataclass(frozen=True)
class Sample:
    """One sample.

    Attributes
    ----------
    id
        Unique in its data set.
    feed
        Input name -> array, a batch of one.
    label
        The class that it is of, where known.
    mask
        Where the truth lies, bool over the places of the masked input, where known.
    groups
        Slice column -> the sample's value.
    source
        The masked input as it was read, with its picture and the record of what was done to it.
    notes
        What was assumed, chosen or converted on the way, of all inputs.
    """

    id: str
    feed: dict[str, NDArray[Any]]
    label: int | None
    mask: NDArray[np.bool_] | None
    groups: Mapping[str, str]
    source: LoadedInput | None
    notes: tuple[str, ...] = ()


class Dataset:
    """Samples for a model. None is read before it is wanted, and none is kept.

    Attributes
    ----------
    masked
        The input that masks lie on.
    """

    def __init__(self, model: OnnxModel, form: Form, masked: str, rows: Sequence[int] | None = None) -> None:
        self.masked = masked
        self._model = model
        self._form = form
        self._rows = range(len(form.ids)) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"<Dataset of {len(self)} samples>"

    @functools.cached_property
    def ids(self) -> tuple[str, ...]:
        """What the samples are called: unique, and the same whenever the data set is opened."""
        return tuple(self._form.ids[at] for at in self._rows)

    @functools.cached_property
    def labels(self) -> tuple[int | None, ...]:
        """The classes that the samples are of; None where that isn't known."""
        return tuple(self._form.labels[at] for at in self._rows)

    @functools.cached_property
    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """Slice column -> a value for each sample."""
        return {name: tuple(values[at] for at in self._rows) for name, values in self._form.groups.items()}

    @functools.cached_property
    def masks(self) -> tuple[bool, ...]:
        """Whether it is known of each sample where the truth lies."""
        return tuple(self._form.masks.has(at) for at in self._rows)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over ids, contents, masks, labels and slices; files are read through for it, one at a time."""
        found = hashlib.sha256()
        for number, at in enumerate(self._rows):
            groups = {name: values[number] for name, values in self.groups.items()}
            content, mask = self._form.content(at), self._form.masks.digest(at)
            own = [self.ids[number], content, mask, self.labels[number], groups]
            found.update(json.dumps(own, sort_keys=True).encode() + b"\n")
        return found.hexdigest()

    def read(self, i: int) -> Sample:
        """One sample.

        Raises
        ------
        InputError
            Whatever is wrong with its file or its mask, ``data.missing`` included.
        """
        at = self._rows[i]
        try:
            read = self._form.load(at)
            given = self._form.masks.read(at) if self._form.masks.has(at) else None
        except UsageError as problem:
            if problem.code != "data.missing":
                raise
            raise InputError(problem.code, problem.message, problem.hint) from None
        source = next((each for each in read if each.name == self.masked), None)
        mask = fitted_mask(given, self._model, source) if given is not None and source is not None else None
        feed = {each.name: each.array for each in read}
        groups = {name: values[at] for name, values in self._form.groups.items()}
        notes = tuple(dict.fromkeys(note for each in read for note in each.notes))
        return Sample(self._form.ids[at], feed, self._form.labels[at], mask, groups, source, notes)

    def subset(self, indices: Iterable[int]) -> Dataset:
        """Some of its samples, in the order given."""
        return Dataset(self._model, self._form, self.masked, [self._rows[at] for at in indices])

    def strata(self, by: str) -> tuple[Any, ...]:
        """What parts the data: its labels for ``label``, else a slice column.

        Raises
        ------
        UsageError
            ``data.stratify``.
        """
        if by in self.groups:
            return self.groups[by]
        if by == LABEL and any(label is not None for label in self.labels):
            return self.labels
        known = [*self.groups, *([LABEL] if any(label is not None for label in self.labels) else [])]
        raise UsageError(
            "data.stratify",
            f"the data has no {'labels' if by == LABEL else f'column {by!r}'}{did_you_mean(by, known)}",
            f"it has {', '.join(known) or 'neither labels nor slice columns'}",
        )


def open_dataset(
    model: OnnxModel,
    path: DataPath,
    *,
    masks: str | os.PathLike[str] | None = None,
    samples: int | None = None,
    seed: int = 0,
    stratify: str | None = None,
    masked: str | None = None,
) -> Dataset:
    """Open a data set.

    Parameters
    ----------
    path
        A folder of files, a manifest (``.csv`` with a column ``path`` or ``file``), an ``.npz`` with an array for each input, a
        table, any other file that holds one sample or many, a list of such, or a mapping from each input's name to its file.
    masks
        A folder of pictures or ``.npy`` files that are called as the samples are, or one file for all; goes before masks that a
        manifest or an archive names.
    samples
        So many are drawn; None takes all.
    seed
        Of the draw.
    stratify
        ``label`` or a slice column, whose proportions the draw keeps.
    masked
        The input that masks lie on; None for the first that is explained.

    Raises
    ------
    UsageError
        ``data.missing``, ``data.inputs``, ``data.npz_key``, ``data.samples``, ``data.stratify``, ``data.masks``,
        ``seed.invalid``.
    InputError
        ``data.*`` for files that can't be read, ``data.label`` for labels that are no classes.
    InconclusiveError
        ``data.empty``.
    """
    model.require_inputs()
    if samples is not None and (isinstance(samples, bool) or not isinstance(samples, int | np.integer) or samples < 1):
        raise UsageError("data.samples", f"samples={samples!r} is no whole number from 1 on", "as in samples=200")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise UsageError("seed.invalid", f"seed={seed!r} is no whole number from 0 on", "give seed=0")
    form = form_of(model, path, Path(masks) if masks is not None else None)
    if not len(form.ids):
        raise InconclusiveError("data.empty", f"{_named(path)} holds no samples", "give at least one file or row")
    if masked is not None and masked not in model.inputs:
        message = f"the model has no input {masked!r}{did_you_mean(masked, model.inputs)}"
        raise UsageError("data.unknown_input", message, f"its inputs: {', '.join(model.inputs)}")
    names = [masked] if masked is not None else [*model.explained_inputs, *model.inputs]
    data = Dataset(model, form, names[0])
    strata = data.strata(stratify) if stratify is not None else None
    return data if samples is None else data.subset(draw(len(data), int(samples), int(seed), strata))


def _named(path: Any) -> str:
    return str(path) if isinstance(path, str | os.PathLike) else "what is given"
