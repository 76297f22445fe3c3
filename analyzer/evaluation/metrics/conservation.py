"""Conservation: whether the map's sum is what its method promises to hand out."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np

from analyzer.errors import AnalyzerError
from analyzer.evaluation.context import MetricContext
from analyzer.evaluation.measure import Measure
from analyzer.evaluation.registry import metric


@metric(
    "conservation", "axiomatic", needs="map", higher_is_better=False,
    range="from 0: error of the sum as a share of what it should be", cost="none; leaks: one more sweep",
    blind_spot="Where the relevance lies: to hand out the score evenly conserves it. Only of methods that promise a sum.",
    source="Bach et al. 2015, eq. 1; Montavon, Samek, Müller 2018, sec. 5.1", quick={},
)  # fmt: skip
def conservation(
    context: MetricContext,
    *,
    leaks: Annotated[bool, "name the node that keeps most relevance, where the method is one reverse sweep"] = True,
) -> Measure:
    """Relative error of the map's sum, beside the score or the difference of scores that the method promises."""
    complete = context.explanation.completeness
    expected = None if complete is None or len(complete.expected) != context.batch else np.asarray(complete.expected)

    def error(sample: int) -> float | str:
        if expected is None:
            return f"{context.explanation.method} promises no sum"
        return relative_error(context.flat(sample).sum(), float(expected[sample]))

    sums = [context.flat(sample) for sample in range(context.batch)]
    scores = np.abs(np.asarray(context.explanation.score, np.float64))
    record: dict[str, Any] = {
        "total": [float(values.sum()) for values in sums],
        "expected": [None] * context.batch if expected is None else [float(value) for value in expected],
        "absolute_over_score": [
            float(np.abs(values).sum() / score) if score > 0 else None
            for values, score in zip(sums, scores, strict=True)
        ],
    }
    if leaks and expected is not None and context.start == 0:
        record["keeps_most"] = _keeps_most(context, float(np.abs(complete.expected).sum()) if complete else 0.0)
    return Measure.of(context.judged(error), record=record)


def relative_error(total: float, expected: float) -> float | str:
    """|total - expected| as a share of |expected|; 0 where both are zero."""
    if not np.isfinite(expected):
        return "the score isn't finite"
    if expected == 0:
        return 0.0 if total == 0 else "the sum should be zero, of which no error is a share"
    return float(abs(total - expected) / abs(expected))


def _keeps_most(context: MetricContext, handed_out: float) -> dict[str, Any] | None:
    """The node that hands on least of what arrives, over the whole batch that was explained; None where that isn't known."""
    try:
        nodes = context.explanation.nodes
    except AnalyzerError:  # no single sweep, or an explanation from a file
        return None
    context.counts.explanations += len(context.explanation.target)
    known = {name: totals for name, totals in nodes.items() if np.isfinite(totals.leak)}
    if not known:
        return None
    name = max(known, key=lambda each: abs(known[each].leak))
    leak = known[name].leak
    return {"node": name, "leak": float(leak), "share": float(abs(leak) / handed_out) if handed_out else None}
