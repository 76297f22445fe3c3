"""Which column of a table is for which of a model's inputs.

Belongs here: names of a model's features, and matching a table's columns to them. Not here: the table's format and cells
(``tables``), shaping what was read (``reading``).
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analyzer.errors import InputError
from analyzer.inputs.arrays import ArrayData
from analyzer.inputs.shapes import Dims, fixed
from analyzer.inputs.tables import CellType, Table, named_columns, pick_columns
from analyzer.nearest import did_you_mean

#: Keys of a model's metadata under which it may name its features.
METADATA_KEYS = ("feature_names", "feature_names_in_", "features", "columns")
_LONGEST_TEXT, _LONGEST_LIST = 2**20, 30


@dataclass(frozen=True)
class ColumnInput:
    """An input that takes columns of a table.

    Attributes
    ----------
    name, dtype, shape
        Its name, numpy's type and dimensions, batch first.
    features
        What its columns are called, where the model says so.
    missing
        Whether it may hold NaN.
    """

    name: str
    dtype: np.dtype[Any]
    shape: Dims
    features: tuple[str, ...] | None = None
    missing: bool = False

    @property
    def width(self) -> int | None:
        """How many columns it takes; None where it leaves that open."""
        sizes = [fixed(size) for size in self.shape[1:]]
        return None if None in sizes else math.prod(size for size in sizes if size is not None)

    @property
    def wanted(self) -> tuple[str, ...] | None:
        """The names by which its columns can be found: the model's own or, for a single column, the input's."""
        if self.features is not None and self.width in (None, len(self.features)):
            return self.features
        return (self.name,) if self.width == 1 else None

    def labels(self, size: int) -> list[str]:
        """What so many columns are called; those without a name by the input's and their number."""
        if self.features is not None and len(self.features) == size:
            return list(self.features)
        return [self.name] if size == 1 else [f"{self.name}[{at}]" for at in range(size)]

    @property
    def cells(self) -> CellType:
        """What its cells are read as."""
        return CellType(self.dtype, self.missing)


@dataclass(frozen=True)
class Columns:
    """The columns of one input: their numbers in the table, and what they are called."""

    picked: list[int]
    names: tuple[str, ...] | None


def feature_names(metadata: Mapping[str, str], widths: Mapping[str, int | None]) -> dict[str, tuple[str, ...]]:
    """Input name -> what its columns are called, as far as the model's metadata says.

    Under one of :data:`METADATA_KEYS` it may hold a list of all columns, input by input, or a mapping from an input's name to
    its list, as JSON, as Python writes it, or (a list) with commas between.

    Parameters
    ----------
    widths
        Input name -> how many columns it takes, None where that is open.
    """
    for key in METADATA_KEYS:
        found = _listed(metadata.get(key, ""))
        if isinstance(found, dict):
            return {name: tuple(found[name]) for name in widths if name in found}
        if found and len(widths) == 1:
            return {name: tuple(found) for name in widths}
        if found and None not in widths.values() and len(found) == sum(width or 0 for width in widths.values()):
            rest = iter(found)
            return {name: tuple(next(rest) for _ in range(width or 0)) for name, width in widths.items()}
    return {}


def _listed(text: str) -> list[str] | dict[str, list[str]] | None:
    """A list of names, or a mapping of such; None for anything else."""
    text = text.strip()
    if not text or len(text) > _LONGEST_TEXT:
        return None
    if text[0] not in "[{(":
        return [name.strip() for name in text.split(",")]
    for parse in (json.loads, ast.literal_eval):
        try:
            value: Any = parse(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
        if _names(value):
            return [str(name).strip() for name in value]
        if isinstance(value, dict) and all(isinstance(key, str) and _names(names) for key, names in value.items()):
            return {key: [str(name).strip() for name in names] for key, names in value.items()}
    return None


def _names(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)


#: Cells that are taken as they stand.
TEXT_CELLS = CellType(np.dtype(object))


def column_data(
    table: Table,
    inputs: Sequence[ColumnInput],
    *,
    columns: Sequence[str | int] | None = None,
    others: bool = False,
    beside: Collection[str] = (),
) -> tuple[list[ArrayData], dict[str, list[str]]]:
    """A table's columns as each input's values (rows, columns), and those that are for no input, as text by their name.

    Parameters
    ----------
    columns
        For a single input: which columns it takes, whatever they are called.
    others, beside
        See :func:`match`.

    Raises
    ------
    InputError
        ``data.*`` naming the file, and line and column where it is a cell.
    UsageError
        ``data.unknown_column`` for one of ``columns``.
    """
    text = any(each.dtype.kind in "USO" for each in inputs)
    known = {name for each in inputs for name in each.wanted or ()}
    header = table.has_header(known, text) or any(name in beside for name in table.names)
    names = table.names if header else None
    if columns is not None:
        picked, notes = pick_columns(table.path, names, len(table.first), columns)
        found = [Columns(picked, named_columns(names, picked))]
    else:
        found, notes = match(table, inputs, header, others=others, beside=beside)
    if header and text and not known.intersection(table.names):
        notes = (*notes, "first row taken as names of columns")
    taken = {at for own in found for at in own.picked}
    rest = {name: at for at, name in enumerate(names or ()) if at not in taken and name and (others or name in beside)}
    types = [each.cells for each, own in zip(inputs, found, strict=True) for _ in own.picked]
    order = [at for own in found for at in own.picked]
    cells = iter(table.columns([*order, *rest.values()], [*types, *[TEXT_CELLS] * len(rest)], header))
    values = [np.stack([next(cells) for _ in own.picked], axis=1) for own in found]
    data = [
        ArrayData(each, table.sha256, () if at else notes, own.names)
        for at, (each, own) in enumerate(zip(values, found, strict=True))
    ]
    return data, {name: [str(cell).strip() for cell in next(cells)] for name in rest}


def match(
    table: Table,
    inputs: Sequence[ColumnInput],
    header: bool,
    *,
    others: bool = False,
    beside: Collection[str] = (),
) -> tuple[list[Columns], tuple[str, ...]]:
    """Each input's columns of a table, and notes.

    Without a header, or where nothing of the model has a name, columns are taken in their order. With names, each is found
    by its name, wherever it stands. Inputs of several columns without names take what no other input is called, in their
    order.

    Parameters
    ----------
    others
        Whether columns that the model doesn't take are left out where it names its columns; else they are refused.
    beside
        Names of columns that are left out in any case, unless an input takes them.

    Raises
    ------
    InputError
        ``data.missing_column``, ``data.unknown_column`` naming the column; ``data.bad_shape``.
    """
    names = table.names if header else None
    free, notes = pick_columns(table.path, names, len(table.first), None)
    if names is not None:
        spare = set(beside).difference(name for each in inputs for name in each.wanted or ())
        free = [at for at in free if names[at] not in spare]
    by_name = names is not None and any(each.wanted for each in inputs)
    if len(inputs) == 1 and inputs[0].features is None:  # an input of one column may be called otherwise in the table
        by_name = by_name and inputs[0].name in (names or ())
    if names is not None and not by_name and len(free) > 1 and any(each.dtype.kind in "USO" for each in inputs):
        notes = (*notes, "the model doesn't name its columns: they are taken in the file's order")
    if names is None or not by_name:
        found = _in_order(table, inputs, free, names)
        return found, notes + (_order_note(inputs, found) if len(inputs) > 1 else ())
    found = [Columns([_position(table, names, name) for name in each.wanted or ()], each.wanted) for each in inputs]
    order = [at for columns in found for at in columns.picked]
    if order != sorted(order):
        notes = (*notes, "columns put into the model's order, by their names")
    free = [at for at in free if at not in order]
    if unnamed := [each for each in inputs if each.wanted is None]:
        rest = _in_order(table, unnamed, free, names)
        notes += _order_note(unnamed, rest)
        waiting = iter(rest)
        found = [next(waiting) if each.wanted is None else own for each, own in zip(inputs, found, strict=True)]
    elif free and not others:
        raise InputError(
            "data.unknown_column",
            f"{table.path} has a column {names[free[0]][:80]!r}, which the model doesn't take",
            f"leave it out; the model takes {_listing([name for each in inputs for name in each.wanted or ()])}",
        )
    return found, notes


def _position(table: Table, names: Sequence[str], name: str) -> int:
    """Where the column of a name stands."""
    if names.count(name) > 1:
        raise InputError("data.unknown_column", f"{table.path} has two columns {name[:80]!r}", "leave one out")
    if name not in names:
        raise InputError(
            "data.missing_column",
            f"{table.path} has no column {name[:80]!r}{did_you_mean(name, names)}",
            f"its columns are {_listing(names)}",
        )
    return names.index(name)


def _in_order(table: Table, inputs: Sequence[ColumnInput], free: list[int], names: list[str] | None) -> list[Columns]:
    """Columns in the order in which they stand, as many for each input as it takes; a single input takes all."""
    widths = [each.width for each in inputs]
    if len(inputs) == 1:
        widths = [len(free)]
    if None in widths or sum(width or 0 for width in widths) != len(free):
        wanted = ", ".join(f"{each.name} ({each.width or 'any number'})" for each in inputs)
        raise InputError(
            "data.bad_shape",
            f"{table.path} has {len(free)} columns for {wanted}",
            "name the columns in its first row, give as many as the model takes, or an .npz with an array for each input",
        )
    at, found = 0, []
    for each, width in zip(inputs, widths, strict=True):
        picked = free[at : at + (width or 0)]
        found.append(Columns(picked, named_columns(names, picked) or each.features))
        at += width or 0
    return found


def _order_note(inputs: Sequence[ColumnInput], found: Sequence[Columns]) -> tuple[str, ...]:
    """Which columns inputs took by their order alone."""
    plan = [f"{each.name}: {_listing(_called(columns))}" for each, columns in zip(inputs, found, strict=True)]
    return (f"columns taken in their order, {', '.join(plan)}",)


def _called(columns: Columns) -> Sequence[str]:
    return columns.names or [str(at + 1) for at in columns.picked]


def _listing(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LONGEST_LIST} more" if len(names) > _LONGEST_LIST else ""
    return ", ".join(name[:80] for name in names[:_LONGEST_LIST]) + more
