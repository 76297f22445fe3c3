"""Samples of a data set as batches that a model takes.

Belongs here: putting samples together, which ones and how many, keeping those that can't be read. Not here: what is run on them,
samples for two models at once (``analyzer.evaluation.paired_inputs``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from analyzer.data.dataset import Dataset, Sample
from analyzer.errors import InputError
from analyzer.onnx_model import OnnxModel

Array = NDArray[Any]
Feed = Mapping[str, Array]
#: What a feed stands for.
Row = TypeVar("Row")
#: Bytes of inputs in one batch, and the most samples: white-box methods hold all values between for each of them.
_BYTES, _MOST = 4 * 2**20, 32


@dataclass(frozen=True)
class Batch:
    """Samples that are run together.

    Attributes
    ----------
    at
        Their positions in the data set.
    samples
        The samples themselves.
    feed
        Input name -> array, batch first; where the model's batch is fixed it is filled up with repetitions of the last sample.
    """

    at: tuple[int, ...]
    samples: tuple[Sample, ...]
    feed: dict[str, Array]

    def __len__(self) -> int:
        return len(self.at)

    @property
    def rows(self) -> slice:
        """The rows that are no repetitions."""
        return slice(0, len(self.at))


def batches(
    model: OnnxModel, dataset: Dataset, failed: dict[int, InputError], at: Sequence[int] | None = None
) -> Iterator[Batch]:
    """The samples in their order, those of one shape together.

    Parameters
    ----------
    failed
        Takes position -> what is wrong with a sample that can't be read; it is in no batch.
    at
        Positions of the samples; None for all.
    """

    def read() -> Iterator[tuple[tuple[int, Sample], Feed]]:
        for position in range(len(dataset)) if at is None else at:
            try:
                sample = dataset.read(position)
            except InputError as problem:
                failed[position] = problem
            else:
                yield (position, sample), sample.feed

    for group in grouped(model, read()):
        positions, samples = zip(*(row for row, _ in group), strict=True)
        yield Batch(positions, samples, stacked(model, [feed for _, feed in group]))


def grouped(model: OnnxModel, rows: Iterable[tuple[Row, Feed]], most: int = _MOST) -> Iterator[list[tuple[Row, Feed]]]:
    """Feeds of one sample each, with what they stand for, as groups that can be run together: in their order, of one shape.

    Parameters
    ----------
    most
        So many in a group at most, as far as the model's batch isn't fixed.
    """
    waiting: list[tuple[Row, Feed]] = []
    for row, feed in rows:
        if waiting and (len(waiting) >= _size(model, feed, most) or not _alike(model, feed, waiting[0][1])):
            yield waiting
            waiting = []
        waiting.append((row, feed))
    if waiting:
        yield waiting


def stacked(model: OnnxModel, feeds: Sequence[Feed]) -> dict[str, Array]:
    """Feeds of one sample each as one; where the model's batch is fixed it is filled up with repetitions of the last."""
    feeds = [*feeds, *[feeds[-1]] * (-len(feeds) % (model.fixed_batch or 1))]
    axes = model.batch_axes(feeds[0], 1)
    return {
        name: value if (axis := axes[name]) is None else np.concatenate([each[name] for each in feeds], axis)
        for name, value in feeds[0].items()
    }


def _size(model: OnnxModel, feed: Feed, most: int) -> int:
    """How many samples are run at once; one where rows that run together depend on each other."""
    if model.couples_rows is not None:
        return model.fixed_batch or 1
    fits = int(np.clip(_BYTES // max(1, sum(value.nbytes for value in feed.values())), 1, most))
    fixed = model.fixed_batch
    return fits if fixed is None else max(fixed, fits // fixed * fixed)


def _alike(model: OnnxModel, one: Feed, other: Feed) -> bool:
    """Whether samples can be run together: their shapes are the same, and so is what all samples share."""
    axes = model.batch_axes(one, 1)
    return all(
        value.shape == other[name].shape and (axes[name] is not None or np.array_equal(value, other[name]))
        for name, value in one.items()
    )
