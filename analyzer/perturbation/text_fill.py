"""A method's ``fill`` read against inputs of which some hold text.

Belongs here: what replaces texts, words and the columns beside them. Not here: fills of numbers alone (``fill_parameter``),
how the kinds of replacement are scored (``replacement``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analyzer.errors import UsageError
from analyzer.inputs import read_columns, read_input
from analyzer.inputs.fills import FILLS
from analyzer.inputs.reading import TABLES
from analyzer.perturbation.evaluator import Array, Evaluator
from analyzer.perturbation.fill_parameter import Fill, replacement_for
from analyzer.perturbation.replacement import BackgroundRows, Replacement, Replacements

#: Fills that are computed of numbers.
_COMPUTED = tuple(name for name in (*FILLS, "inpaint", "image") if name != "zero")


@dataclass(frozen=True)
class TextFill:
    """What becomes of what is left out.

    Attributes
    ----------
    words
        The inputs whose texts are cut into words.
    background
        The most background samples.
    """

    evaluator: Evaluator
    words: tuple[str, ...]
    background: int

    def read(self, fill: Any, channelless: Fill | None = None) -> Replacements:
        """What replaces each input's elements, said in words too.

        Parameters
        ----------
        fill
            A number, for inputs of numbers; a text, for the others and for words (``text:`` before one that is the name of a
            fill); ``samples:FILE``; or rows of cells. A fill that is computed, where there are pictures or series.
        channelless
            As of :meth:`FeatureSpace.replacements`.

        Raises
        ------
        UsageError
            ``fill.*``, ``params.invalid``.
        InputError
            ``data.*`` where a file can't be read or doesn't fit.
        """
        if isinstance(fill, np.ndarray | list | tuple):
            return self._cells(np.asarray(fill, object))
        name, colon, rest = fill.partition(":") if isinstance(fill, str) else ("", "", "")
        if name == "samples" and colon:
            return self._cells(self._file(rest))
        if name == "text" and colon:
            return self._same(0.0, rest)
        if name in _COMPUTED:
            return self._computed(str(fill), channelless)
        if isinstance(fill, str):
            return self._same(0.0, None if fill == "zero" else fill)
        if fill and not self._numbers:
            message = f"fill {fill:g} is a number, and the model takes text"
            raise UsageError("fill.unsuitable", message, f"give a text, such as {'text:' + format(fill, 'g')!r}")
        return self._same(fill, None)

    @property
    def _numbers(self) -> tuple[str, ...]:
        """The inputs that hold no text."""
        return tuple(name for name in self.evaluator.changed if name not in self.evaluator.texts)

    @property
    def _columns(self) -> tuple[str, ...]:
        """The inputs of text that isn't cut into words."""
        return tuple(name for name in self.evaluator.texts if name not in self.words)

    def _computed(self, fill: str, channelless: Fill | None) -> Replacements:
        """A fill of pictures and series; of columns beside them, and where it is only a default, 0."""
        wide = [name for name in self._numbers if self.evaluator.inputs[name].ndim > 2]
        if not wide and (channelless is None or fill != "mean"):
            message = f"fill {fill!r} is computed of numbers, and the model takes text"
            raise UsageError(
                "fill.unsuitable", message, f"give a text, samples:FILE, or {'text:' + fill!r} for that word"
            )
        return self._same(0.0, None, dict.fromkeys(wide, fill))

    def _same(self, number: Any, text: str | None, own: dict[str, str] | None = None) -> Replacements:
        """The same number and text everywhere, but for inputs with a fill of their ``own``; without a text, the empty one.

        Words are taken out then.
        """
        evaluator, own, word = self.evaluator, own or {}, "" if text is None else text
        found: dict[str, Replacement] = {}
        for name in evaluator.changed:
            value = evaluator.inputs[name]
            if name in evaluator.texts:
                found[name] = np.full(value.shape, text if name in self.words else word, object)
            elif value.dtype.kind in "iub" and name not in own:
                found[name] = np.full(value.shape, self._cell(name, number), value.dtype)
            else:
                found[name] = replacement_for(evaluator, name, own.get(name, number), background=self.background)
        told = [f"texts of {_named(self._columns)} become {word!r}"] if self._columns else []
        if self.words:
            told.append(f"words of {_named(self.words)} {'are taken out' if text is None else f'become {word!r}'}")
        if numbers := [name for name in self._numbers if name not in own]:
            told.append(f"numbers of {_named(numbers)} become {number:g}")
        return Replacements(found, (f"what is left out: {', '.join(told)}",))

    def _cells(self, given: Array) -> Replacements:
        """A row of cells for every sample, or background rows."""
        evaluator = self.evaluator
        if self.words:
            message = f"the words of {_named(self.words)} have no counterparts in other rows"
            raise UsageError(
                "fill.unsuitable", message, "give a text, or segments=columns, which replaces a text as a whole"
            )
        if self.background < 1:
            raise UsageError("params.invalid", f"background must be at least 1, not {self.background}", "100 is usual")
        rows = self._typed(given.reshape(1, -1) if given.ndim == 1 else given)
        drawn = BackgroundRows.of(rows, self.background, evaluator.seed)
        found: dict[str, Replacement] = {}
        for name, part in self._spans().items():
            value = evaluator.inputs[name]
            column = drawn.rows[:, part].astype(value.dtype).reshape(-1, *value.shape[1:])
            one = len(drawn.rows) == 1
            found[name] = np.broadcast_to(column, value.shape).copy() if one else BackgroundRows(column, drawn.note)
        count = len(drawn.rows)
        several = f"{count} background rows, and scores are means over them"
        return Replacements(found, (f"what is left out takes the cells of {'one row' if count == 1 else several}",))

    def _spans(self) -> dict[str, slice]:
        """Where each input's cells are in a row of all."""
        spans, at = {}, 0
        for name in self.evaluator.changed:
            size = self.evaluator.inputs[name][:1].size
            spans[name] = slice(at, at + size)
            at += size
        return spans

    def _typed(self, given: Array) -> Array:
        """Rows whose cells are of their inputs' types.

        Raises
        ------
        UsageError
            ``fill.bad_shape``, ``fill.bad_type``, ``fill.nonfinite``, ``params.invalid``.
        """
        spans = self._spans()
        count = max(part.stop for part in spans.values())
        if given.ndim != 2 or given.shape[1] != count:
            model = self.evaluator.model
            labels = [
                each for name, part in spans.items() for each in model.column_input(name).labels(part.stop - part.start)
            ]
            raise UsageError(
                "fill.bad_shape",
                f"a fill of shape {list(given.shape)} doesn't replace {count} cells: {', '.join(labels[:20])}",
                "give rows with a cell for each",
            )
        typed = given.copy()
        for name, part in spans.items():
            for at, cell in np.ndenumerate(given[:, part]):
                typed[:, part][at] = self._cell(name, cell)
        return typed

    def _cell(self, name: str, cell: Any) -> Any:
        """A cell as one of an input's type; NaN where the input may hold it."""
        kind = self.evaluator.inputs[name].dtype
        number = isinstance(cell, int | float | np.number | np.bool_)
        if isinstance(cell, str) != (kind.kind == "O") or not (number or isinstance(cell, str)):
            what = "text" if kind.kind == "O" else str(kind)
            message = f"a fill holds {str(cell)[:40]!r} for input {name!r}, which takes {what}"
            raise UsageError("fill.bad_type", message, "give cells of the inputs' types")
        if isinstance(cell, str):
            return cell
        if not np.isfinite(cell) and not (np.isnan(cell) and name in self.evaluator.model.takes_missing):
            raise UsageError("fill.nonfinite", f"a fill holds {cell} for input {name!r}", "give finite values")
        try:
            typed = kind.type(cell)
        except (OverflowError, ValueError):
            typed = None
        if typed is None or (kind.kind in "iub" and typed != cell):
            raise UsageError(
                "params.invalid", f"fill {cell:g} doesn't suit {kind} of input {name!r}", "give another number"
            )
        return typed

    def _file(self, path: str) -> Array:
        """A file's rows: a table's columns are found by name; of an archive, the arrays of the inputs' names."""
        evaluator, names = self.evaluator, self.evaluator.changed
        model = evaluator.model
        taken = [model.column_input(name) for name in names]
        if path.lower().endswith(TABLES):
            read = read_columns(path, taken, model.preprocess, others=True)
        else:
            several = len(taken) > 1
            read = [
                read_input(
                    path, each.name, each.dtype, each.shape, key=each.name if several else None, missing=each.missing
                )
                for each in taken
            ]
        evaluator.files.append(read[0].record)
        if len({len(each.array) for each in read}) != 1:
            raise UsageError(
                "fill.bad_shape", f"the arrays of {path} have unlike numbers of rows", "give as many of each"
            )
        return np.concatenate([each.array.reshape(len(each.array), -1).astype(object) for each in read], axis=1)


def _named(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
