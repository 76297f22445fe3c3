"""What the rules of a composite have in common.

Belongs here: the parameters. Not here: composites, rules.
"""

from __future__ import annotations

from dataclasses import dataclass

from graph_rules.rules import Bound


@dataclass(frozen=True)
class Settings:
    """Parameters that composites share.

    Attributes
    ----------
    epsilon
        Of the epsilon rule, at least 0.
    gamma
        Of the gamma rule, at least 0; with ``mixing`` from 0 to 1.
    low, high
        Bounds of the model's input for the z-box rule: a number or one per channel.
    zero_bias
        Biases take no share.
    stabilizer
        What keeps the denominators of all other rules from zero, at least 0.
    mixing
        The gamma rule is meant in its mixing form, w+ + gamma w-.
    """

    epsilon: float = 1e-6
    gamma: float = 0.25
    alpha: float = 2.0
    beta: float = 1.0
    low: Bound | None = None
    high: Bound | None = None
    zero_bias: bool = False
    stabilizer: float = 1e-6
    mixing: bool = False
