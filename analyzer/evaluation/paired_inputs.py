"""Inputs for two models at once: matched by name or place, stacked into batches that both take.

Belongs here: from samples to pairs of feeds. Not here: reading files (``analyzer.data``), explaining (``comparison``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analyzer.data.dataset import Dataset, Sample
from analyzer.errors import InputError, UsageError
from analyzer.evaluation.measure import Array
from analyzer.inputs.shapes import numpy_dtype
from analyzer.model import Model

#: Samples that are explained at once, at most.
_AT_ONCE = 16


@dataclass(frozen=True)
class Batch:
    """Samples in one feed; where a model's batch is fixed, the last of them again until it is full.

    Attributes
    ----------
    ids, labels, sources
        One for each sample; those that only fill the batch have none.
    whole
        Whether it is one feed as it was given, whose rows can't be explained apart.
    """

    feed: dict[str, Array]
    ids: tuple[str, ...]
    labels: tuple[Any, ...]
    sources: tuple[Any, ...]
    whole: bool = False

    def named(self, count: int) -> Batch:
        """The batch with an id for each of the ``count`` samples that were found in a feed that isn't cut to rows."""
        if not self.whole or len(self.ids) == count:
            return self
        ids = self.ids if count == 1 else tuple(f"{self.ids[0]} [{at}]" for at in range(count))
        return replace(self, ids=ids, labels=self.labels[:1] * count, sources=(*self.sources, *[None] * (count - 1)))

    def rows(self) -> list[Batch]:
        """Each sample in a batch of its own; none where the batch isn't made of rows."""
        if self.whole or any(len(value) != len(self.ids) for value in self.feed.values() if value.ndim):
            return []
        feeds = [
            {name: value[at : at + 1] if value.ndim else value for name, value in self.feed.items()}
            for at in range(len(self.ids))
        ]
        return [
            Batch(feed, self.ids[at : at + 1], self.labels[at : at + 1], self.sources[at : at + 1])
            for at, feed in enumerate(feeds)
        ]


@dataclass(frozen=True)
class InputMatch:
    """Which input of the second model stands for which of the first.

    Attributes
    ----------
    names
        Input of the first model -> of the second.
    notes
        What the user should know.
    """

    second: Model
    names: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, first: Model, second: Model) -> InputMatch:
        """Match by name, or else by place.

        Raises
        ------
        UsageError
            ``compare.inputs`` where the models don't take the same.
        """
        mine, theirs = list(first.inputs), list(second.inputs)
        by_name = set(mine) == set(theirs)
        names = {name: name for name in mine} if by_name else dict(zip(mine, theirs, strict=False))
        wrong = next((n for n, other in names.items() if not _fits(first, n, second, other)), None)
        if len(mine) != len(theirs) or wrong is not None:
            spec = "" if wrong is None else f": {wrong!r} is {first.inputs[wrong]} and {second.inputs[names[wrong]]}"
            counts = f": {len(mine)} and {len(theirs)} inputs" if len(mine) != len(theirs) else spec
            raise UsageError(
                "compare.inputs", f"the models don't take the same input{counts}", "compare models of one task"
            )
        renamed = [f"{a!r} with {b!r}" for a, b in names.items() if a != b]
        note = f"inputs have other names and are matched by their place: {', '.join(renamed)}"
        return cls(second, names, (note,) if renamed else ())

    def feed(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """A feed of the first model as the second names and types it."""
        found = {}
        for name, value in feed.items():
            other = self.names.get(name, name)
            spec = self.second.inputs.get(other)
            numeric = spec is not None and value.dtype.kind in "fiu" and spec.dtype != value.dtype.name
            found[other] = value.astype(numpy_dtype(spec.dtype)) if numeric and spec is not None else value
        return found


def _fits(first: Model, name: str, second: Model, other: str) -> bool:
    a, b = first.inputs[name], second.inputs[other]
    kinds = {numpy_dtype(spec.dtype).kind for spec in (a, b)}
    same_kind = len(kinds) == 1 or kinds <= {"i", "u"}
    if not same_kind or not (a.ranked and b.ranked):
        return same_kind
    sides = list(zip(a.shape, b.shape, strict=False))[1:]  # the batch may differ
    known = [(one, two) for one, two in sides if isinstance(one, int) and isinstance(two, int)]
    return len(a.shape) == len(b.shape) and all(one == two for one, two in known)


def samples_of(data: Any, model: Model, failed: dict[str, InputError] | None = None) -> Iterator[Sample]:
    """Samples, from what a user gives.

    Parameters
    ----------
    data
        An array or a mapping of arrays, batch first: every row is a sample. Or an iterable of such feeds and of samples: objects
        with a ``feed`` and, where they have them, an ``id`` and a ``label``. Or a data set.
    failed
        Takes id -> what is wrong with a sample of a data set that can't be read; None raises it.
    """
    if isinstance(data, Dataset):
        yield from _read(data, {} if failed is None else failed, failed is None)
        return
    if isinstance(data, np.ndarray | Mapping):
        data = [data]
    for at, each in enumerate(data):
        feed = model.feed(getattr(each, "feed", each))
        given = getattr(each, "id", None)
        name = str(at if given is None else given)
        yield Sample(name, feed, getattr(each, "label", None), None, {}, getattr(each, "source", None))


def _read(data: Dataset, failed: dict[str, InputError], strict: bool) -> Iterator[Sample]:
    for at, name in enumerate(data.ids):
        try:
            yield data.read(at)
        except InputError as problem:
            if strict:
                raise
            failed[name] = problem


def batches(samples: Iterable[Sample], models: Sequence[Model], match: InputMatch) -> Iterator[Batch]:
    """Samples stacked into feeds that both models take, in their order; no more than one batch is held."""
    step = math.lcm(*(model.fixed_batch or 1 for model in models))
    most = step * max(1, _AT_ONCE // step)
    held: list[Batch] = []
    can_stack: bool | None = None
    for row in _rows(samples, models[0]):
        if can_stack is None:
            can_stack = _stackable(models, match, row.feed)
        alone = row.whole or not can_stack
        if held and (alone or held[0].whole or len(held) == most or not _alike(held[0].feed, row.feed)):
            yield _joined(held, step)
            held = []
        held.append(row)
    if held:
        yield _joined(held, step)


def _rows(samples: Iterable[Sample], model: Model) -> Iterator[Batch]:
    """The samples of feeds one by one, where rows are samples; else the feeds as they are."""
    for each in samples:
        feed = dict(each.feed)
        count = model.batch_of(feed)
        apart = all(axis == 0 for axis in model.batch_axes(feed, count).values())
        if not count:
            continue
        coupled = count > 1 and model.fixed_batch is None and model.coupling(feed, count).kind != "none"
        if count == 1 or not apart or coupled:
            yield Batch(feed, (each.id,), (each.label,), (each.source,), whole=count > 1 or not apart)
            continue
        for at in range(count):
            row = {name: value[at : at + 1] for name, value in feed.items()}
            yield Batch(row, (f"{each.id} [{at}]",), (each.label,), (each.source if at == 0 else None,))


def _stackable(models: Sequence[Model], match: InputMatch, row: dict[str, Array]) -> bool:
    """Whether rows may be explained together in both models."""
    if any(model.fixed_batch for model in models):
        return True
    twice = {name: np.concatenate([value] * 2) if value.ndim else value for name, value in row.items()}
    feeds = (twice, match.feed(twice))
    return all(model.stackable(feed, feed, 2) for model, feed in zip(models, feeds, strict=True))


def _alike(a: Mapping[str, Array], b: Mapping[str, Array]) -> bool:
    return all(a[name].shape == value.shape and a[name].dtype == value.dtype for name, value in b.items())


def _joined(held: Sequence[Batch], step: int) -> Batch:
    if len(held) == 1 and held[0].whole:
        return held[0]
    filled = [*held, *[held[-1]] * (-len(held) % step)]
    feed = held[0].feed
    if len(filled) > 1:
        feed = {name: np.concatenate([each.feed[name] for each in filled]) for name in feed}
    return Batch(
        feed, tuple(i for each in held for i in each.ids), tuple(i for each in held for i in each.labels),
        tuple(i for each in held for i in each.sources),
    )  # fmt: skip
