"""DeepLIFT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from analyzer.engines.protocol import TableSpec
from analyzer.errors import UnsupportedError
from analyzer.explanation import Completeness
from analyzer.methods.baselines import BASELINE_HELP, references
from analyzer.methods.context import Array, Context, Result
from analyzer.methods.gradient.gradients import per_input
from analyzer.methods.parameters import COUNT
from analyzer.methods.registry import method
from analyzer.perturbation.fill_parameter import BACKGROUND_HELP

#: A sum that misses by so many times the scores is no explanation.
_BEYOND = 10.0
#: Operators that ``pooling`` is about.
_MAXIMA = ("MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin")

if TYPE_CHECKING:
    from graph_rules.tables import RuleTable


def _table(variant: str, pooling: str) -> TableSpec:
    def build() -> RuleTable:
        from graph_rules.deeplift import TABLES

        return TABLES[variant, pooling]

    return TableSpec.of("deeplift", {"variant": variant, "pooling": pooling}, build)


@method(
    "deeplift", "relevance", compilable=True, complete=True, tolerance=1e-3,
    fits=lambda static: static.require_rules(_table("rescale", "auto")),
    source="Shrikumar, Greenside, Kundaje 2017, Learning important features through propagating activation "
    "differences; products, quotients and softmax split exactly",
)  # fmt: skip
def deeplift(
    context: Context,
    *,
    variant: Annotated[
        Literal["rescale", "reveal-cancel"], "nonlinearities take differences as a whole, or each sign by itself"
    ] = "rescale",
    baseline: Annotated[Any, f"the reference: {BASELINE_HELP}"] = 0.0,
    background: Annotated[int, BACKGROUND_HELP, COUNT] = 100,
    pooling: Annotated[
        Literal["auto", "exact", "gradient"],
        "maxima hand differences on completely, or by the gradient as in the authors' package; auto: the gradient "
        "where windows don't overlap",
    ] = "auto",
    multiply_by_inputs: Annotated[bool, "multiply by input minus baseline; off gives the multipliers"] = True,
) -> Result:
    """Difference of the score from a baseline's, handed back node by node through differences of their values."""
    xp = context.xp
    table = _table(variant, pooling)
    ends = context.engine.values()
    starts = references(context, baseline, ends, background)
    shares: dict[str, list[Array]] = {name: [] for name in ends}
    at_starts: list[Array] = []
    choosing: dict[str, None] = {}
    for at, start in enumerate(starts.each):
        swept, at_start, selecting = context.engine.difference(table, start)
        for name, multipliers in swept.relevance.items():
            share = xp.astype(multipliers, xp.float64)
            wide = xp.astype(ends[name], xp.float64)
            shares[name].append(share * (wide - start[name]) if multiply_by_inputs else share)
        at_starts.append(at_start)
        choosing |= dict.fromkeys(selecting)
        context.advance(at + 1, len(starts.each))
    mean = {name: starts.mean(each) for name, each in shares.items()}
    at_start = starts.mean(at_starts)
    record = {"score_at_baseline": context.numbers(at_start).tolist(), **starts.record}
    values = {k: xp.astype(v, ends[k].dtype) for k, v in mean.items()}
    if not multiply_by_inputs:
        return per_input(context, values, notes=starts.notes, record=record)
    score = context.numbers(swept.score)
    completeness = context.complete(mean, score - context.numbers(at_start))
    _require_sensible(completeness, score)
    why = _shortfall(context, list(choosing), pooling)
    return per_input(context, values, completeness=completeness, notes=starts.notes, record=record, shortfall=why)


def _shortfall(context: Context, selecting: list[str], pooling: str) -> str:
    """Why the sum may be missed, and what helps."""
    if selecting:
        nodes = ", ".join(selecting[:3])
        return f"{nodes} choose other elements at the baseline, and that part of the difference isn't attributed"
    if pooling != "exact" and _pools(context):
        return "pooling=exact makes the sum meet the difference of the scores"
    return (
        "where the baseline is next to a point without a value, differences are rounding; another baseline or "
        "precision=float64 helps"
    )


def _pools(context: Context) -> bool:
    """Whether the explained value is computed from maxima over windows or axes."""
    needed = {context.target.value}
    for node in reversed(context.model.proto.graph.node):
        if needed.intersection(node.output):
            if node.op_type in _MAXIMA:
                return True
            needed.update(node.input)
    return False


def _require_sensible(completeness: Completeness, score: Array) -> None:
    """Refuse sums that are beyond all bounds: differences were divided by next to nothing.

    Raises
    ------
    UnsupportedError
        ``baseline.degenerate``.
    """
    size = np.maximum(np.abs(completeness.expected), np.abs(score))
    beyond = np.abs(completeness.delta) > _BEYOND * np.maximum(size, np.finfo(np.float32).tiny)
    if beyond.any():
        sample = int(np.flatnonzero(beyond)[0])
        raise UnsupportedError(
            "baseline.degenerate",
            f"the map of sample {sample} sums to {completeness.total[sample]:.3g} where the scores differ by "
            f"{completeness.expected[sample]:.3g}: at the baseline a normalisation divides by next to nothing",
            "choose a baseline that the model knows, such as an average input or a padding token's id",
        )
