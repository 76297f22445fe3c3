"""From a text or number beside a sample to the class that it means.

Belongs here: labels as data sets write them. Not here: class names as such (``analyzer.inputs.labels``), targets.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from analyzer.errors import InputError
from analyzer.nearest import did_you_mean
from analyzer.onnx_model import OnnxModel

_INDEX, _NUMBER = re.compile(r"\d{1,9}(\.0*)?"), re.compile(r"[+-]?\d+(\.\d*)?")


class Classes:
    """The classes of a model: how many there are at most, and what they are called."""

    def __init__(self, model: OnnxModel) -> None:
        self._labels = model.labels
        sizes = [
            size for spec in model.outputs.values() for size in spec.shape[1:] if isinstance(size, int) and size > 1
        ]
        named = len(self._labels) if self._labels is not None else 0
        self._count = max([named, *sizes]) if sizes or named else None
        self._called: dict[str, int | None] = {}

    def folder(self, name: str) -> int | None:
        """The class that a folder is called after; None where it is called otherwise."""
        found = self._named(name)
        if found is None and name.isascii() and name.isdigit():
            found = int(name[:9])
        return found if self._exists(found) else None

    def label(self, value: Any, where: str) -> int | None:
        """The class of a label: its number, or its name; None for an empty one or NaN.

        Raises
        ------
        InputError
            ``data.label`` for a name that no class has, and a number that is no class.
        """
        if isinstance(value, float | np.floating) and np.isnan(value):
            return None
        text = str(int(value)) if isinstance(value, bool | np.bool_) else str(value).strip()
        if not text:
            return None
        if _INDEX.fullmatch(text):
            found = int(text.partition(".")[0])
            if not self._exists(found):
                raise self._unknown(text, where)
            return found
        index = self._named(text)
        if index is None:
            raise self._unknown(text, where)
        return index

    def _unknown(self, text: str, where: str) -> InputError:
        if _NUMBER.fullmatch(text):
            most = f" from 0 to {self._count - 1}" if self._count is not None else ""
            return InputError("data.label", f"{where}: the model has no class {text}", f"give a whole number{most}")
        if self._labels is None:
            hint = "give --labels, or numbers of classes"
            return InputError("data.label", f"{where}: {text[:80]!r} is no number, and no class names are known", hint)
        near = did_you_mean(text, [name for name in self._labels.names if name])
        return InputError(
            "data.label", f"{where}: no class is called {text[:80]!r}{near}", "give a class's name or its number"
        )

    def _named(self, text: str) -> int | None:
        """The class of a name, looked up once."""
        if self._labels is None:
            return None
        if text not in self._called:
            self._called[text] = self._labels.called(text)
        return self._called[text]

    def _exists(self, index: int | None) -> bool:
        return index is not None and (self._count is None or index < self._count)
