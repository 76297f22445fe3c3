"""Drawing some of many samples: at random, or each part of the data in its proportion.

Belongs here: which samples. Not here: what they hold (``dataset``).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np


def draw(count: int, samples: int, seed: int, strata: Sequence[Hashable] | None = None) -> list[int]:
    """``samples`` of ``count`` numbers, ascending; all where there are no more.

    Parameters
    ----------
    strata
        Which part of the data each belongs to. Every part gets its share, rounded down, and the largest remainders one more.
    """
    if samples >= count:
        return list(range(count))
    rng = np.random.default_rng(seed)
    if strata is None:
        return sorted(int(at) for at in rng.choice(count, samples, replace=False))
    members: dict[Hashable, list[int]] = {}
    for at, stratum in enumerate(strata):
        members.setdefault(stratum, []).append(at)
    shares = [len(own) * samples / count for own in members.values()]
    sizes = [int(share) for share in shares]
    remainders = np.argsort([size - share for size, share in zip(sizes, shares, strict=True)], kind="stable")
    for at in remainders[: samples - sum(sizes)]:
        sizes[at] += 1
    picked: list[int] = []
    for own, size in zip(members.values(), sizes, strict=True):
        picked += [own[at] for at in rng.choice(len(own), size, replace=False)]
    return sorted(picked)
