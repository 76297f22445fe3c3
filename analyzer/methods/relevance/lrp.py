"""Layer-wise relevance propagation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from analyzer.engines.protocol import TableSpec
from analyzer.errors import UsageError
from analyzer.methods.context import Context, Result
from analyzer.methods.gradient.gradients import per_input
from analyzer.methods.registry import method
from analyzer.methods.relevance.rule_files import expanded
from analyzer.nearest import did_you_mean
from analyzer.onnx_model import OnnxModel

if TYPE_CHECKING:
    from graph_rules.tables import RuleTable

Bound = float | list[float] | tuple[float, ...] | None


@method(
    "lrp", "relevance", compilable=True, headline=("composite",), complete=True, inner=True,
    source="Bach et al. 2015, On pixel-wise explanations; composites: Montavon et al. 2019, Layer-wise relevance "
    "propagation: an overview",
    expand=expanded,
)  # fmt: skip
def lrp(
    context: Context,
    *,
    composite: Annotated[str, "which rule each kind of layer gets"] = "epsilon-plus",
    rules: Annotated[
        dict[str, str] | str | None,
        "overrides: node name or glob, operator, first, last or kind, each also with @depth>0.5 -> rule, as in "
        "{'Conv': 'gamma:0.5'}; or a TOML file of them",
    ] = None,
    epsilon: Annotated[float, "stabiliser of the epsilon rule, at least 0"] = 1e-6,
    gamma: Annotated[float, "extra weight of positive parts in the gamma rule, at least 0"] = 0.25,
    alpha: Annotated[float, "weight of positive contributions; alpha - beta = 1"] = 2.0,
    beta: Annotated[float, "weight of negative contributions"] = 1.0,
    low: Annotated[
        Bound, "lowest input value, a number or one per channel (z-box); None: from the preprocessing"
    ] = None,
    high: Annotated[Bound, "highest input value (z-box)"] = None,
    initial: Annotated[Literal["logit", "one"], "relevance put on the target: its score, or 1"] = "logit",
    zero_bias: Annotated[bool, "biases take no share of the relevance"] = False,
    mixing: Annotated[bool, "the gamma rule as w+ + gamma w-, gamma from 0 to 1, in place of w + gamma w+"] = False,
) -> Result:
    """Relevance of the score handed back layer by layer, shared by contribution."""
    assert not isinstance(rules, str)  # ``expanded`` has read it
    table = table_of(context.model, composite, rules, epsilon, gamma, alpha, beta, low, high, zero_bias, mixing)
    try:
        swept = context.engine.sweep(table, initial)
    except ValueError as problem:
        raise UsageError("params.invalid", f"lrp: {problem}", "see `onnxplain methods lrp`") from None
    expected = context.score if initial == "logit" else _per_sample(context.target.weights)
    complete = context.complete(swept.relevance, expected)
    record = {"overrides": dict(rules)} if rules else {}
    return per_input(context, swept.relevance, completeness=complete, record=record)


def table_of(
    model: OnnxModel, composite: str, rules: Mapping[str, str] | None, epsilon: float, gamma: float, alpha: float,
    beta: float, low: Bound, high: Bound, zero_bias: bool, mixing: bool,
) -> TableSpec:  # fmt: skip
    """The rule table of the parameters of ``lrp``. Building it raises UsageError or ValueError where they don't fit."""
    lowest, highest = bounds(model, low, high)
    settings = {
        "epsilon": epsilon, "gamma": gamma, "alpha": alpha, "beta": beta, "low": lowest, "high": highest,
        "zero_bias": zero_bias, "mixing": mixing,
    }  # fmt: skip

    def build() -> RuleTable:
        from graph_rules import composites

        if composite not in composites.names():
            raise UsageError(
                "params.invalid",
                f"unknown composite {composite!r}{did_you_mean(composite, composites.names())}",
                f"composites: {', '.join(composites.names())}",
            )
        return composites.composite(composite, composites.Settings(**settings), rules)

    said = {"composite": composite, "rules": list((rules or {}).items()), "settings": settings}
    return TableSpec.of("lrp", said, build)


def _per_sample(weights: Any) -> Any:
    return weights.reshape(len(weights), -1).sum(axis=1)


def bounds(model: OnnxModel, low: Bound, high: Bound) -> tuple[Any, Any]:
    """The bounds of the model's input: as given, else what the preprocessing implies, else None."""
    if low is None and high is None and model.preprocess is not None:
        spec = next(iter(model.inputs.values()))
        lowest, highest = model.preprocess.fit(spec.shape, spec.dtype).low_high()
        return tuple(float(v) for v in lowest), tuple(float(v) for v in highest)
    if (low is None) != (high is None):
        raise UsageError("params.invalid", "the z-box needs both low and high", "give both, or neither")

    def plain(value: Any) -> Any:
        if value is None or np.ndim(value) == 0:
            return None if value is None else float(value)
        return tuple(float(v) for v in np.ravel(value))

    return plain(low), plain(high)
