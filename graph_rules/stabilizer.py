"""The stabiliser of a relevance rule's denominator.

Belongs here: the one place where denominators are shifted away from zero. Not here: rules.
"""

from __future__ import annotations

import torch
from torch import Tensor


def stabilize(z: Tensor, epsilon: float) -> Tensor:
    """z + epsilon * sign(z), with sign(0) = +1 (Bach et al. 2015, eq. 58); keeps z's dtype.

    Without an epsilon, a sum of exactly zero becomes infinite: it has nothing to share.
    """
    if epsilon == 0:
        return z.masked_fill(z == 0, torch.inf)
    # sign(sign(z) + 1/2) is the sign with sign(0) = +1; a choice by mask costs a CPU several times as much
    return torch.add(z, torch.sign(torch.sign(z) + 0.5), alpha=epsilon)
