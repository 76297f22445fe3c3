"""Clusters and groups that were planted; what makes maps comparable."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import adjusted_rand_score

from analyzer.evaluation.spectral import block_starts, clusters, coarse, directions, groups, shifted


def _planted(sizes: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Maps (n, 12, 12) with a bump each, in the place of their group, and noise."""
    rng = np.random.default_rng(seed)
    places = [(2, 2), (9, 9), (2, 9), (9, 2)]
    labels = np.repeat(np.arange(len(sizes)), sizes)
    maps = rng.uniform(0, 0.02, (len(labels), 12, 12))
    for at, label in enumerate(labels):
        row, column = places[label]
        maps[at, row - 1 : row + 2, column - 1 : column + 2] += rng.uniform(0.5, 1, (3, 3))
    return maps, labels


def test_planted_groups_are_found_and_the_eigengap_counts_them() -> None:
    for sizes in ((20, 20), (12, 15, 20), (10, 10, 30, 20)):
        maps, labels = _planted(sizes)
        found = clusters(directions(maps))
        assert set(found) == set(range(len(sizes)))
        assert adjusted_rand_score(labels, found) == 1


def test_a_cluster_that_was_cut_in_two_is_one_group() -> None:
    maps, _ = _planted((30,))
    vectors = directions(maps)
    assert clusters(vectors).max() > 0  # at least two are always made
    other = directions(_planted((0, 20))[0])
    (group,) = groups(vectors, other)
    assert len(group.members) == 30
    alike = vectors @ vectors.T
    np.testing.assert_allclose(group.coherence, np.median(alike[~np.eye(30, dtype=bool)]), rtol=1e-10)
    apart = 1 - np.median(vectors @ other.T)
    np.testing.assert_allclose(group.separation, 1 - (1 - group.coherence) / apart, rtol=1e-10)


def test_products_of_directions_are_bhattacharyyas_coefficients() -> None:
    maps = np.random.default_rng(0).uniform(0, 1, (2, 3, 4))
    a, b = (each / each.sum() for each in maps)
    one, two = directions(maps)
    np.testing.assert_allclose(one @ two, np.sqrt(a * b).sum(), rtol=1e-12)
    np.testing.assert_allclose(one @ one, 1, rtol=1e-12)


def test_coarse_maps_keep_their_sum() -> None:
    maps = np.random.default_rng(0).uniform(0, 1, (2, 37, 5))
    found = coarse(maps, 8)
    assert found.shape == (2, 8, 5)
    np.testing.assert_allclose(found.sum(axis=(1, 2)), maps.sum(axis=(1, 2)), rtol=1e-12)
    first = block_starts(37, 8)[1]
    np.testing.assert_allclose(found[:, 0], maps[:, :first].sum(axis=1), rtol=1e-12)


def test_shifted_maps_keep_their_values_and_lose_their_place() -> None:
    maps, _ = _planted((40,))
    moved = shifted(maps, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(moved.reshape(40, -1)), np.sort(maps.reshape(40, -1)))
    assert max(group.separation for group in groups(directions(moved))) < 0.8
    assert groups(directions(maps), directions(moved))[0].separation > 0.8
