"""Feature ablation: the drop of the score when a segment is replaced."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Annotated, Any

import numpy as np

from analyzer.errors import UsageError
from analyzer.executor.batched_runs import Rows, Source
from analyzer.explanation import Result
from analyzer.methods.parameters import COUNT
from analyzer.methods.registry import ANY_ROWS, method
from analyzer.perturbation.budget import Progress
from analyzer.perturbation.evaluator import Evaluator
from analyzer.perturbation.features import FeatureSpace, Segmentation, feature_notes
from analyzer.perturbation.fill_parameter import BACKGROUND_HELP, FILL_HELP, Fill
from analyzer.perturbation.text_features import features_of


@method(
    "feature-ablation", "perturbation", needs="runtime", modalities=ANY_ROWS,
    source="Zeiler, Fergus 2014 for windows; Li, Monroe, Jurafsky 2016, Understanding neural networks through erasure",
)  # fmt: skip
def feature_ablation(
    evaluator: Evaluator,
    *,
    segments: Annotated[
        Any,
        "count, slic, grid:8, words or columns (of text), or a mask of integers (of tokens or their embedding); None: what suits",
    ] = None,
    fill: Annotated[Fill, f"what replaces a segment: {FILL_HELP}"] = 0.0,
    background: Annotated[int, BACKGROUND_HELP, COUNT] = 100,
    budget: Annotated[int | None, "most model evaluations per sample; fewer segments keep to it", COUNT] = None,
) -> Result:
    """Drop of the score when a superpixel, column, word or piece of a series is replaced, one at a time."""
    space = features_of(evaluator, segments)
    replacements = space.replacements(fill, background)
    cost = replacements.cost
    most = None if budget is None else budget // cost
    segmentations = [_affordable(space, sample, segments, most) for sample in range(evaluator.batch)]
    counts = [segmentation.count for segmentation in segmentations]
    progress = Progress(sum(counts) * cost, evaluator.advance, cost)
    maps = []
    for sample, segmentation in enumerate(segmentations):
        source = _all_but_one(segmentation.count)
        scores = progress.counted(space.masked_scores(sample, segmentation, source, replacements[sample]))
        maps.append(segmentation.spread(evaluator.score[sample] - np.fromiter(scores, np.float64)))
    record = {"segments": counts, "evaluations": sum(counts) * cost}
    return space.result(maps, feature_notes(replacements, segmentations), record)


def _affordable(space: FeatureSpace, sample: int, how: Any, most: int | None) -> Segmentation:
    """A sample cut into no more segments than the budget allows.

    Raises
    ------
    UsageError
        ``params.invalid`` where a mask, or whatever can't be cut more coarsely, has more.
    """
    full = space.segmentation(sample, how)
    if most is None or full.count <= most:
        return full
    coarser = most > 0 and not space.embedded and not isinstance(how, list | tuple | np.ndarray)
    fewer = (most * 7**k // 8**k for k in itertools.count())
    for wanted in itertools.takewhile(lambda wanted: coarser and wanted >= 1, fewer):
        found = space.segmentation(sample, wanted)
        if found.count <= most:
            note = f"{found.count} segments instead of {full.count}: the budget allows for no more"
            return replace(found, notes=(*found.notes, note))
    message = f"a budget for {most} of {full.count} segments"
    raise UsageError("params.invalid", message, "raise it, or give fewer segments")


def _all_but_one(count: int) -> Source:
    """Every segment but the first, every one but the second, …; a batch at a time, for there may be many."""
    each = np.arange(count)
    starts = iter(each)

    def source(size: int) -> Rows:
        left_out = np.fromiter(itertools.islice(starts, size), np.int64)
        return {"present": each != left_out[:, None]}

    return source
