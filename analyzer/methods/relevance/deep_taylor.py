"""Deep Taylor decomposition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from analyzer.engines.protocol import TableSpec
from analyzer.errors import UsageError
from analyzer.methods.context import Context, Result
from analyzer.methods.gradient.gradients import per_input
from analyzer.methods.registry import method
from analyzer.methods.relevance.lrp import bounds, require_both
from graph_rules.composite_params import BoundLike, CompositeParams
from graph_rules.errors import RuleError

if TYPE_CHECKING:
    from graph_rules.tables import RuleTable


def _table(low: Any, high: Any, zero_bias: bool) -> TableSpec:
    def build() -> RuleTable:
        from graph_rules import composites

        return composites.deep_taylor(CompositeParams(low=low, high=high, zero_bias=zero_bias))

    return TableSpec.of("deep-taylor", {"low": low, "high": high, "zero_bias": zero_bias}, build)


@method(
    "deep-taylor", "relevance", compilable=True, inner=True, check_together=require_both,
    fits=lambda static: static.require_rules(_table(*bounds(static.evaluator.model, None, None), zero_bias=False)),
    source="Montavon et al. 2017, Explaining nonlinear classification decisions with deep Taylor decomposition, table 1",
)  # fmt: skip
def deep_taylor(
    context: Context,
    *,
    low: Annotated[
        BoundLike, "lowest input value, a number or one per channel; None: from the preprocessing, else unbounded"
    ] = None,
    high: Annotated[BoundLike, "highest input value"] = None,
    initial: Annotated[Literal["logit", "one"], "relevance put on the target: its score, or 1"] = "logit",
    zero_bias: Annotated[bool, "biases take no share of the relevance"] = False,
) -> Result:
    """Relevance handed back by a first-order Taylor expansion of every unit at a root point of its own.

    Which root point is searched where, as rules of layer-wise relevance propagation:

    - first convolutions and linear layers: the z-box rule where the input is bounded (``low`` and ``high``, given or
      implied by the preprocessing), else the w2 rule;
    - all other convolutions and linear layers: the z+ rule, with positive biases in the denominator unless
      ``zero_bias``;
    - sums, means and average pooling: share by contribution; max pooling: to the maximum;
    - ReLUs and other elementwise activations: relevance passes unchanged.

    In ReLU networks without biases the relevance of a positive score is conserved. It isn't where all contributions to a
    unit are negative: relevance that arrives there (a negative score, for example) is lost.
    """
    lowest, highest = bounds(context.model, low, high)
    try:
        swept = context.engine.sweep(_table(lowest, highest, zero_bias), initial)
    except RuleError as problem:
        raise UsageError("params.invalid", f"deep-taylor: {problem}", "see `onnxplain methods deep-taylor`") from None
    notes = []
    if initial == "logit" and bool((context.score < 0).any()):
        notes.append("the explained score is negative: deep Taylor decomposition is meant for positive ones")
    return per_input(context, swept.relevance, notes=notes, record={"first_layer": "w2" if lowest is None else "z-box"})
