"""Layer-wise relevance propagation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np

from analyzer.errors import UsageError
from analyzer.methods.context import Context, Result
from analyzer.methods.gradient import per_input
from analyzer.methods.registry import method, near

Bound = float | list[float] | tuple[float, ...] | None


@method(
    "lrp", "relevance", complete=True,
    source="Bach et al. 2015, On pixel-wise explanations; composites: Montavon et al. 2019, Layer-wise relevance "
    "propagation: an overview",
)  # fmt: skip
def lrp(
    context: Context,
    *,
    composite: Annotated[str, "which rule each kind of layer gets"] = "epsilon-plus",
    rules: Annotated[
        dict[str, str] | None,
        "overrides: node-name glob, operator, first, last or kind -> rule, as in {'Conv': 'gamma:0.5'}",
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
) -> Result:
    """Relevance of the score handed back layer by layer, shared by contribution."""
    from graph_rules import composites

    if composite not in composites.names():
        raise UsageError(
            "params.invalid",
            f"unknown composite {composite!r}{near(composite, composites.names())}",
            f"composites: {', '.join(composites.names())}",
        )
    lowest, highest = bounds(context, low, high)
    settings = composites.Settings(epsilon, gamma, alpha, beta, lowest, highest, zero_bias)
    try:
        table = composites.composite(composite, settings, rules)
        swept = context.engine.sweep(table, initial)
    except ValueError as problem:
        raise UsageError("params.invalid", f"lrp: {problem}", "see `onnxplain methods lrp`") from None
    expected = context.score if initial == "logit" else _per_sample(context.resolved.weights)
    return per_input(context, swept.relevance, completeness=context.complete(swept.relevance, expected))


def _per_sample(weights: Any) -> Any:
    return weights.reshape(len(weights), -1).sum(axis=1)


def bounds(context: Context, low: Bound, high: Bound) -> tuple[Any, Any]:
    """The bounds of the model's input: as given, else what the preprocessing implies, else None."""
    if low is None and high is None and context.model.preprocess is not None:
        spec = next(iter(context.model.inputs.values()))
        lowest, highest = context.model.preprocess.fit(spec.shape, spec.dtype).low_high()
        return tuple(float(v) for v in lowest), tuple(float(v) for v in highest)
    if (low is None) != (high is None):
        raise UsageError("params.invalid", "the z-box needs both low and high", "give both, or neither")

    def plain(value: Any) -> Any:
        if value is None or np.ndim(value) == 0:
            return None if value is None else float(value)
        return tuple(float(v) for v in np.ravel(value))

    return plain(low), plain(high)
