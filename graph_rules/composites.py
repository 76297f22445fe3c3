"""The named tables: gradient, guided backpropagation, deconvnet, the composites of layer-wise relevance propagation.

Belongs here: which kind of node gets which rule under which name. Not here: formulas (``rules``), the text form of rules
(``rule_parser``), how a table is applied (``tables``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from graph_rules import attention as a
from graph_rules import rules as r
from graph_rules.composite_params import CompositeName as CompositeName
from graph_rules.composite_params import CompositeParams as CompositeParams
from graph_rules.rule import Rule
from graph_rules.rule_parser import RULES as RULES
from graph_rules.rule_parser import parse_rule as parse_rule
from graph_rules.tables import SelectorTable

# --- gradient family --------------------------------------------------------------------------------------------

GRADIENT = SelectorTable("gradient", {"*": r.Gradient()})
GUIDED_BACKPROP = SelectorTable(
    "guided-backprop", {"relu": r.GuidedReLU(), "rectifier": r.GuidedReLU(), "*": r.Gradient()}
)
DECONVNET = SelectorTable("deconvnet", {"relu": r.DeconvNetReLU(), "rectifier": r.DeconvNetReLU(), "*": r.Gradient()})
#: As libraries define them that know no rectifier but ReLU.
GUIDED_BACKPROP_RELU = SelectorTable("guided-backprop", {"relu": r.GuidedReLU(), "*": r.Gradient()})
DECONVNET_RELU = SelectorTable("deconvnet", {"relu": r.DeconvNetReLU(), "*": r.Gradient()})

# --- layer-wise relevance propagation ---------------------------------------------------------------------------


def base(params: CompositeParams | None = None) -> dict[str, Rule]:
    """What every LRP composite does with nodes without weights.

    Activations, constants and folded-away normalisations pass relevance on; sums and averages share it by
    contribution; maxima and movements hand it to where the value came from. Signals take all from their gates, values
    all from attention weights (CP-LRP) and numerators all from denominators.
    """
    s = params or CompositeParams()
    norm = r.Epsilon(1e-6)
    return {
        "relu": r.Pass(), "rectifier": r.Pass(), "activation": r.Pass(),
        "batch-norm": r.Pass(), "shift": r.Pass(), "scale": r.Pass(),
        "bias": r.Pass() if s.zero_bias else _unit(s), "layer-sum": _unit(s), "add": norm, "average": norm,
        "norm": norm, "reduced-product": a.Homogeneous(), "maximum": a.WinnerTakeAll(),
        "movement": r.Gradient(), "product": r.Shared(), "gate": r.SignalTakesAll(), "self-gate": r.SignalTakesAll(),
        "quotient": r.SignalTakesAll(), "matmul": a.Bilinear(s.stabilizer), "attention": a.ValuesTakeAll(s.stabilizer),
        "softmax": a.Softmax(s.stabilizer), "layer-norm": a.Normalisation(s.stabilizer, s.zero_bias),
    }  # fmt: skip


def _attention(s: CompositeParams) -> dict[str, Rule]:
    """AttnLRP: epsilon wherever the node is linear, products shared equally, softmax by its Taylor expansion.

    Gates (sigmoids) take nothing here either: a sigmoid's value isn't made of contributions that could share it.
    """
    linear, shift = r.Epsilon(s.epsilon, s.zero_bias), r.Pass() if s.zero_bias else r.Epsilon(s.epsilon)
    return {
        "convolution": linear, "linear": linear, "shift": shift, "batch-norm": shift,
        "add": r.Epsilon(s.epsilon), "average": r.Epsilon(s.epsilon), "norm": r.Epsilon(s.epsilon),
        "matmul": a.Bilinear(s.epsilon), "attention": a.Bilinear(s.epsilon), "softmax": a.Softmax(s.epsilon),
        "layer-norm": a.Normalisation(s.epsilon, s.zero_bias),
    }  # fmt: skip


def _unit(s: CompositeParams) -> Rule:
    return r.Epsilon(s.epsilon)


def _epsilon(s: CompositeParams) -> Rule:
    return r.Epsilon(s.epsilon, s.zero_bias)


def _zplus(s: CompositeParams) -> Rule:
    return r.AlphaBeta(1.0, 0.0, s.stabilizer, s.zero_bias)


def _alpha_beta(s: CompositeParams) -> Rule:
    return r.AlphaBeta(s.alpha, s.beta, s.stabilizer, s.zero_bias)


def _gamma(s: CompositeParams) -> Rule:
    return (r.Mixing if s.mixing else r.Gamma)(s.gamma, s.stabilizer, s.zero_bias)


def _box(s: CompositeParams) -> Rule:
    return parse_rule("z-box", s)


def _both(rule: Callable[[CompositeParams], Rule]) -> Callable[[CompositeParams], dict[str, Rule]]:
    return lambda s: {"convolution": rule(s), "linear": rule(s)}


#: Composite name -> the rules it adds to :func:`base`. Those that zennit has too are zennit's: the box is for a first
#: convolution only, and excitation backprop takes activations by their derivative. Sources: Montavon et al. 2019
#: (epsilon-plus, gamma), Lapuschkin et al. 2019 (flat), Zhang et al. 2016 (excitation backprop), Achtibat et al. 2024
#: (attn-lrp; where the authors' package adds epsilon whatever the sign of a denominator, here it takes the sign, as
#: everywhere).
COMPOSITES: dict[CompositeName, Callable[[CompositeParams], dict[str, Rule]]] = {
    "epsilon": _both(_epsilon),
    "zplus": _both(_zplus),
    "alpha-beta": _both(_alpha_beta),
    "alpha1-beta0": _both(_zplus),
    "gamma": _both(_gamma),
    "w2": _both(lambda s: r.WSquare(s.stabilizer, s.zero_bias)),
    "flat": _both(lambda s: r.Flat(s.stabilizer)),
    "excitation-backprop": lambda s: (
        _both(_zplus)(s) | dict.fromkeys(("relu", "rectifier", "activation", "batch-norm"), r.Gradient())
    ),
    "epsilon-plus": lambda s: {"convolution": _zplus(s), "linear": _epsilon(s)},
    "epsilon-plus-flat": lambda s: {
        "first": r.Flat(s.stabilizer), "convolution": _zplus(s), "linear": _epsilon(s)
    },
    "epsilon-alpha2-beta1": lambda s: {
        "convolution": r.AlphaBeta(2.0, 1.0, s.stabilizer, s.zero_bias), "linear": _epsilon(s)
    },
    "epsilon-alpha2-beta1-flat": lambda s: {
        "first": r.Flat(s.stabilizer),
        "convolution": r.AlphaBeta(2.0, 1.0, s.stabilizer, s.zero_bias),
        "linear": _epsilon(s),
    },
    "attn-lrp": _attention,
    "epsilon-gamma-box": lambda s: {
        "first-convolution": _box(s), "convolution": _gamma(s), "linear": _epsilon(s)
    },
}  # fmt: skip


def deep_taylor(params: CompositeParams) -> SelectorTable:
    """Deep Taylor decomposition: z+ everywhere, on the first layers the root-point rule of the input's domain.

    Bounded inputs (``low`` and ``high``) get the z-box rule, unbounded ones the w2 rule (Montavon et al. 2017, table 1).
    """
    first = r.WSquare(params.stabilizer, params.zero_bias) if params.low is None else _box(params)
    plus = _zplus(params)
    return SelectorTable("deep-taylor", base() | {"first": first, "convolution": plus, "linear": plus})


def composite(
    name: CompositeName, params: CompositeParams, overrides: Mapping[str, str] | None = None
) -> SelectorTable:
    """The rule table of a named composite with the user's overrides.

    Raises
    ------
    KeyError
        Unknown composite.
    RuleError
        A rule's parameters don't fit, or z-box lacks its bounds.
    """
    parsed = {key: parse_rule(text, params) for key, text in (overrides or {}).items()}
    return SelectorTable(name, base(params) | COMPOSITES[name](params), parsed)


def names() -> tuple[CompositeName, ...]:
    """All composites."""
    return tuple(COMPOSITES)
