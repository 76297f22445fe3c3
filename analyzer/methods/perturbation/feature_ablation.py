"""Feature ablation: the drop of the score when a segment is replaced."""

from __future__ import annotations

import itertools
from typing import Annotated, Any

import numpy as np

from analyzer.errors import UsageError
from analyzer.executor.batched_runs import Rows, Source
from analyzer.explanation import Result
from analyzer.methods.registry import method
from analyzer.perturbation.evaluator import Array, Evaluator
from analyzer.perturbation.features import FeatureSpace
from analyzer.perturbation.replacement import BACKGROUND, FILLING, Fill, cost_of, notes_of


@method(
    "feature-ablation", "perturbation", needs="runtime",
    source="Zeiler, Fergus 2014 for windows; Li, Monroe, Jurafsky 2016, Understanding neural networks through erasure",
)  # fmt: skip
def feature_ablation(
    evaluator: Evaluator,
    *,
    segments: Annotated[
        Any, "count, slic, grid:8, or an integer mask (of tokens, or of their embedding); None: suits the input"
    ] = None,
    fill: Annotated[Fill, f"what replaces a segment: {FILLING}"] = 0.0,
    background: Annotated[int, BACKGROUND] = 100,
    budget: Annotated[int | None, "most model evaluations per sample; fewer segments keep to it"] = None,
) -> Result:
    """Drop of the score when a superpixel, column, word or piece of a series is replaced, one at a time."""
    field = FeatureSpace.of(evaluator, segments)
    replacement = field.replaced(fill, background)
    cost = cost_of(replacement)
    most = None if budget is None else budget // cost
    cuts = [_cut(field, sample, segments, most) for sample in range(len(field.values))]
    counts = [int(ids.max()) + 1 for ids, _ in cuts]
    maps, done = [], 0
    for sample, ((ids, _), count) in enumerate(zip(cuts, counts, strict=True)):
        drops = np.empty(count)
        for segment, score in enumerate(field.kept_scores(sample, ids, _all_but_one(count), replacement[sample])):
            drops[segment] = evaluator.score[sample] - score
            done += 1
            evaluator.advance(done * cost, sum(counts) * cost)
        maps.append(drops[ids])
    notes = [*notes_of(replacement), *dict.fromkeys(note for _, said in cuts for note in said)]
    record = {"segments": counts, "evaluations": sum(counts) * cost}
    return field.result(maps, notes=notes, record=record)


def _cut(field: FeatureSpace, sample: int, how: Any, most: int | None) -> tuple[Array, tuple[str, ...]]:
    """Segments of a sample, no more than the budget allows.

    Raises
    ------
    UsageError
        ``params.invalid`` where a mask, or whatever can't be cut more coarsely, has more.
    """
    ids, notes = field.segments(sample, how)
    asked = int(ids.max()) + 1
    if most is None or asked <= most:
        return ids, notes
    coarser = most > 0 and not field.embedded and not isinstance(how, list | tuple | np.ndarray)
    for count in itertools.takewhile(lambda count: count >= 1, (most * 7**k // 8**k for k in itertools.count())):
        if not coarser:
            break
        ids, notes = field.segments(sample, count)
        if (found := int(ids.max()) + 1) <= most:
            return ids, (*notes, f"{found} segments instead of {asked}: the budget allows for no more")
    raise UsageError("params.invalid", f"a budget for {most} of {asked} segments", "raise it, or give fewer segments")


def _all_but_one(count: int) -> Source:
    """Every segment but the first, every one but the second, …; a batch at a time, for there may be many."""
    each = np.arange(count)
    starts = iter(each)

    def source(size: int) -> Rows:
        gone = np.fromiter(itertools.islice(starts, size), np.int64)
        return {"kept": each != gone[:, None]}

    return source
