"""The parameters of the composites of layer-wise relevance propagation, each with its default and what it does.

Belongs here: the one place where such a parameter stands; tables and the ``lrp`` method are built from it; the composites'
names. Not here: composites, rules, anything that imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

CompositeName = Literal[
    "epsilon", "zplus", "alpha-beta", "alpha1-beta0", "gamma", "w2", "flat", "excitation-backprop", "epsilon-plus",
    "epsilon-plus-flat", "epsilon-alpha2-beta1", "epsilon-alpha2-beta1-flat", "attn-lrp", "epsilon-gamma-box",
]  # fmt: skip
Bound = float | tuple[float, ...]
BoundLike = float | list[float] | tuple[float, ...] | None


@dataclass(frozen=True)
class CompositeParams:
    """What the rules of a composite have in common.

    The annotation of a field says what it does; annotated ones are parameters of ``lrp``. ``stabilizer`` keeps the
    denominators of all rules but epsilon from zero.
    """

    epsilon: Annotated[float, "stabiliser of the epsilon rule, at least 0"] = 1e-6
    gamma: Annotated[float, "extra weight of positive parts in the gamma rule, at least 0"] = 0.25
    alpha: Annotated[float, "weight of positive contributions; alpha - beta = 1"] = 2.0
    beta: Annotated[float, "weight of negative contributions"] = 1.0
    low: Annotated[
        BoundLike, "lowest input value, a number or one per channel (z-box); None: from the preprocessing"
    ] = None
    high: Annotated[BoundLike, "highest input value (z-box)"] = None
    zero_bias: Annotated[bool, "biases take no share of the relevance"] = False
    mixing: Annotated[bool, "the gamma rule as w+ + gamma w-, gamma from 0 to 1, in place of w + gamma w+"] = False
    stabilizer: float = 1e-6

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            object.__setattr__(self, name, _hashable(getattr(self, name)))


def _hashable(bound: Any) -> Bound | None:
    return tuple(float(value) for value in bound) if isinstance(bound, (list, tuple)) else bound
