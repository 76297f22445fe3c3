"""Models that are made of the one that is judged, kept for the length of one evaluation.

Belongs here: making them once for all parts of a batch, within a budget of memory, and letting go of them. Not here: what they
are (``randomised``).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType

from analyzer.model import Model

#: Bytes of the models that are kept; those beyond are made anew for every part.
_MOST_BYTES = 2**30


@dataclass
class OtherModels:
    """Models by what they are; as a context manager it lets go of all of them at the end."""

    kept: dict[Hashable, Model] = field(default_factory=dict)

    @contextmanager
    def one(self, key: Hashable, make: Callable[[], Model]) -> Iterator[Model]:
        """The model of a key, made where there is none."""
        model = self.kept.get(key)
        if model is not None:
            yield model
            return
        model = make()
        if sum(each.size for each in self.kept.values()) + model.size <= _MOST_BYTES:
            self.kept[key] = model
        try:
            yield model
        finally:
            if key not in self.kept:
                model.clear()

    def __enter__(self) -> OtherModels:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, where: TracebackType | None
    ) -> None:
        for model in self.kept.values():
            model.clear()
        self.kept.clear()
