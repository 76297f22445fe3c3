"""DeepLIFT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from analyzer.engines.protocol import TableSpec
from analyzer.methods.context import Context, Result
from analyzer.methods.gradient.gradients import per_input
from analyzer.methods.gradient.integrated_gradients import baseline_of
from analyzer.methods.registry import method

if TYPE_CHECKING:
    from graph_rules.tables import RuleTable


@method(
    "deeplift", "relevance", compilable=True, complete=True,
    source="Shrikumar, Greenside, Kundaje 2017, Learning important features through propagating activation "
    "differences; products, quotients and softmax split exactly",
)  # fmt: skip
def deeplift(
    context: Context,
    *,
    variant: Annotated[
        Literal["rescale", "reveal-cancel"], "nonlinearities take differences as a whole, or each sign by itself"
    ] = "rescale",
    baseline: Annotated[
        Any, "the reference: a number or an array broadcastable to the input; for tokens also id:N or ids"
    ] = 0.0,
    pooling: Annotated[
        Literal["auto", "exact", "gradient"],
        "maxima hand differences on completely, or by the gradient as in the authors' package; auto: the gradient "
        "where windows don't overlap",
    ] = "auto",
    multiply_by_inputs: Annotated[bool, "multiply by input minus baseline; off gives the multipliers"] = True,
) -> Result:
    """Difference of the score from a baseline's, handed back node by node through differences of their values."""

    def build() -> RuleTable:
        from graph_rules.deeplift import TABLES

        return TABLES[variant, pooling]

    xp = context.xp
    table = TableSpec.of("deeplift", {"variant": variant, "pooling": pooling}, build)
    ends = context.engine.values()
    starts = {name: baseline_of(context, baseline, name, end) for name, end in ends.items()}
    swept, at_start, selecting = context.engine.difference(table, starts)
    record = {"score_at_baseline": context.numbers(at_start).tolist()}
    if not multiply_by_inputs:
        return per_input(context, swept.relevance, record=record)
    wide = {k: xp.astype(v, xp.float64) for k, v in ends.items()}
    shares = {k: xp.astype(m, xp.float64) * (wide[k] - starts[k]) for k, m in swept.relevance.items()}
    score = context.numbers(swept.score)
    completeness = context.complete(shares, score - context.numbers(at_start))
    notes = []
    off = np.abs(completeness.delta) > 1e-3 * np.maximum(np.abs(completeness.expected), 1e-3 * np.abs(score))
    if selecting and off.any():
        notes.append(
            f"{', '.join(selecting[:3])} choose other elements at the baseline: that part of the difference isn't attributed"
        )
    elif pooling != "exact" and off.any():
        notes.append("pooling=exact makes the sum of the map meet the difference of the scores")
    values = {k: xp.astype(v, ends[k].dtype) for k, v in shares.items()}
    return per_input(context, values, completeness=completeness, notes=notes, record=record)
