"""The forms that a data set can have: files that hold a sample each, rows of arrays, rows of a table, several of them together.

Belongs here: reading one sample of each form, and its digest. Not here: finding out which form it is (``opening``), the data set
that users hold (``dataset``).
"""

from __future__ import annotations

import bisect
import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from analyzer.data.masks import NO_MASKS, Mask, MaskSource
from analyzer.data.reading import read_file
from analyzer.errors import InputError
from analyzer.inputs import ArrayData, ColumnInput, LoadedInput
from analyzer.inputs.files import file_digest
from analyzer.inputs.reading import input_from_array
from analyzer.inputs.stored import StoredArray
from analyzer.onnx_model import OnnxModel

Groups = Mapping[str, Sequence[str]]


class Form(Protocol):
    """Samples by number: what is known of all, and how one is read.

    Attributes
    ----------
    ids, labels, groups
        One for each sample; groups by the name of a slice column.
    masks
        Where the truth lies, as far as it is known.
    """

    ids: Sequence[str]
    labels: Sequence[int | None]
    groups: Groups
    masks: MaskSource

    def load(self, at: int) -> list[LoadedInput]:
        """One sample, each of the model's inputs a batch of one."""

    def content(self, at: int) -> str:
        """What tells a sample's values from others': digests."""


@dataclass
class Files:
    """A file for each sample, and perhaps another with its mask."""

    model: OnnxModel
    paths: Sequence[Path]
    ids: Sequence[str]
    labels: Sequence[int | None]
    groups: Groups = field(default_factory=dict)
    masks: MaskSource = NO_MASKS

    def load(self, at: int) -> list[LoadedInput]:
        read = read_file(self.model, self.paths[at], any_batch=True)
        count = self.model.batch_of({each.name: each.array for each in read})
        if count != 1:
            raise InputError(
                "data.several", f"{self.paths[at]} holds {count} samples where one is wanted", "name the file itself"
            )
        return read

    def content(self, at: int) -> str:
        return file_digest(self.paths[at])


@dataclass
class Rows:
    """Rows of an archive's arrays, or of one array.

    Attributes
    ----------
    axes
        Input name -> the axis that counts its rows; None for an input that all samples share, or for a single sample whose
        batch axis was left out.
    """

    model: OnnxModel
    path: Path
    taken: Sequence[ColumnInput]
    arrays: Mapping[str, StoredArray]
    axes: Mapping[str, int | None]
    ids: Sequence[str]
    labels: Sequence[int | None]
    groups: Groups = field(default_factory=dict)
    masks: MaskSource = NO_MASKS

    def load(self, at: int) -> list[LoadedInput]:
        found = []
        for each in self.taken:
            stored, axis = self.arrays[each.name], self.axes[each.name]
            values = stored.whole if axis is None else stored.entry(at, axis)
            note = (f"array {stored.key!r}",) if stored.key else ()
            data = ArrayData(values, self._digest, note)
            found.append(input_from_array(data, "array", self.path, each, self.model.preprocess))
        return found

    def content(self, at: int) -> str:
        return f"{self._digest}[{at}]"

    @functools.cached_property
    def _digest(self) -> str:
        return file_digest(self.path)


@dataclass
class TableRows:
    """Rows of a table.

    Attributes
    ----------
    data
        The values of each of the inputs, rows first.
    """

    model: OnnxModel
    path: Path
    taken: Sequence[ColumnInput]
    data: Sequence[ArrayData]
    ids: Sequence[str]
    labels: Sequence[int | None]
    groups: Groups = field(default_factory=dict)
    masks: MaskSource = NO_MASKS

    def load(self, at: int) -> list[LoadedInput]:
        found = []
        for own, each in zip(self.data, self.taken, strict=True):
            row = replace(own, values=own.values[at : at + 1])
            found.append(input_from_array(row, "table", self.path, each, self.model.preprocess))
        return found

    def content(self, at: int) -> str:
        return f"{self.data[0].sha256}[{at}]"


@dataclass
class Named:
    """Samples of inputs that have a file each.

    Attributes
    ----------
    axes
        Input name -> the axis that counts its samples; None for an input that all share.
    """

    read: Sequence[LoadedInput]
    axes: Mapping[str, int | None]
    ids: Sequence[str]
    labels: Sequence[int | None]
    groups: Groups = field(default_factory=dict)
    masks: MaskSource = NO_MASKS

    def load(self, at: int) -> list[LoadedInput]:
        found = []
        for each in self.read:
            axis = self.axes[each.name]
            values = each.array if axis is None else each.array.take([at], axis)
            found.append(replace(each, array=values, picture=each.picture if at == 0 else None))
        return found

    def content(self, at: int) -> str:
        return f"{' '.join(each.sha256 for each in self.read)}[{at}]"


class Joined:
    """Several data sets one behind the other; a slice column that one of them hasn't got is empty there."""

    def __init__(self, parts: Sequence[Form], ids: Sequence[str]) -> None:
        self._parts = parts
        self.masks: MaskSource = self
        self._starts = list(itertools.accumulate((len(part.ids) for part in parts), initial=0))[:-1]
        self.ids: Sequence[str] = ids
        self.labels: Sequence[int | None] = [label for part in parts for label in part.labels]
        names = dict.fromkeys(name for part in parts for name in part.groups)
        self.groups: Groups = {
            name: [text for part in parts for text in part.groups.get(name, [""] * len(part.ids))] for name in names
        }

    def load(self, at: int) -> list[LoadedInput]:
        part, inside = self._at(at)
        return part.load(inside)

    def content(self, at: int) -> str:
        part, inside = self._at(at)
        return part.content(inside)

    def has(self, at: int) -> bool:
        part, inside = self._at(at)
        return part.masks.has(inside)

    def read(self, at: int) -> Mask:
        part, inside = self._at(at)
        return part.masks.read(inside)

    def digest(self, at: int) -> str:
        part, inside = self._at(at)
        return part.masks.digest(inside)

    def _at(self, at: int) -> tuple[Form, int]:
        number = bisect.bisect_right(self._starts, at) - 1
        return self._parts[number], at - self._starts[number]
