"""The named tables: gradient, guided backpropagation, deconvnet, the composites of layer-wise relevance propagation.

Belongs here: which kind of node gets which rule under which name, and the text form of rules. Not here: formulas
(``rules``), how a table is applied (``tables``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from graph_rules import attention as a
from graph_rules import rules as r
from graph_rules.sweep import Rule
from graph_rules.tables import RuleTable

# --- gradient family --------------------------------------------------------------------------------------------

GRADIENT = RuleTable("gradient", {"*": r.Gradient()})
GUIDED_BACKPROP = RuleTable("guided-backprop", {"relu": r.GuidedReLU(), "*": r.Gradient()})
DECONVNET = RuleTable("deconvnet", {"relu": r.DeconvNetReLU(), "*": r.Gradient()})

# --- layer-wise relevance propagation ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """Parameters that composites share.

    Attributes
    ----------
    low, high
        Bounds of the model's input for the z-box rule: a number or one per channel.
    zero_bias
        Biases take no share.
    """

    epsilon: float = 1e-6
    gamma: float = 0.25
    alpha: float = 2.0
    beta: float = 1.0
    low: r.Bound | None = None
    high: r.Bound | None = None
    zero_bias: bool = False
    stabilizer: float = 1e-6


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
    return r.Gamma(s.gamma, s.stabilizer, s.zero_bias)


def _box(s: Settings) -> Rule:
    if s.low is None or s.high is None:
        raise ValueError(
            "the z-box rule needs the lowest and highest value that the input can take: give low and high, "
            "or a preprocessing that implies them"
        )
    return r.ZBox(s.low, s.high, s.stabilizer)


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


def parse_rule(text: str, settings: Settings) -> Rule:
    """A rule from its text form: ``epsilon:0.01``, ``gamma:0.5``, ``alpha-beta:2,1``, ``z-box``, ``pass``, …

    Raises
    ------
    ValueError
        Naming the rules there are.
    """
    name, _, rest = text.partition(":")
    try:
        numbers = [float(part) for part in rest.split(",")] if rest else []
        return RULES[name](settings, *numbers)
    except KeyError:
        raise ValueError(f"unknown rule {name!r}; rules: {', '.join(sorted(RULES))}") from None
    except TypeError:
        raise ValueError(f"rule {text!r} has the wrong number of parameters") from None


def _boxed(low: float, high: float | None, s: Settings) -> Rule:
    if high is None:
        raise TypeError
    return r.ZBox(low, high, s.stabilizer)


RULES: dict[str, Callable[..., Rule]] = {
    "epsilon": lambda s, epsilon=None: r.Epsilon(s.epsilon if epsilon is None else epsilon, s.zero_bias),
    "zplus": _zplus,
    "alpha-beta": lambda s, alpha=None, beta=None: r.AlphaBeta(
        s.alpha if alpha is None else alpha, s.beta if beta is None else beta, s.stabilizer, s.zero_bias
    ),
    "gamma": lambda s, gamma=None: r.Gamma(s.gamma if gamma is None else gamma, s.stabilizer, s.zero_bias),
    "z-box": lambda s, low=None, high=None: _box(s) if low is None else _boxed(low, high, s),
    "w2": lambda s: r.WSquare(s.stabilizer, s.zero_bias),
    "flat": lambda s: r.Flat(s.stabilizer),
    "norm": lambda s: r.Epsilon(1e-6),
    "pass": lambda s: r.Pass(),
    "gradient": lambda s: r.Gradient(),
    "block": lambda s: r.Block(),
}


def names() -> tuple[str, ...]:
    """All composites."""
    return tuple(COMPOSITES)
