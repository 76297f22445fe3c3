"""Layer-wise relevance propagation."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import numpy as np

from analyzer.engines.protocol import Absorbed, TableSpec
from analyzer.errors import UsageError
from analyzer.methods.context import Array, Context, Result
from analyzer.methods.gradient.gradients import per_input
from analyzer.methods.registry import method
from analyzer.methods.relevance.rule_files import expanded
from analyzer.nearest import did_you_mean
from analyzer.onnx_model import OnnxModel
from graph_rules.composite_params import BoundLike, CompositeName, CompositeParams
from graph_rules.errors import RuleError

if TYPE_CHECKING:
    import torch.fx as fx

    from analyzer.engines.traced_score import TracedScore
    from graph_rules.tables import Assignment, RuleTable

#: What kept less than this share of the largest loss isn't worth a word.
_MINOR = 0.1
#: Stabilisers up to this size aren't worth making smaller.
_SMALL = 1e-5


def _takes_fields(params: type) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put a dataclass's annotated fields into a function's signature, instead of its ``**params``."""
    hints = typing.get_type_hints(params, include_extras=True)
    annotated = [f for f in dataclasses.fields(params) if typing.get_origin(hints[f.name]) is Annotated]

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        taken = [inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default) for f in annotated]
        function.__signature__ = signature.replace(parameters=[*own, *taken])  # type: ignore[attr-defined]
        function.__annotations__ |= {f.name: hints[f.name] for f in annotated}
        return function

    return wrap


def _require_composite(params: Mapping[str, Any]) -> None:
    """Refuse unknown composites, and bounds of which one is missing, before anything is loaded."""
    name, known = params["composite"], typing.get_args(CompositeName)
    if name not in known:
        raise UsageError(
            "params.invalid",
            f"unknown composite {name!r}{did_you_mean(name, known)}",
            f"composites: {', '.join(known)}",
        )
    require_both(params)


def require_both(params: Mapping[str, Any]) -> None:
    """Refuse one bound without the other.

    Raises
    ------
    UsageError
        ``params.invalid``.
    """
    if (params["low"] is None) != (params["high"] is None):
        raise UsageError("params.invalid", "the z-box needs both low and high", "give both, or neither")


@method(
    "lrp", "relevance", compilable=True, headline=("composite",), complete=True, inner=True,
    source="Bach et al. 2015, On pixel-wise explanations; composites: Montavon et al. 2019, Layer-wise relevance "
    "propagation: an overview",
    expand=expanded, check_together=_require_composite,
    fits=lambda static: static.require_rules(table_of(static.evaluator.model, "epsilon-plus", None)),
)  # fmt: skip
@_takes_fields(CompositeParams)
def lrp(
    context: Context,
    *,
    composite: Annotated[str, "which rule each kind of layer gets"] = "epsilon-plus",
    rules: Annotated[
        dict[str, str] | str | None,
        "overrides: node name or glob, operator, first, last or kind, each also with @depth>0.5 -> rule, as in "
        "{'Conv': 'gamma:0.5'}; or a TOML file of them",
    ] = None,
    initial: Annotated[Literal["logit", "one"], "relevance put on the target: its score, or 1"] = "logit",
    **params: Any,
) -> Result:
    """Relevance of the score handed back layer by layer, shared by contribution.

    ``params`` are the fields of :class:`graph_rules.composite_params.CompositeParams`.
    """
    assert not isinstance(rules, str)  # ``expanded`` has read it
    table = table_of(context.model, composite, rules, **params)
    try:
        swept = context.engine.sweep(table, initial)
    except RuleError as problem:
        raise UsageError("params.invalid", f"lrp: {problem}", "see `onnxplain methods lrp`") from None
    expected = context.score if initial == "logit" else _per_sample(context.target.weights)
    complete = context.complete(swept.relevance, expected)
    record = {"overrides": dict(rules)} if rules else {}
    why = _shortfall(swept.absorbed, complete.expected, float(params["epsilon"]))
    return per_input(context, swept.relevance, completeness=complete, record=record, shortfall=why)


def _shortfall(absorbed: Absorbed | None, expected: Array, epsilon: float) -> str:
    """Where relevance was kept, largest share first, and what hands it on; ``expected`` is what should arrive by sample."""
    if absorbed is None:
        return ""
    operator = max(absorbed.operator, key=lambda node: abs(absorbed.operator[node]), default="")
    stabilisers = "a smaller epsilon" if epsilon > _SMALL else "another composite"
    kept = (
        (sum(absorbed.bias.values()), "went into biases", "zero_bias=true"),
        (sum(absorbed.stabiliser.values()), "went into stabilisers and units with nothing to share", stabilisers),
        (sum(absorbed.operator.values()), f"stayed at {operator!r}", f"another rule than that of {operator!r}"),
    )
    largest = max(abs(amount) for amount, _, _ in kept)
    named = sorted((each for each in kept if abs(each[0]) > _MINOR * largest), key=lambda each: -abs(each[0]))
    if not named:
        return ""
    total = float(expected.sum())
    figures = ", ".join(f"{_figure(amount, total)} {where}" for amount, where, _ in named)
    return f"{figures if len(expected) == 1 else f'of {total:.3g} in all samples {figures}'}; try {named[0][2]}"


def _figure(amount: float, expected: float) -> str:
    share = amount / expected if expected else np.inf
    return f"{share:.0%}" if 0 <= share <= 1 else f"{amount:.3g}"


def table_of(model: OnnxModel, composite: str, rules: Mapping[str, str] | None, **params: Any) -> TableSpec:
    """The rule table of the parameters of ``lrp``. Building it raises UsageError or RuleError where they don't fit."""
    low, high = bounds(model, params.pop("low", None), params.pop("high", None))
    settings = CompositeParams(low=low, high=high, **params)

    def build() -> RuleTable:
        from graph_rules import composites

        return composites.composite(cast(CompositeName, composite), settings, rules)

    said = {"composite": composite, "rules": list((rules or {}).items()), "settings": dataclasses.asdict(settings)}
    return TableSpec.of("lrp", said, build, conserving=True)


def rules_of(model: OnnxModel, traced: TracedScore, params: Mapping[str, Any]) -> dict[fx.Node, Assignment]:
    """Every node between the inputs and the explained value with its rule, None where there is none, in the order of execution.

    Parameters
    ----------
    params
        All parameters of ``lrp``, checked.

    Raises
    ------
    UsageError
        ``params.invalid`` where one of the user's rules fits no node.
    """
    from graph_rules.tables import SelectorTable

    given = {name: value for name, value in params.items() if name != "initial"}
    try:
        table = table_of(model, **given).build()
        assert isinstance(table, SelectorTable)
        return table.listing(traced.output, tuple(traced.nodes.values()))
    except RuleError as problem:
        raise UsageError("params.invalid", f"lrp: {problem}", "without rules the list names all nodes") from None


def _per_sample(weights: Any) -> Any:
    return weights.reshape(len(weights), -1).sum(axis=1)


def bounds(model: OnnxModel, low: BoundLike, high: BoundLike) -> tuple[Any, Any]:
    """The bounds of the model's input: as given, else what the preprocessing implies, else None."""
    if low is None and high is None and model.preprocess is not None:
        spec = next(iter(model.inputs.values()))
        lowest, highest = model.preprocess.fit(spec.shape, spec.dtype).low_high()
        return tuple(float(v) for v in lowest), tuple(float(v) for v in highest)

    def plain(value: Any) -> Any:
        if value is None or np.ndim(value) == 0:
            return None if value is None else float(value)
        return tuple(float(v) for v in np.ravel(value))

    return plain(low), plain(high)
