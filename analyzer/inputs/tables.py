"""Tables as text files: rows of cells, which row names the columns, what a cell means.

Belongs here: the CSV format, and reading cells as numbers, truth values or text. Not here: which column is for which of a
model's inputs (``columns``).
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import os
import re
from array import array
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import InputError, UsageError
from analyzer.inputs.arrays import ArrayData
from analyzer.inputs.files import decode_text, read_bytes

CSV_LIMIT = 256 * 2**20
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?", "-"})
_TRUTH = {"true": True, "false": False}
_MORE_TRUTH = {**_TRUTH, "yes": True, "no": False, "1": True, "0": False, "1.0": True, "0.0": False}
_QUOTED = re.compile(r'"[^"]*"')
_WHOLE = re.compile(r"[+-]?\d+")
_GROUPED = re.compile(r"[+-]?\d{1,3}([,.' \u00a0\u2009\u202f]\d{3})+([,.]\d*)?")


@dataclass(frozen=True)
class CellType:
    """What the cells of a column are read as.

    Attributes
    ----------
    dtype
        Of a floating-point or integer kind, bool, or text.
    missing
        Whether an empty cell, or one of :data:`MISSING`, is NaN; for floating-point kinds only. In text it is text.
    """

    dtype: np.dtype[Any]
    missing: bool = False

    def read(self, cell: str, where: _Where) -> Any:
        """A cell's value.

        Raises
        ------
        InputError
            ``data.missing_value``, ``data.not_a_number``, ``data.nonfinite``, ``data.bad_dtype`` naming the cell.
        """
        kind = self.dtype.kind
        if kind in "USO":
            return cell
        bare = cell.strip()
        if bare.lower() in MISSING:
            if self.missing and kind == "f":
                return math.nan
            why = "the value is missing, and the model has no branch or default for that"
            raise InputError("data.missing_value", f"{where}: {why}", "fill it or drop the row")
        if kind == "b":
            return self._truth(bare, where)
        return self._whole(bare, where) if kind in "iu" else _number(bare, where)

    def _truth(self, cell: str, where: _Where) -> bool:
        if cell.lower() not in _MORE_TRUTH:
            message = f"{where}: {cell[:40]!r} is neither true nor false"
            raise InputError("data.not_a_number", message, "write true or false, or 1 or 0")
        return _MORE_TRUTH[cell.lower()]

    def _whole(self, cell: str, where: _Where) -> int:
        found = int(cell) if _WHOLE.fullmatch(cell) and len(cell) < 40 else _number(cell, where)
        range_ = np.iinfo(self.dtype)
        if found != int(found):
            message = f"{where}: {cell[:40]!r} is a fraction, the model takes {self.dtype}"
            raise InputError("data.bad_dtype", message, "give whole numbers")
        if not range_.min <= found <= range_.max:
            message = f"{where}: {cell[:40]!r} is outside {self.dtype} ({range_.min}..{range_.max})"
            raise InputError("data.bad_dtype", message, "give values the model takes")
        return int(found)

    def column(self, cells: Sequence[Any]) -> NDArray[Any]:
        """Values as one array: float64 of any floating-point kind, object of text."""
        if self.dtype.kind == "f":
            return np.array(cells, np.float64)
        return np.array(cells, object if self.dtype.kind in "USO" else self.dtype)


#: What :func:`read_csv` reads cells as.
_FLOAT = CellType(np.dtype(np.float64))


@dataclass(frozen=True)
class _Where:
    """Which cell, in words; made into text only where something is wrong."""

    path: Any
    line: int
    column: int
    names: Sequence[str] | None

    def __str__(self) -> str:
        name = f" ({self.names[self.column][:80]!r})" if self.names else ""
        return f"{self.path}, line {self.line}, column {self.column + 1}{name}"


class Table:
    """A CSV file, with its first row looked at.

    Parameters
    ----------
    limit
        Most bytes of the file.

    Attributes
    ----------
    first
        The cells of the first row that isn't blank.
    single
        Whether it is the only one.
    sha256
        Of the file.

    Raises
    ------
    InputError
        ``data.empty``, ``data.table_unreadable``, ``limit.memory``.
    """

    def __init__(self, path: str | os.PathLike[str], limit: int = CSV_LIMIT) -> None:
        content = read_bytes(path, limit)
        self.path = path
        self.sha256 = hashlib.sha256(content).hexdigest()
        self._rows = _rows(path, content)
        self._line, self.first = next(self._rows, (0, []))
        if not self.first:
            raise InputError("data.empty", f"{path} has no rows", "give a table with at least one row of numbers")
        following = next(self._rows, None)
        self.single = following is None
        self._rest = chain(() if following is None else (following,), self._rows)

    @property
    def names(self) -> list[str]:
        """The first row as names of columns."""
        return [cell.strip() for cell in self.first]

    def has_header(self, known: Collection[str] = (), text: bool = False) -> bool:
        """Whether the first row names the columns.

        It does where it has one of the ``known`` names, unless that is a number and others of them are missing; else where
        none of its cells is a number. Of a table with ``text``, a single row is data.
        """
        names = set(self.names)
        found = names.intersection(known)
        if any(not is_value(name) for name in found) or (found and found == set(known) and not self.single):
            return True
        return not any(is_value(cell) for cell in self.first) and not (text and self.single)

    def columns(self, picked: Sequence[int], types: Sequence[CellType], header: bool) -> list[NDArray[Any]]:
        """The picked columns, each read as its type; can be asked for once.

        Raises
        ------
        InputError
            ``data.ragged_table``, ``data.empty`` and what :meth:`CellType.read` raises, naming line and column.
        """
        names = self.names if header else None
        cells: list[Any] = [array("d") if each.dtype.kind == "f" else [] for each in types]
        plan = [(into.append, each, column) for into, each, column in zip(cells, types, picked, strict=True)]
        width, count = len(self.first), 0
        for line, row in self._rest if header else chain([(self._line, self.first)], self._rest):
            if len(row) != width:
                raise InputError(
                    "data.ragged_table",
                    f"{self.path}, line {line}: {len(row)} cells, not {width}",
                    "give every row as many cells, and put text that holds commas into quotes",
                )
            for append, each, column in plan:
                value = _plain(row[column]) if each.dtype.kind == "f" else None
                append(each.read(row[column], _Where(self.path, line, column, names)) if value is None else value)
            count += 1
        if not count:
            raise InputError("data.empty", f"{self.path} has a header and no rows", "give at least one row of numbers")
        return [each.column(values) for each, values in zip(types, cells, strict=True)]


def read_csv(
    path: str | os.PathLike[str],
    header: bool | None = None,
    columns: Sequence[str | int] | None = None,
    limit: int = CSV_LIMIT,
) -> ArrayData:
    """Read a table of numbers, (rows, columns) float64; comma, semicolon or tab between cells.

    Parameters
    ----------
    header
        Whether the first row names the columns; by default it does where none of its cells is a number.
    columns
        Names or 0-based numbers of the columns to take, in that order; all by default.

    Raises
    ------
    InputError
        ``data.missing_value``, ``data.not_a_number``, ``data.nonfinite``, ``data.ragged_table`` naming line and column;
        ``data.empty``; ``data.table_unreadable``.
    UsageError
        ``data.unknown_column``.
    """
    table = Table(path, limit)
    header = table.has_header() if header is None else header
    names = table.names if header else None
    picked, notes = pick_columns(path, names, len(table.first), columns)
    found = table.columns(picked, [_FLOAT] * len(picked), header)
    return ArrayData(np.stack(found, axis=1), table.sha256, notes, named_columns(names, picked))


def named_columns(names: Sequence[str] | None, picked: Sequence[int]) -> tuple[str, ...] | None:
    """What the picked columns are called; None without a header."""
    return tuple(names[c] or f"column {c + 1}" for c in picked) if names else None


def pick_columns(
    path: Any, names: list[str] | None, width: int, columns: Sequence[str | int] | None
) -> tuple[list[int], tuple[str, ...]]:
    """Numbers of the columns that were asked for, and notes; without a wish all but an index without a name.

    Raises
    ------
    UsageError
        ``data.unknown_column``.
    """
    if columns is None:
        if names and width > 1 and names[0] in ("", "Unnamed: 0"):
            return list(range(1, width)), ("first column has no name: taken as row numbers and dropped",)
        return list(range(width)), ()
    picked: list[int] = []
    for column in columns:
        index = names.index(column) if names and column in names else column
        if not isinstance(index, int) or not 0 <= index < width:
            listing = ", ".join((names or [str(i) for i in range(width)])[:30])
            raise UsageError("data.unknown_column", f"{path} has no column {column!r}", f"columns: {listing}")
        picked.append(index)
    return picked, (f"columns taken: {', '.join(str(c) for c in columns)}",)


def is_value(cell: str) -> bool:
    """Whether a cell is a number or a truth value, which no column is called."""
    return cell.strip().lower() in _TRUTH or _is_number(cell)


def _rows(path: Any, content: bytes) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of every row that isn't blank; one row in memory at a time."""
    text = decode_text(content, path, "data.table_unreadable")
    first = _QUOTED.sub("", text.lstrip().partition("\n")[0])
    delimiter = "\t" if "\t" in first else ";" if ";" in first else ","
    del text
    lines = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline="")
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error as problem:
        raise InputError("data.table_unreadable", f"{path}, line {reader.line_num}: {problem}", "save as CSV") from None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def _plain(cell: str) -> float | None:
    """A cell that is nothing but a finite number, the usual case; None for any other."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in cell else None


def _number(cell: str, where: _Where) -> float:
    if not _is_number(cell):
        if cell.lower() in _TRUTH:
            return float(_TRUTH[cell.lower()])
        raise InputError("data.not_a_number", f"{where}: {cell[:40]!r} is not a number", _spelling(cell))
    value = float(cell)
    if not math.isfinite(value):
        raise InputError("data.nonfinite", f"{where}: {cell[:40]!r} is not finite", "give finite numbers")
    return value


def _spelling(cell: str) -> str:
    """How a cell that is no number should be written."""
    if _GROUPED.fullmatch(cell):
        return "write numbers without separators between thousands, and decimals with a point"
    return "write decimals with a point" if "," in cell else "give numbers; only the first row may hold names"
