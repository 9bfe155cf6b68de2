import numpy as np
import pytest
from scipy.spatial import distance

from preprocessing.features import neighbors
from preprocessing.features.fingerprint import FINGERPRINT_BYTES

RADIUS = 12  # 0.75 dB in each of 64 dimensions, in steps of half a decibel


def curves(count, seed=0):
    """Return fingerprints whose two halves are slow curves with noise."""
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.normal(0, 4, (count, FINGERPRINT_BYTES // 2)), axis=1)
    levels = 150 + np.hstack([walk, 0.8 * walk]) + rng.normal(0, 2, (count, FINGERPRINT_BYTES))
    return np.clip(np.round(levels), 0, 255).astype(np.uint8)


def with_copies(fingerprints, count, seed=1):
    """Append copies of the first ones, as a codec would leave them."""
    rng = np.random.default_rng(seed)
    noise = rng.choice([-1, 0, 1], (count, FINGERPRINT_BYTES), p=[0.15, 0.7, 0.15])
    return np.concatenate([fingerprints, np.clip(fingerprints[:count] + noise, 0, 255).astype(np.uint8)])


def pairs(found):
    return set(zip(found.first.tolist(), found.second.tolist(), strict=True))


def test_a_leaf_is_searched_completely():
    points = with_copies(curves(500), 100)
    found = neighbors.find_in_cell(points, tree=0, depth=0)
    distances = distance.squareform(distance.pdist(points.astype(float)))
    near = np.argwhere(np.triu(distances < RADIUS, 1))
    assert pairs(found) == {tuple(pair) for pair in near.tolist()} >= {(n, 500 + n) for n in range(100)}
    measured = np.square(distances[found.first, found.second])
    np.testing.assert_allclose(found.squared_distance, measured)


def test_trees_find_copies_among_more_than_a_leaf():
    points = with_copies(curves(3 * neighbors.MAX_LEAF), 400)
    copies = {(n, 3 * neighbors.MAX_LEAF + n) for n in range(400)}
    found = [pairs(neighbors.find_in_cell(points, tree, depth=0)) for tree in range(neighbors.TREES)]
    assert all(len(copies & one) > 0.8 * len(copies) for one in found)
    assert copies <= set().union(*found)


def test_cells_are_of_similar_size_and_keep_copies_together():
    points = with_copies(curves(4_000), 400)
    together = np.zeros(400, int)
    for tree in range(neighbors.TREES):
        medians = neighbors.cell_medians(points[::4], tree, depth=3)
        cells = neighbors.cells_of(points, tree, medians)
        assert np.bincount(cells, minlength=8).min() > 250
        together += cells[:400] == cells[4_000:]
    assert together.min() > 0
    assert together.mean() > 0.85 * neighbors.TREES


def test_without_a_sample_all_fingerprints_are_in_one_cell():
    empty = np.empty((0, FINGERPRINT_BYTES), np.uint8)
    medians = neighbors.cell_medians(empty, tree=0, depth=2)
    assert len(set(neighbors.cells_of(curves(9), 0, medians).tolist())) == 1
    assert neighbors.find_in_cell(empty, tree=0, depth=2).first.size == 0


def test_where_all_are_alike_each_is_paired_with_a_limited_number():
    count = neighbors.MAX_LEAF + 100
    found = neighbors.find_in_cell(np.full((count, FINGERPRINT_BYTES), 160, np.uint8), tree=0, depth=0)
    assert np.bincount(found.first).max() == neighbors.MAX_NEIGHBORS
    assert len(found.first) < neighbors.MAX_NEIGHBORS * count


def test_the_nearest_are_kept_once_each():
    second = np.arange(40) % 20 + 1
    first = np.zeros(40, int)
    kept = neighbors.nearest(neighbors.Neighbors(first, second, 100 - second // 2))
    assert kept.second.tolist() == [20, 18, 19, 16, 17, 14, 15, 12, 13, 10, 11, 8, 9, 6, 7, 4]


@pytest.mark.parametrize("order", [1, -1])
def test_projections_are_integral_so_that_no_rounding_depends_on_the_machine(order):
    points = curves(100)[::order]
    projections = neighbors.project(points, tree=1)
    np.testing.assert_array_equal(projections, np.round(projections))
    one_by_one = np.concatenate([neighbors.project(point[None], tree=1) for point in points])
    np.testing.assert_array_equal(projections, one_by_one)
