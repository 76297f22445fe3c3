"""How alike two maps of one input are: rank correlation, top-k overlap, nDCG, cosine, structural similarity.

Belongs here: a small function for each, on two arrays of one shape. Each gives a number or, where there is none, the reason: a
constant map has no ranking, a map of zeros no direction. Not here: whose maps these are (``comparison``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from analyzer.evaluation.measure import Array

#: A similarity, or why there is none.
Found = float | str
#: Side of the window of :func:`ssim`, at most.
_WINDOW = 7

NOT_FINITE = "a map isn't finite"
ZERO = "a map is zero everywhere"
CONSTANT = "a map is constant: it ranks nothing"


def spearman(a: Array, b: Array, absolute: bool = False) -> Found:
    """Spearman's rank correlation, [-1, 1]; equal values share their mean rank.

    Parameters
    ----------
    absolute
        Of the absolute values: how relevant an element is, whichever way.
    """
    a, b, problem = _vectors(a, b, absolute)
    if problem or _constant(a) or _constant(b):
        return problem or CONSTANT
    from scipy.stats import rankdata

    return _cosine(*(rankdata(v) - (len(v) + 1) / 2 for v in (a, b)))


def cosine(a: Array, b: Array) -> Found:
    """Cosine of the angle between the maps as vectors, [-1, 1]."""
    a, b, problem = _vectors(a, b)
    if problem or not a.any() or not b.any():
        return problem or ZERO
    return _cosine(a, b)


def top_k_overlap(a: Array, b: Array, k: float = 0.1, absolute: bool = True) -> Found:
    """Share of the most relevant elements that the maps have in common, [0, 1].

    Parameters
    ----------
    k
        How many elements are the most relevant ones, as a share of all, in (0, 1]; at least one. Elements that are equal to the
        last of them share the places that are left, so that nothing depends on their order.
    absolute
        By absolute value.
    """
    a, b, problem = _vectors(a, b, absolute)
    if problem or _constant(a) or _constant(b):
        return problem or CONSTANT
    count = max(1, round(k * len(a)))
    return float(np.minimum(membership(a, count), membership(b, count)).sum() / count)


def ndcg(reference: Array, ranking: Array) -> Found:
    """Normalised discounted cumulative gain of one map's ranking by the other's relevance, [0, 1].

    Both by absolute value: gains are the reference's, the order is the other's; equal ones share the mean gain of their places.
    Source: Järvelin, Kekäläinen 2002, Cumulated gain-based evaluation of IR techniques; ties: McSherry, Najork 2008.
    """
    gains, order, problem = _vectors(reference, ranking, absolute=True)
    if problem or not gains.any():
        return problem or ZERO
    if _constant(gains) or _constant(order):
        return CONSTANT
    from sklearn.metrics import ndcg_score

    return float(ndcg_score(gains[None], order[None]))


def ssim(a: Array, b: Array) -> Found:
    """Structural similarity of two maps (height, width), [-1, 1]; the range of values is that of both together.

    Source: Wang et al. 2004, Image quality assessment: from error visibility to structural similarity (uniform window of 7).
    """
    _, _, problem = _vectors(a, b)
    if problem:
        return problem
    if a.ndim != 2 or min(a.shape) < 3:
        return f"a map of shape {list(a.shape)} is no picture of 3 by 3 or more"
    if _constant(a) or _constant(b):
        return CONSTANT
    from skimage.metrics import structural_similarity

    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    span = float(max(a.max(), b.max()) - min(a.min(), b.min()))
    window = min(_WINDOW, (min(a.shape) - 1) // 2 * 2 + 1)
    return float(structural_similarity(a, b, data_range=span, win_size=window))


def picture(map_: Array, places: Sequence[int]) -> Array | None:
    """One sample's map summed to (height, width); None where the sample isn't laid out in two dimensions.

    Parameters
    ----------
    places
        The axes of the map that count places, the others being channels.
    """
    if len(places) != 2:
        return None
    others = tuple(axis for axis in range(map_.ndim) if axis not in places)
    return np.asarray(map_.sum(axis=others, dtype=np.float64))


def membership(values: Array, count: int) -> Array:
    """How far each element belongs to the ``count`` largest, (n,) from 0 to 1: equal ones share the places that are left."""
    last = np.partition(values, len(values) - count)[len(values) - count]
    above, tied = values > last, values == last
    return np.asarray(above + tied * ((count - above.sum()) / tied.sum()))


#: Similarities of maps of any shape, by name.
SIMILARITIES: Mapping[str, Callable[[Array, Array], Found]] = {
    "spearman": spearman,
    "spearman_absolute": lambda a, b: spearman(a, b, absolute=True),
    "top_k_overlap": top_k_overlap,
    "ndcg": ndcg,
    "cosine": cosine,
}


def _vectors(a: Array, b: Array, absolute: bool = False) -> tuple[Array, Array, str]:
    """Both as float64 vectors, and why they can't be compared, or nothing."""
    if np.shape(a) != np.shape(b):
        raise ValueError(f"maps of shapes {np.shape(a)} and {np.shape(b)}")
    one, other = (np.asarray(each, np.float64).reshape(-1) for each in (a, b))
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return one, other, NOT_FINITE
    return (np.abs(one), np.abs(other), "") if absolute else (one, other, "")


def _constant(values: Array) -> bool:
    return not values.size or bool((values == values.flat[0]).all())


def _cosine(a: Array, b: Array) -> float:
    """Of finite vectors that aren't zero; each is scaled first, so that its square neither overflows nor vanishes."""
    a, b = a / np.abs(a).max(), b / np.abs(b).max()
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1, 1))
