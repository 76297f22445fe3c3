"""What kinds of node a rule is for.

Belongs here: which kinds a user may give a rule to, and which of them a key that names many nodes at once means. Not here:
keys (``keys``), formulas (``rules``), what the composites do (``composites``, which are free to do otherwise).

A rule that would double relevance or that has no meaning at a node never lands there: the epsilon rule is for operators that
are linear in their computed inputs together, so that a product of two computed matrices would hand out its relevance twice.
"""

from __future__ import annotations

from graph_rules import attention as a
from graph_rules import rules as r
from graph_rules.kinds import KINDS

_ALL = frozenset(KINDS)
_LAYERS = frozenset({"convolution", "linear"})
_PRODUCTS = frozenset({"matmul", "attention", "product", "gate", "self-gate", "quotient"})
_SUMS = frozenset({"add", "layer-sum", "average", "norm", "reduced-product", "maximum"})

#: Rule -> kinds that it may be given to.
FOR: dict[type, frozenset[str]] = {
    r.AlphaBeta: _LAYERS,
    r.Gamma: _LAYERS,
    r.Mixing: _LAYERS,
    r.WSquare: _LAYERS,
    r.Flat: _LAYERS,
    r.ZBox: _LAYERS,
    r.Epsilon: _ALL - _PRODUCTS,
    r.Pass: _ALL - _PRODUCTS - _SUMS - _LAYERS - {"movement"},
    r.Shared: frozenset({"product", "gate", "self-gate", "quotient", "add", "layer-sum"}),
    r.SignalTakesAll: frozenset({"gate", "self-gate", "quotient"}),
    r.GuidedReLU: frozenset({"relu", "activation"}),
    r.DeconvNetReLU: frozenset({"relu", "activation"}),
    a.Bilinear: frozenset({"matmul", "attention"}),
    a.ValuesTakeAll: frozenset({"attention"}),
    a.Softmax: frozenset({"softmax"}),
    a.Normalisation: frozenset({"layer-norm"}),
    a.Winner: frozenset({"maximum"}),
    a.Homogeneous: frozenset({"reduced-product"}),
}

#: Of these, the kinds that a glob or ``*`` means: a stabiliser belongs where contributions are summed, not at every
#: activation and movement in between.
_WIDELY: dict[type, frozenset[str]] = {
    r.Epsilon: _LAYERS | {"add", "layer-sum", "bias", "average", "norm", "other"},
    r.Pass: frozenset({"relu", "activation", "batch-norm", "shift", "scale", "layer-norm", "other"}),
}


def suits(rule: object, kind: str, widely: bool = False) -> bool:
    """Whether a rule may be given to a kind of node; ``widely`` by a key that names nodes of many kinds at once."""
    return kind in domain(rule, widely)


def domain(rule: object, widely: bool = False) -> frozenset[str]:
    """The kinds that a rule may be given to."""
    everywhere = FOR.get(type(rule), _ALL)
    return _WIDELY.get(type(rule), everywhere) if widely else everywhere


def needs_weights(rule: object) -> bool:
    """Whether a rule is for convolutions and linear layers alone."""
    return domain(rule) == _LAYERS
