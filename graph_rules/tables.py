"""Rule tables: which node gets which rule. A table is data; the most specific entry wins.

Belongs here: tables, composites, the user's overrides. Not here: formulas (``rules``), what a kind is (``kinds``).

A key of a table is, from most to least specific: the glob of an ONNX node name (``/layer1/*``), an ONNX operator type
(``Conv``), a position (``first`` or ``last`` weighted layer), or a kind of :data:`graph_rules.kinds.KINDS`.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from graph_rules import rules as r
from graph_rules.kinds import KINDS, kind
from graph_rules.sweep import Rule, active_nodes


class MissingRuleError(LookupError):
    """A table has no rule for a node. ``nodes`` are the ONNX nodes in the way as (name, operator type, kind)."""

    def __init__(self, table: str, nodes: list[tuple[str, str, str]]) -> None:
        self.table, self.nodes = table, nodes
        named = ", ".join(f"{op} node {name!r} ({kind_})" for name, op, kind_ in nodes[:5])
        more = f" and {len(nodes) - 5} more" if len(nodes) > 5 else ""
        super().__init__(f"{table} has no rule for {named}{more}")


@dataclass(frozen=True, eq=False)
class RuleTable:
    """Kind, position, operator type or node-name glob -> rule."""

    name: str
    rules: Mapping[str, Rule]
    overrides: Mapping[str, Rule] = field(default_factory=dict)

    def assign(self, output: fx.Node, sources: tuple[fx.Node, ...]) -> Callable[[fx.Node, str], Rule]:
        """A chooser for :func:`graph_rules.sweep.plan` on this trace.

        Raises
        ------
        MissingRuleError
            Naming every node without a rule.
        """
        active = active_nodes(sources, output)
        positions = _positions(output, sources, active)
        chosen: dict[fx.Node, Rule] = {}
        lacking: list[tuple[str, str, str]] = []
        for node in output.graph.nodes:
            if node in active and node not in sources and node.op == "call_function":
                what = kind(node, active)
                rule = self._find(node, what, positions.get(node, ()))
                if rule is None:
                    label = node.meta.get("onnx", node.name), node.meta.get("op", str(node.target)), what
                    if label not in lacking:
                        lacking.append(label)
                else:
                    chosen[node] = rule
        if lacking:
            raise MissingRuleError(self.name, lacking)
        return lambda node, _: chosen[node]

    def _find(self, node: fx.Node, what: str, positions: tuple[str, ...]) -> Rule | None:
        name, op = node.meta.get("onnx", ""), node.meta.get("op", "")
        weighted = what in ("convolution", "linear", "matmul")
        for key, rule in self.overrides.items():
            if key not in KINDS and key not in ("first", "last") and (
                fnmatch.fnmatchcase(name, key) and (weighted or not _needs_weights(rule))
            ):
                return rule
        if op in self.overrides and (weighted or not _needs_weights(self.overrides[op])):
            return self.overrides[op]
        for source in (self.overrides, self.rules):
            for position in positions:
                if position in source:
                    return source[position]
            if what in source:
                return source[what]
        return self.rules.get("*")


def _needs_weights(rule: Rule) -> bool:
    return isinstance(rule, (r.AlphaBeta, r.Gamma, r.WSquare, r.Flat, r.ZBox))


def _positions(
    output: fx.Node, sources: tuple[fx.Node, ...], active: Container[fx.Node]
) -> dict[fx.Node, tuple[str, ...]]:
    """Weighted layers that are first (no other one between them and the input) or last."""
    weighted = [
        node
        for node in output.graph.nodes
        if node in active and node not in sources and kind(node, active) in ("convolution", "linear")
    ]
    below: set[fx.Node] = set()
    first: set[fx.Node] = set()
    for node in output.graph.nodes:
        if any(a in below for a in node.all_input_nodes):
            below.add(node)
        elif node in weighted:
            first.add(node)
            below.add(node)
    return {
        node: tuple(
            name for name, here in (("first", node in first), ("last", node is weighted[-1])) if here
        )
        for node in weighted
    }


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


def base() -> dict[str, Rule]:
    """What every LRP composite does with nodes without weights.

    Activations, constants and folded-away normalisations pass relevance on; sums and averages share it by
    contribution; maxima and movements hand it to where the value came from.
    """
    norm = r.Epsilon(1e-6)
    return {
        "relu": r.Pass(), "activation": r.Pass(), "batch-norm": r.Pass(), "shift": r.Pass(), "scale": r.Pass(),
        "add": norm, "average": norm, "maximum": r.Gradient(), "movement": r.Gradient(),
        "gate": r.SignalTakesAll(), "product": r.Shared(),
    }  # fmt: skip


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
#: Lapuschkin et al. 2019 (flat), Zhang et al. 2016 (excitation backprop).
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
    "epsilon-gamma-box": lambda s: {"first": _box(s), "convolution": _gamma(s), "linear": _epsilon(s)},
}  # fmt: skip


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
    return RuleTable(name, base() | COMPOSITES[name](settings), parsed)


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


RULES: dict[str, Callable[..., Rule]] = {
    "epsilon": lambda s, epsilon=None: r.Epsilon(s.epsilon if epsilon is None else epsilon, s.zero_bias),
    "zplus": _zplus,
    "alpha-beta": lambda s, alpha=2.0, beta=1.0: r.AlphaBeta(alpha, beta, s.stabilizer, s.zero_bias),
    "gamma": lambda s, gamma=None: r.Gamma(s.gamma if gamma is None else gamma, s.stabilizer, s.zero_bias),
    "z-box": lambda s, low=None, high=None: _box(s) if low is None else r.ZBox(low, high, s.stabilizer),
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


def describe(table: RuleTable) -> dict[str, Any]:
    """The table as text, for reports."""
    return {key: str(rule) for key, rule in (*table.overrides.items(), *table.rules.items())}
