"""Where a search starts from a data set: the mean of its inputs, the samples that score best already.

Belongs here: one pass over the data. Not here: samples with crops and relevance (``top_inputs``), the search (``maximize``).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from analyzer.data.batches import batches
from analyzer.data.dataset import Dataset
from analyzer.errors import InconclusiveError, InputError, UsageError
from analyzer.onnx_model import OnnxModel
from analyzer.visualization.domain import Array, Domain
from analyzer.visualization.objectives import Objective


@dataclass(frozen=True, eq=False)
class Survey:
    """What a data set holds.

    Attributes
    ----------
    mean
        Of all inputs, in the model's layout, without the axis of samples; float64.
    best
        (samples, …): the inputs with the largest scores, the largest first.
    names, scores
        What those are called, and their scores.
    count
        How many samples were read.
    """

    mean: Array
    best: Array
    names: tuple[str, ...]
    scores: tuple[float, ...]
    count: int


def survey(model: OnnxModel, dataset: Dataset, domain: Domain, objective: Objective, k: int) -> Survey:
    """The mean of a data set's inputs and the ``k`` that score best.

    Raises
    ------
    UsageError
        ``maximize.shape`` where a sample has another shape than what is looked for.
    InconclusiveError
        ``data.nothing_usable`` where no sample can be read and has a finite score.
    """
    failed: dict[int, InputError] = {}
    total, count = np.zeros(domain.shape), 0
    heap: list[tuple[float, int, Array]] = []
    for batch in batches(model, dataset, failed):
        feed = model.feed(batch.feed)
        rows = feed[domain.name][batch.rows]
        if rows.shape[1:] != domain.shape:
            message = f"sample {batch.samples[0].id} has shape {list(rows.shape[1:])}, not {list(domain.shape)}"
            raise UsageError("maximize.shape", message, "give a start of the samples' shape")
        scores = objective.of(np.asarray(model.values(feed, [objective.value])[objective.value]))[0][batch.rows]
        total, count = total + rows.astype(np.float64).sum(0), count + len(rows)
        for at, score, row in zip(batch.at, scores.tolist(), rows, strict=True):
            if np.isfinite(score):
                entry = (score, -at, np.array(row))
                heapq.heappush(heap, entry) if len(heap) < k else heapq.heappushpop(heap, entry)
    if not heap:
        why = str(next(iter(failed.values()), "no score is finite"))
        raise InconclusiveError(
            "data.nothing_usable", f"none of {len(dataset)} samples can be used: {why}", "see the data"
        )
    found = sorted(heap, key=lambda entry: entry[:2], reverse=True)
    names = tuple(dataset.ids[-behind] for _, behind, _ in found)
    return Survey(total / count, np.stack([row for *_, row in found]), names, tuple(s for s, *_ in found), count)
