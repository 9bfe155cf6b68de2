"""Angles of nodes from the turns between neighbours: sums along the maximum spanning tree of a graph.

Borůvka's algorithm (1926), whose steps are operations on all trees at once: each tree picks its heaviest edge to
another one, and joined trees become one. A round leaves at most half of the trees, so that a million nodes take about
ten rounds.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import tensorflow as tf

LEVELS = 2**21  # of weights. A float64 holds a level and an index of 31 bits exactly.
_INDICES = 2**31


class Edges(NamedTuple):
    """Edges between nodes, or between trees of nodes; all `[edges]`."""

    start: tf.Tensor  # int32
    end: tf.Tensor  # int32
    turn: tf.Tensor  # float32, the angle of `end` minus that of `start`, radians
    level: tf.Tensor  # float64, the weight as a whole number from 0 to LEVELS - 1


class Forest(NamedTuple):
    """Trees of nodes, and the angle of each node relative to its tree."""

    tree: tf.Tensor  # [nodes] int32, from 0 to count - 1
    angle: tf.Tensor  # [nodes] float32, radians
    count: tf.Tensor  # of trees, scalar int32


def wrap(angle: tf.Tensor) -> tf.Tensor:
    """Return the same angle between -pi and pi."""
    return angle - 2 * math.pi * tf.round(angle / (2 * math.pi))


def level_of(weight: tf.Tensor, lowest: float, highest: float) -> tf.Tensor:
    """Divide weights between `lowest` and `highest` into LEVELS equal levels, float64; others get the nearest level."""
    position = tf.clip_by_value((weight - lowest) / (highest - lowest), 0.0, 1.0)
    return tf.floor(tf.cast(position, tf.float64) * (LEVELS - 1))


def join_trees(forest: Forest, edges: Edges) -> Forest:
    """Join all trees between which there is an edge, by the edges of the maximum spanning tree.

    Of edges of equal level, the later one counts as heavier, so that the result does not depend on chance.
    """

    def join(edges: Edges, forest: Forest) -> tuple[Edges, Forest]:
        joined = _join_by_heaviest(edges, forest.count)
        return _between_trees(edges, joined), _merge(forest, joined)

    some, one = tf.TensorShape([None]), tf.TensorShape([])
    _, forest = tf.while_loop(
        lambda edges, _: tf.size(edges.start) > 0,
        join,
        (_between_trees(edges, forest), forest),
        shape_invariants=(Edges(some, some, some, some), Forest(some, some, one)),
        parallel_iterations=1,
    )
    return forest


def _join_by_heaviest(edges: Edges, trees: tf.Tensor) -> Forest:
    """Join each of the `trees` that the edges connect to the one at the other end of its heaviest edge."""
    keys = edges.level * _INDICES + tf.cast(tf.range(tf.size(edges.start)), tf.float64)
    heaviest = tf.maximum(
        tf.math.unsorted_segment_max(keys, edges.start, trees),
        tf.math.unsorted_segment_max(keys, edges.end, trees),
    )
    has_edge = heaviest >= 0  # a tree without one has the lowest float64
    index = tf.cast(tf.math.floormod(tf.where(has_edge, heaviest, 0), _INDICES), tf.int32)
    start, end, turn = (tf.gather(values, index) for values in edges[:3])
    own = tf.range(trees)
    parent = tf.where(has_edge, tf.where(end == own, start, end), own)
    # Where two trees picked the same edge, the first one is the root of both.
    is_root = (parent == own) | ((tf.gather(parent, parent) == own) & (own < parent))
    parent = tf.where(is_root, own, parent)
    angle = tf.where(is_root, 0.0, tf.where(end == own, turn, -turn))
    root, angle = _sum_to_root(parent, angle)
    number = tf.cumsum(tf.cast(is_root, tf.int32))
    return Forest(tf.gather(number - 1, root), angle, number[-1])


def _sum_to_root(parent: tf.Tensor, angle: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Follow parents to the root and sum the angles, doubling the length of the way with each step."""

    def double(parent: tf.Tensor, angle: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, ...]:
        next_parent = tf.gather(parent, parent)
        return next_parent, wrap(angle + tf.gather(angle, parent)), tf.reduce_any(next_parent != parent)

    root, angle, _ = tf.while_loop(
        lambda _parent, _angle, is_moving: is_moving,
        double,
        (parent, angle, tf.constant(True)),
        parallel_iterations=1,
    )
    return root, angle


def _between_trees(edges: Edges, forest: Forest) -> Edges:
    """Replace nodes by their trees, and leave out edges within one tree."""
    start, end = tf.gather(forest.tree, edges.start), tf.gather(forest.tree, edges.end)
    turn = edges.turn + tf.gather(forest.angle, edges.start) - tf.gather(forest.angle, edges.end)
    is_between = start != end
    return Edges(*(tf.boolean_mask(values, is_between) for values in (start, end, wrap(turn), edges.level)))


def _merge(forest: Forest, joined: Forest) -> Forest:
    """Return the nodes of `forest` in the trees of `joined`, whose nodes are the trees of `forest`."""
    angle = wrap(forest.angle + tf.gather(joined.angle, forest.tree))
    return Forest(tf.gather(joined.tree, forest.tree), angle, joined.count)
