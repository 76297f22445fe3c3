"""Feature ablation: the drop of the score when a segment is replaced."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np

from analyzer.methods.context import Context, Result
from analyzer.methods.occlusion import Fill
from analyzer.methods.registry import method
from analyzer.methods.sampling import Field


@method(
    "feature-ablation", "perturbation", needs="runtime",
    source="Zeiler, Fergus 2014 for windows; Li, Monroe, Jurafsky 2016, Understanding neural networks through erasure",
)  # fmt: skip
def feature_ablation(
    context: Context,
    *,
    segments: Annotated[
        Any, "count, slic, grid:8, or an integer mask (of tokens, or of their embedding); None: suits the input"
    ] = None,
    fill: Annotated[Fill, "what replaces a segment: a number, mean, blur or noise"] = 0.0,
) -> Result:
    """Drop of the score when a superpixel, column, word or piece of a series is replaced, one at a time."""
    field = Field.of(context, segments)
    replacement = field.replaced(fill)
    cuts = [field.segments(sample, segments) for sample in range(len(field.values))]
    counts = [int(ids.max()) + 1 for ids, _ in cuts]
    maps, done = [], 0
    for sample, (x, (ids, _), count) in enumerate(zip(field.values, cuts, counts, strict=True)):
        copies = (np.where(ids == segment, replacement[sample], x) for segment in range(count))
        drops = np.empty(count)
        for segment, score in enumerate(field.scores(sample, copies)):
            drops[segment] = context.score[sample] - score
            done += 1
            context.advance(done, sum(counts))
        maps.append(drops[ids])
    notes = list(dict.fromkeys(note for _, said in cuts for note in said))
    record = {"segments": counts, "evaluations": sum(counts)}
    return field.result(maps, notes=notes, record=record)
