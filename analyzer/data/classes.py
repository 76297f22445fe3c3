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

_INDEX = re.compile(r"\d{1,9}(\.0+)?")


class Classes:
    """The classes of a model: how many there are at most, and what they are called."""

    def __init__(self, model: OnnxModel) -> None:
        self._labels = model.labels
        sizes = [
            size for spec in model.outputs.values() for size in spec.shape[1:] if isinstance(size, int) and size > 1
        ]
        named = len(self._labels) if self._labels is not None else 0
        self._count = max([named, *sizes]) if sizes or named else None

    def folder(self, name: str) -> int | None:
        """The class that a folder is called after; None where it is called otherwise."""
        found = self._labels.called(name) if self._labels is not None else None
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
                raise InputError(
                    "data.label", f"{where}: the model has no class {found}", f"give 0 to {(self._count or 1) - 1}"
                )
            return found
        if self._labels is None:
            hint = "give --labels, or numbers of classes"
            raise InputError("data.label", f"{where}: {text[:80]!r} is no number, and no class names are known", hint)
        index = self._labels.called(text)
        if index is None:
            near = did_you_mean(text, [name for name in self._labels.names if name])
            raise InputError(
                "data.label", f"{where}: no class is called {text[:80]!r}{near}", "give a class's name or its number"
            )
        return index

    def _exists(self, index: int | None) -> bool:
        return index is not None and (self._count is None or index < self._count)
