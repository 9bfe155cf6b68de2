"""Find similar fingerprints among millions: locality-sensitive hashing by random projection trees.

A tree halves all fingerprints at the median of one random projection, each half again by another projection, and so
on; the fingerprints in a leaf are compared with each other. Two similar ones are mostly on the same side of a median,
and where one tree separates them, another does not. The time grows with n log n, and memory not at all: the upper
levels, whose medians come from a sample, divide the fingerprints into cells, and each cell is searched by itself.

The projections are of smooth descriptions: the lowest coefficients of a cosine transform of the sums and of the
differences of a fingerprint's two halves. Music differs most there, and the effects of codecs and cuts are smallest.
All arithmetic is on integers, so results are the same on any machine.

Source: S. Dasgupta and Y. Freund, Random projection trees and low dimensional manifolds, STOC 2008.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from preprocessing.features.fingerprint import FINGERPRINT_BYTES, MAX_DIFFERENCE_DB, SLICES, STEP_DB

TREES = 8
MAX_LEAF = 2048  # fingerprints that are all compared with each other: below that, none is missed
MAX_NEIGHBORS = (
    16  # that each fingerprint is paired with; in a collection of noises, all fingerprints are similar
)
SUM_COEFFICIENTS, DIFFERENCE_COEFFICIENTS = 12, 4
LEVELS = 40  # enough for 2**40 leaves
DIRECTION_SCALE = 256  # rounding to integers changes a direction by a thousandth
STRIP = 256  # rows compared at a time
MAX_SQUARED_DISTANCE = FINGERPRINT_BYTES * round((MAX_DIFFERENCE_DB / STEP_DB) ** 2 * 4) // 4


class Neighbors(NamedTuple):
    """Pairs of similar fingerprints.

    `first`, `second` are `[pairs]` int64 indices, of which the first is smaller, and `squared_distance` is `[pairs]`
    int64, in steps of the fingerprint's quantization.
    """

    first: np.ndarray
    second: np.ndarray
    squared_distance: np.ndarray


def project(fingerprints: np.ndarray, tree: int, levels: int = LEVELS) -> np.ndarray:
    """Return the projections by which the first levels of a tree are split.

    Args:
        fingerprints: `[n, FINGERPRINT_BYTES]` uint8.
        tree: The number of the tree.
        levels: The number of levels.

    Returns:
        `[n, levels]` float64, with integral values.
    """
    return fingerprints.astype(np.float64) @ _DIRECTIONS[tree, :, :levels]


def cell_medians(sample: np.ndarray, tree: int, depth: int) -> np.ndarray:
    """Return where the upper `depth` levels of a tree are split, estimated from a sample of fingerprints.

    Args:
        sample: `[n, FINGERPRINT_BYTES]` uint8.
        tree: The number of the tree.
        depth: The number of levels; a tree has `2**depth` cells.

    Returns:
        `[2**depth]` float64: the children of node `i` are `2 * i` and `2 * i + 1`, and the root is node 1.
    """
    medians = np.zeros(2**depth)
    projections = project(sample, tree, depth)
    nodes = np.ones(len(sample), np.int64)
    for level in range(depth):
        for node in range(2**level, 2 ** (level + 1)):
            values = np.sort(projections[nodes == node, level])
            medians[node] = values[len(values) // 2] if len(values) else 0.0
        nodes = 2 * nodes + (projections[:, level] >= medians[nodes])
    return medians


def cells_of(fingerprints: np.ndarray, tree: int, medians: np.ndarray) -> np.ndarray:
    """Return the cell of each fingerprint in a tree: `[n]` int64.

    Args:
        fingerprints: `[n, FINGERPRINT_BYTES]` uint8.
        tree: The number of the tree.
        medians: See `cell_medians`.
    """
    depth = len(medians).bit_length() - 1
    projections = project(fingerprints, tree, depth)
    nodes = np.ones(len(fingerprints), np.int64)
    for level in range(depth):
        nodes = 2 * nodes + (projections[:, level] >= medians[nodes])
    return nodes - 2**depth


def find_in_cell(fingerprints: np.ndarray, tree: int, depth: int) -> Neighbors:
    """Return the pairs of similar fingerprints in a cell, of each one at most `MAX_NEIGHBORS`; see `nearest`.

    Args:
        fingerprints: `[n, FINGERPRINT_BYTES]` uint8.
        tree: The number of the tree.
        depth: The level of the cell in the tree.
    """
    found = [_find_in_leaf(fingerprints, leaf) for leaf in _leaves(fingerprints, tree, depth)]
    return Neighbors(*(np.concatenate(arrays) for arrays in zip(*found, strict=True)))


def nearest(neighbors: Neighbors) -> Neighbors:
    """Return the pairs of each fingerprint with the nearest `MAX_NEIGHBORS` of the later ones, without repetitions.

    Of equally near ones, those with the smallest index are kept.
    """
    order = np.lexsort((neighbors.second, neighbors.squared_distance, neighbors.first))
    first, second, squared_distance = (array[order] for array in neighbors)
    is_new = np.ones(len(first), bool)
    is_new[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    first, second, squared_distance = first[is_new], second[is_new], squared_distance[is_new]
    starts = np.flatnonzero(np.diff(first, prepend=-1))
    rank = np.arange(len(first)) - np.repeat(starts, np.diff(starts, append=len(first)))
    kept = rank < MAX_NEIGHBORS
    return Neighbors(first[kept], second[kept], squared_distance[kept])


def _leaves(fingerprints: np.ndarray, tree: int, depth: int) -> Iterator[np.ndarray]:
    """Yield the indices of the fingerprints in each leaf: `[at most MAX_LEAF]` int64."""
    if len(fingerprints) <= MAX_LEAF:
        yield np.arange(len(fingerprints))
        return
    projections = project(fingerprints, tree)
    groups = [(np.arange(len(fingerprints)), depth)]
    while groups:
        group, level = groups.pop()
        if len(group) <= MAX_LEAF:
            yield group
            continue
        # By rank, so that the halves are of one size, whatever the values are.
        order = group[np.argsort(projections[group, level % LEVELS], kind="stable")]
        half = len(order) // 2
        groups += [(order[:half], level + 1), (order[half:], level + 1)]


def _find_in_leaf(fingerprints: np.ndarray, leaf: np.ndarray) -> Neighbors:
    """Compare all fingerprints of a leaf with each other."""
    points = fingerprints[leaf].astype(np.float32)  # in which products of bytes and their sums are exact
    half_squares = np.einsum("ij,ij->i", points, points) / 2
    firsts, seconds, distances = [], [], []
    for start in range(0, max(1, len(points)), STRIP):
        strip = slice(start, start + STRIP)
        similarity = points[strip] @ points[start:].T
        similarity -= half_squares[strip, None]
        similarity -= half_squares[None, start:]  # now minus half of the squared distance
        first, second = np.nonzero(similarity > -MAX_SQUARED_DISTANCE / 2)
        above = first < second
        first, second = first[above], second[above]
        distances.append((-2 * similarity[first, second]).astype(np.int64))
        firsts.append(leaf[first + start])
        seconds.append(leaf[second + start])
    first, second, distance = map(np.concatenate, (firsts, seconds, distances))
    return nearest(Neighbors(np.minimum(first, second), np.maximum(first, second), distance))


def _directions() -> np.ndarray:
    """Return the directions of all projections: `[TREES, FINGERPRINT_BYTES, LEVELS]` float64, integral values."""
    position = np.arange(SLICES) + 0.5
    cosines = np.cos(np.pi / SLICES * np.outer(np.arange(SUM_COEFFICIENTS), position))
    cosines[0] /= np.sqrt(2)  # makes them orthogonal and of one length
    low = cosines[:DIFFERENCE_COEFFICIENTS]
    basis = np.concatenate([np.hstack([cosines, cosines]), np.hstack([low, -low])]) / np.sqrt(SLICES)
    # The legacy generator, whose numbers no version of NumPy changes.
    weights = np.random.RandomState(0).standard_normal((TREES, LEVELS, len(basis)))
    return np.round(DIRECTION_SCALE * np.swapaxes(weights @ basis, 1, 2))


_DIRECTIONS = _directions()
