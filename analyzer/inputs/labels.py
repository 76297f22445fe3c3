"""Class names: reading them, finding one by what people type.

Belongs here: label files and label metadata. Not here: targets other than a label's text. Names are data from
strangers: they are stored unchanged, and whatever displays them escapes them.
"""

from __future__ import annotations

import ast
import csv
import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from analyzer.errors import InputError, UsageError
from analyzer.inputs.files import decode_text, read_bytes
from analyzer.nearest import several

FILE_LIMIT = 16 * 2**20
NAME_LIMIT = 4096
CLASS_LIMIT = 1_000_000
METADATA_KEYS = ("labels", "classes", "names")

_WORDNET = re.compile(r"n\d{8}\s+")
_HEADERS = frozenset({"index", "id", "class", "class_id", "label", "labels", "name", "names", "class_name", "idx"})
_log = logging.getLogger(__name__)


def _fold(text: str) -> str:
    return " ".join(text.replace("_", " ").casefold().split())


@dataclass(frozen=True)
class Labels:
    """Names of a model's classes, by index; an empty name is an unnamed class."""

    names: tuple[str, ...]
    source: str = ""

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """The class's name; its number where it has none."""
        return (self.names[index] if 0 <= index < len(self.names) else "") or str(index)

    def check(self, classes: int) -> str | None:
        """A warning where the model's number of classes isn't the number of names."""
        if classes == len(self.names):
            return None
        return f"{self.source or 'labels'}: {len(self.names)} names for {classes} classes; names may be shifted"

    @cached_property
    def _by_synonym(self) -> dict[str, set[int]]:
        found: dict[str, set[int]] = {}
        for index, name in enumerate(self.names):
            for synonym in {_fold(name), *(_fold(part) for part in name.split(","))} - {""}:
                found.setdefault(synonym, set()).add(index)
        return found

    def called(self, text: str) -> int | None:
        """The only class of that name or synonym, case and ``_`` for a space left aside; None where there isn't just one."""
        exact = {index for index, name in enumerate(self.names) if name and name == text.strip()}
        found = exact or self._by_synonym.get(_fold(text), set())
        return next(iter(found)) if len(found) == 1 else None

    def index(self, text: str) -> int:
        """The class that ``text`` names.

        In this order: the exact name; the name or one of its comma-separated synonyms without regard to case, with
        ``_`` as a space; the only class one of whose synonyms starts with it.

        Raises
        ------
        UsageError
            ``target.unknown_label`` with near names; ``target.ambiguous_label`` with the classes' numbers.
        """
        exact = {index for index, name in enumerate(self.names) if name and name == text.strip()}
        wanted = _fold(text)
        folded = {index for index, name in enumerate(self.names) if wanted and _fold(name) == wanted}
        prefixed = {i for s, indexes in self._by_synonym.items() if wanted and s.startswith(wanted) for i in indexes}
        for found in (exact, folded, self._by_synonym.get(wanted, set()), prefixed):
            if len(found) == 1:
                return next(iter(found))
            if found:
                listing = ", ".join(f"{i} ({self.name(i)[:40]})" for i in sorted(found)[:8])
                more = f" and {len(found) - 8} more" if len(found) > 8 else ""
                raise UsageError(
                    "target.ambiguous_label",
                    f"{text[:80]!r} names {len(found)} classes",
                    f"give an index: {listing}{more}",
                )
        names = [self.name(min(self._by_synonym[synonym])) for synonym in several(wanted, self._by_synonym)]
        hint = f"did you mean {' or '.join(repr(n[:80]) for n in dict.fromkeys(names))}?" if names else "give an index"
        raise UsageError(
            "target.unknown_label", f"no class is called {text[:80]!r} in {self.source or 'the labels'}", hint
        )


def read_labels(path: str | os.PathLike[str]) -> Labels:
    """Read class names: one a line, ``index,name`` or ``name,index`` lines, or a JSON list or ``{"index": name}``.

    A byte order mark, a header line, WordNet numbers in front of every name and blank lines at the end are removed;
    a blank line between names is an unnamed class.

    Raises
    ------
    InputError
        ``data.labels`` for a file that is empty, no text, has a name longer than 4096 characters, or contradicting
        indexes; ``limit.memory`` above 16 MiB.
    """
    text = decode_text(read_bytes(path, FILE_LIMIT), path, "data.labels")
    names = _from_json(text) if text.lstrip().startswith(("[", "{")) else None
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for number, line in enumerate(lines, start=1):
        if names is None and len(line) > NAME_LIMIT:
            raise InputError(
                "data.labels", f"{path}, line {number} has {len(line):,} characters", "give one class name a line"
            )
    if names is None:
        names = _indexed(lines, path) or _plain(lines, is_csv=str(path).lower().endswith(".csv"))
    if not any(names):
        raise InputError("data.labels", f"{path} holds no names", "give one class name a line")
    if any(len(name) > NAME_LIMIT for name in names) or len(names) > CLASS_LIMIT:
        raise InputError("data.labels", f"{path} is no list of class names: too many or too long", "one name a line")
    return Labels(tuple(names), str(path))


def labels_from_metadata(metadata: Mapping[str, str]) -> Labels | None:
    """Class names that a model carries under ``labels``, ``classes`` or ``names``: a list or an index-to-name mapping.

    JSON or a Python literal. Anything else there is ignored, with a warning in the log.
    """
    for key in METADATA_KEYS:
        text = metadata.get(key, "")
        if not text.strip():
            continue
        names = _from_json(text) if len(text) <= FILE_LIMIT else None
        if names and len(names) <= CLASS_LIMIT and all(len(name) <= NAME_LIMIT for name in names):
            return Labels(tuple(names), f"metadata key {key!r}")
        _log.warning("the model's metadata key %r holds no list of class names: ignored", key)
    return None


def _from_json(text: str) -> list[str] | None:
    """Names from a JSON or Python list or mapping; None where it is neither."""
    value: Any = None
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(text.strip())
            break
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    if isinstance(value, dict):
        try:
            value = {int(index): name for index, name in value.items()}
        except (TypeError, ValueError):
            return None
        if not value or min(value) < 0 or max(value) >= min(CLASS_LIMIT, 10 * len(value) + 100):
            return None
        value = [value.get(index, "") for index in range(max(value) + 1)]
    if not isinstance(value, list):
        return None
    names = [v[-1] if isinstance(v, list) and v else v for v in value]  # ["n01440764", "tench"]
    return [str(n).strip() for n in names] if all(isinstance(n, str | int) for n in names) else None


def _indexed(lines: list[str], path: Any) -> list[str] | None:
    """Names where every line is ``index,name`` or ``name,index``, else None."""
    try:
        rows = [row for row in csv.reader(lines) if any(cell.strip() for cell in row)]
    except csv.Error:
        return None
    if rows and {cell.strip().lower() for cell in rows[0]} <= _HEADERS:
        rows = rows[1:]
    if not rows or any(len(row) != 2 for row in rows):
        return None
    for column in (0, 1):
        if all(row[column].strip().isascii() and row[column].strip().isdigit() for row in rows):
            break
    else:
        return None
    found: dict[int, str] = {}
    for row in rows:
        index = int(row[column].strip()[:12])
        if index in found or index >= min(CLASS_LIMIT, 10 * len(rows) + 100):
            why = "appears twice" if index in found else "is too large"
            raise InputError("data.labels", f"{path}: index {index} {why}", "number the classes 0, 1, 2, …")
        found[index] = row[1 - column].strip()
    return [found.get(index, "") for index in range(max(found) + 1)]


def _plain(lines: list[str], is_csv: bool) -> list[str]:
    names = [line.strip() for line in lines]
    while names and not names[-1]:
        names.pop()
    if is_csv:
        names = [n[1:-1].replace('""', '"') if len(n) > 1 and n[0] == n[-1] == '"' else n for n in names]
        if names and names[0].lower() in _HEADERS:
            names = names[1:]
    if names and all(_WORDNET.match(name) for name in names):
        names = [_WORDNET.sub("", name, count=1) for name in names]
    return names
