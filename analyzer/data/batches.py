"""Samples of a data set as batches that a model takes.

Belongs here: putting samples together, counting those that can't be read. Not here: what is run on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.data.dataset import Dataset, Sample
from analyzer.errors import InputError
from analyzer.onnx_model import OnnxModel

Array = NDArray[Any]
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
    waiting: list[tuple[int, Sample]] = []
    for position in range(len(dataset)) if at is None else at:
        try:
            sample = dataset.read(position)
        except InputError as problem:
            failed[position] = problem
            continue
        if waiting and (
            len(waiting) >= _size(model, sample.feed) or not _alike(model, sample.feed, waiting[0][1].feed)
        ):
            yield _batch(model, waiting)
            waiting = []
        waiting.append((position, sample))
    if waiting:
        yield _batch(model, waiting)


def _size(model: OnnxModel, feed: Mapping[str, Array]) -> int:
    """How many samples are run at once; one where rows that run together depend on each other."""
    if model.couples_rows is not None:
        return model.fixed_batch or 1
    most = int(np.clip(_BYTES // max(1, sum(value.nbytes for value in feed.values())), 1, _MOST))
    fixed = model.fixed_batch
    return most if fixed is None else max(fixed, most // fixed * fixed)


def _batch(model: OnnxModel, rows: Sequence[tuple[int, Sample]]) -> Batch:
    missing = -len(rows) % (model.fixed_batch or 1)
    feeds = [sample.feed for _, sample in rows]
    feeds += feeds[-1:] * missing
    axes = model.batch_axes(feeds[0], 1)
    feed = {
        name: value if (axis := axes[name]) is None else np.concatenate([each[name] for each in feeds], axis)
        for name, value in feeds[0].items()
    }
    return Batch(tuple(at for at, _ in rows), tuple(sample for _, sample in rows), feed)


def _alike(model: OnnxModel, one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    """Whether samples can be run together: their shapes are the same, and so is what all samples share."""
    axes = model.batch_axes(one, 1)
    return all(
        value.shape == other[name].shape and (axes[name] is not None or np.array_equal(value, other[name]))
        for name, value in one.items()
    )
