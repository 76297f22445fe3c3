"""The named tables: gradient, guided backpropagation, deconvnet, the composites of layer-wise relevance propagation.

Belongs here: which kind of node gets which rule under which name. Not here: formulas (``rules``), the text form of rules
(``text``), how a table is applied (``tables``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from graph_rules import attention as a
from graph_rules import rules as r
from graph_rules.settings import Settings as Settings
from graph_rules.sweep import Rule
from graph_rules.tables import RuleTable
from graph_rules.text import RULES as RULES
from graph_rules.text import parse_rule as parse_rule

# --- gradient family --------------------------------------------------------------------------------------------

GRADIENT = RuleTable("gradient", {"*": r.Gradient()})
GUIDED_BACKPROP = RuleTable("guided-backprop", {"relu": r.GuidedReLU(), "*": r.Gradient()})
DECONVNET = RuleTable("deconvnet", {"relu": r.DeconvNetReLU(), "*": r.Gradient()})

# --- layer-wise relevance propagation ---------------------------------------------------------------------------


def base(s: Settings | None = None) -> dict[str, Rule]:
    """What every LRP composite does with nodes without weights.

    Activations, constants and folded-away normalisations pass relevance on; sums and averages share it by
    contribution; maxima and movements hand it to where the value came from. Signals take all from their gates, values
    all from attention weights (CP-LRP) and numerators all from denominators.
    """
    s = s or Settings()
    norm = r.Epsilon(1e-6)
    return {
        "relu": r.Pass(), "activation": r.Pass(), "batch-norm": r.Pass(), "shift": r.Pass(), "scale": r.Pass(),
        "bias": r.Pass() if s.zero_bias else _unit(s), "layer-sum": _unit(s), "add": norm, "average": norm,
        "norm": norm, "reduced-product": a.Homogeneous(), "maximum": a.Winner(),
        "movement": r.Gradient(), "product": r.Shared(), "gate": r.SignalTakesAll(), "self-gate": r.SignalTakesAll(),
        "quotient": r.SignalTakesAll(), "matmul": a.Bilinear(s.stabilizer), "attention": a.ValuesTakeAll(s.stabilizer),
        "softmax": a.Softmax(s.stabilizer), "layer-norm": a.Normalisation(s.stabilizer, s.zero_bias),
    }  # fmt: skip


def _attention(s: Settings) -> dict[str, Rule]:
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


def _unit(s: Settings) -> Rule:
    return r.Epsilon(s.epsilon)


def _epsilon(s: Settings) -> Rule:
    return r.Epsilon(s.epsilon, s.zero_bias)


def _zplus(s: Settings) -> Rule:
    return r.AlphaBeta(1.0, 0.0, s.stabilizer, s.zero_bias)


def _alpha_beta(s: Settings) -> Rule:
    return r.AlphaBeta(s.alpha, s.beta, s.stabilizer, s.zero_bias)


def _gamma(s: Settings) -> Rule:
    return (r.Mixing if s.mixing else r.Gamma)(s.gamma, s.stabilizer, s.zero_bias)


def _box(s: Settings) -> Rule:
    return parse_rule("z-box", s)


def _both(rule: Callable[[Settings], Rule]) -> Callable[[Settings], dict[str, Rule]]:
    return lambda s: {"convolution": rule(s), "linear": rule(s)}


#: Composite name -> the rules it adds to :func:`base`. Sources: Montavon et al. 2019 (epsilon-plus, gamma),
#: Lapuschkin et al. 2019 (flat), Zhang et al. 2016 (excitation backprop), Achtibat et al. 2024 (attn-lrp; where the
#: authors' package adds epsilon whatever the sign of a denominator, here it takes the sign, as everywhere).
COMPOSITES: dict[str, Callable[[Settings], dict[str, Rule]]] = {
    "epsilon": _both(_epsilon),
    "zplus": _both(_zplus),
    "alpha-beta": _both(_alpha_beta),
    "alpha1-beta0": _both(_zplus),
    "gamma": _both(_gamma),
    "w2": _both(lambda s: r.WSquare(s.stabilizer, s.zero_bias)),
    "flat": _both(lambda s: r.Flat(s.stabilizer)),
    "excitation-backprop": _both(_zplus),
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
    "epsilon-gamma-box": lambda s: {"first": _box(s), "convolution": _gamma(s), "linear": _epsilon(s)},
}  # fmt: skip


def deep_taylor(settings: Settings) -> RuleTable:
    """Deep Taylor decomposition: z+ everywhere, on the first layers the root-point rule of the input's domain.

    Bounded inputs (``low`` and ``high``) get the z-box rule, unbounded ones the w2 rule (Montavon et al. 2017, table 1).
    """
    first = r.WSquare(settings.stabilizer, settings.zero_bias) if settings.low is None else _box(settings)
    plus = _zplus(settings)
    return RuleTable("deep-taylor", base() | {"first": first, "convolution": plus, "linear": plus})


def composite(name: str, settings: Settings, overrides: Mapping[str, str] | None = None) -> RuleTable:
    """The rule table of a named composite with the user's overrides.

    Raises
    ------
    KeyError
        Unknown composite.
    ValueError
        A rule's parameters don't fit, or z-box lacks its bounds.
    """
    parsed = {key: parse_rule(text, settings) for key, text in (overrides or {}).items()}
    return RuleTable(name, base(settings) | COMPOSITES[name](settings), parsed)


def names() -> tuple[str, ...]:
    """All composites."""
    return tuple(COMPOSITES)
