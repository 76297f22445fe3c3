"""Groups among the maps of many inputs: spectral clustering, and whether a group is more than chance gives.

Belongs here: maps as vectors, their embedding and clusters, a null distribution without common places. Not here: which maps
(``analyzer.gate.checks.clever_hans``), what is decided.

Spectral relevance analysis: maps are made small and alike in size, joined with their nearest neighbours, and embedded by the
first eigenvectors of the graph's Laplacian; the largest gap between its eigenvalues says into how many clusters they fall.
Sources: Lapuschkin et al. 2019, Unmasking Clever Hans predictors and assessing what machines really learn; affinities with local
scales: Zelnik-Manor, Perona 2004, Self-tuning spectral clustering.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analyzer.evaluation.measure import Array

#: The neighbour whose distance is a map's scale.
_SCALE = 5
#: Clusters are one where maps of both are as like each other as this share of how like they are inside.
_ALIKE = 0.9


def coarse(maps: Array, side: int = 16) -> Array:
    """Maps (n, places…) summed over blocks, so that no axis of places is longer than ``side``."""
    found = np.asarray(maps, np.float64)
    for axis in range(1, found.ndim):
        size = found.shape[axis]
        if size > side:
            found = np.add.reduceat(found, block_starts(size, side), axis)
    return found


def block_starts(size: int, blocks: int) -> Array:
    """Where the blocks start into which an axis is cut."""
    return np.arange(blocks) * size // blocks


def directions(maps: Array) -> Array:
    """Maps that aren't negative as unit vectors (n, features): the square root of each place's share.

    Their products are Bhattacharyya's coefficients: 1 for maps that are alike, 0 for maps that have no place in common.
    """
    flat = np.asarray(maps, np.float64).reshape(len(maps), -1)
    return np.asarray(np.sqrt(flat / flat.sum(axis=1, keepdims=True)))


def clusters(vectors: Array, most: int = 8, seed: int = 0) -> Array:
    """Spectral clusters of 4 or more unit vectors (n, features), 2 to ``most``: as many as the largest gap of eigenvalues has.

    Returns
    -------
    ndarray
        (n,) the cluster of each, from 0.
    """
    from scipy.sparse.csgraph import laplacian
    from sklearn.cluster import KMeans

    values, eigenvectors = np.linalg.eigh(laplacian(_affinities(vectors), normed=True))
    most = min(most, len(vectors) - 2)
    gaps = np.diff(values[: most + 1])[1:]  # behind the second, the third, … eigenvalue
    count = int(gaps.argmax()) + 2
    embedding = eigenvectors[:, :count]
    embedding = embedding / np.maximum(np.linalg.norm(embedding, axis=1, keepdims=True), 1e-12)
    labels = KMeans(count, n_init=4, random_state=seed).fit(embedding).labels_
    return np.asarray(np.unique(labels, return_inverse=True)[1])


def _affinities(vectors: Array) -> Array:
    """The graph that joins each vector with its nearest, by affinities with local scales, (n, n)."""
    distances = np.clip(1 - vectors @ vectors.T, 0, None)
    np.fill_diagonal(distances, 0)
    count = len(distances)
    ranked = np.sort(distances, axis=1)
    scale = np.maximum(ranked[:, min(_SCALE, count - 1)], 1e-12)
    affinity = np.exp(-(distances**2) / (scale[:, None] * scale[None, :]))
    nearest = max(_SCALE, round(np.sqrt(count)))
    joined = distances <= ranked[:, [min(nearest, count - 1)]]
    affinity = np.where(joined | joined.T, affinity, 0)
    np.fill_diagonal(affinity, 0)
    return np.asarray(affinity)


@dataclass(frozen=True)
class Group:
    """Maps that have their relevance in a common place.

    Attributes
    ----------
    members
        Positions of the maps.
    coherence
        Median Bhattacharyya coefficient of two members, [0, 1]: a stray member doesn't count.
    separation
        How much nearer members lie to each other than to the rest: 1 - median distance inside / median distance to the rest.
    """

    members: Array
    coherence: float
    separation: float


def groups(vectors: Array, others: Array | None = None, most: int = 8, seed: int = 0) -> list[Group]:
    """Groups of 4 or more unit vectors (n, features), the most coherent first: spectral clusters, those that are alike joined.

    Parameters
    ----------
    others
        What all of the vectors are held against where they are one group.
    """
    found = _joined(vectors, clusters(vectors, most, seed))
    alike = vectors @ vectors.T
    groups_ = []
    for label in range(int(found.max()) + 1):
        inside = found == label
        count = int(inside.sum())
        if count < 2:
            continue
        coherence = float(np.median(alike[np.ix_(inside, inside)][np.triu_indices(count, 1)]))
        rest = vectors[~inside] if not inside.all() else others
        apart = 1 - float(np.median(vectors[inside] @ rest.T)) if rest is not None and len(rest) else 0.0
        groups_.append(Group(np.flatnonzero(inside), coherence, 1 - (1 - coherence) / apart if apart > 0 else 0.0))
    return sorted(groups_, key=lambda group: (-group.coherence, group.members[0]))


def _joined(vectors: Array, labels: Array) -> Array:
    """Labels with clusters joined, the most alike first, that are nearly as like each other as they are inside."""
    labels = labels.copy()
    while (count := int(labels.max()) + 1) > 1:
        sums = np.stack([vectors[labels == label].sum(axis=0) for label in range(count)])
        sizes = np.bincount(labels)
        pairs = np.maximum(sizes * (sizes - 1), 1)
        inside = np.where(sizes > 1, ((sums * sums).sum(axis=1) - sizes) / pairs, 1.0)
        ratio = (sums @ sums.T) / (sizes[:, None] * sizes[None, :]) / np.minimum(inside[:, None], inside[None, :])
        np.fill_diagonal(ratio, 0)
        one, other = sorted(divmod(int(ratio.argmax()), count))
        if ratio[one, other] < _ALIKE:
            break
        labels[labels == other] = one
        _, labels = np.unique(labels, return_inverse=True)
    return labels


def shifted(maps: Array, rng: np.random.Generator) -> Array:
    """Maps (n, places…), each moved around by chance, what leaves at one side coming in at the other: no place is common."""
    found = np.empty_like(maps)
    for at, map_ in enumerate(maps):
        shifts: Sequence[int] = [int(rng.integers(size)) for size in map_.shape]
        found[at] = np.roll(map_, shifts, range(map_.ndim))
    return found
