"""Whether means differ by more than their uncertainty."""

from __future__ import annotations

import numpy as np


def apart(*, lower: np.ndarray, higher: np.ndarray) -> bool:
    """Whether the 95 % intervals of two means don't touch."""
    ends = []
    for values, sign in ((lower, 1), (higher, -1)):
        error = values.std(ddof=1) / np.sqrt(len(values))
        ends.append(values.mean() + sign * 1.96 * error)
    return bool(ends[0] < ends[1])
