import math

import numpy as np
import pytest
import tensorflow as tf
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree

from trainer.dsp.spanning_tree import LEVELS, Edges, Forest, join_trees, level_of, wrap

NODES, EDGES = 400, 1_000


def make_edges(seed: int = 0, nodes: int = NODES, count: int = EDGES) -> Edges:
    """Edges between different nodes, whose levels are all different."""
    rng = np.random.default_rng(seed)
    start = rng.integers(nodes, size=count)
    end = (start + rng.integers(1, nodes, size=count)) % nodes
    pairs = np.unique(np.sort(np.stack([start, end], axis=1), axis=1), axis=0)
    start, end = rng.permuted(pairs, axis=1).T
    turn = rng.uniform(-math.pi, math.pi, size=len(pairs)).astype(np.float32)
    level = rng.permutation(LEVELS)[: len(pairs)].astype(np.float64)
    return Edges(start.astype(np.int32), end.astype(np.int32), turn, level)


def single_nodes(nodes: int = NODES) -> Forest:
    return Forest(tf.range(nodes), tf.zeros([nodes]), tf.constant(nodes))


def angles_along_tree(edges: Edges, nodes: int = NODES) -> tuple[np.ndarray, np.ndarray]:
    """Component and angle of each node, from scipy's spanning tree; the first node of a component has the angle 0."""
    shape = (nodes, nodes)
    graph = coo_matrix((LEVELS - edges.level, (edges.start, edges.end)), shape)
    turns = coo_matrix((edges.turn, (edges.start, edges.end)), shape).tocsr()
    tree = minimum_spanning_tree(graph)
    _, component = connected_components(tree, directed=False)
    angle = np.zeros(nodes)
    for root in np.unique(component, return_index=True)[1]:
        order, parent = breadth_first_order(tree, root, directed=False)
        for node in order[1:]:
            turn = turns[parent[node], node] - turns[node, parent[node]]
            angle[node] = angle[parent[node]] + turn
    return component, angle


def distance(angles: np.ndarray, others: np.ndarray) -> float:
    return float(np.abs(wrap(tf.constant(angles - others, tf.float32))).max())


@pytest.mark.parametrize("count", [150, EDGES])  # most nodes in small trees, and most in one
def test_angles_are_the_sums_of_turns_along_the_maximum_spanning_tree(count):
    edges = make_edges(count=count)
    forest = join_trees(single_nodes(), edges)
    component, angle = angles_along_tree(edges)
    assert int(forest.count) == component.max() + 1
    for number in range(component.max() + 1):
        nodes = np.flatnonzero(component == number)
        assert len(set(forest.tree.numpy()[nodes])) == 1
        found = forest.angle.numpy()[nodes]
        assert distance(found - found[0], angle[nodes] - angle[nodes[0]]) < 1e-4


def test_a_tree_that_is_given_keeps_the_angles_between_its_nodes():
    given = np.maximum(np.arange(NODES, dtype=np.int32) - 49, 0)
    angles = np.where(given == 0, np.arange(NODES) / 10, 0).astype(np.float32)
    forest = join_trees(
        Forest(tf.constant(given), tf.constant(angles), tf.constant(NODES - 49)), make_edges()
    )
    found = forest.angle.numpy()[:50]
    assert len(set(forest.tree.numpy()[:50])) == 1
    assert distance(found - found[0], angles[:50] - angles[0]) < 1e-5


def test_edges_of_equal_level_make_no_circle():
    edges = make_edges()._replace(level=np.zeros(len(make_edges().level)))
    forest = join_trees(single_nodes(), edges)
    assert (
        int(forest.count)
        == connected_components(
            coo_matrix((np.ones(len(edges.start)), (edges.start, edges.end)), (NODES, NODES)), directed=False
        )[0]
    )


def test_without_edges_every_node_stays_on_its_own():
    none = Edges(*(values[:0] for values in make_edges()))
    forest = join_trees(single_nodes(3), none)
    assert forest.tree.numpy().tolist() == [0, 1, 2]
    assert forest.angle.numpy().tolist() == [0.0, 0.0, 0.0]


def test_a_long_chain_is_summed_exactly():
    nodes = 20_000
    steps = np.arange(nodes - 1, dtype=np.int32)
    turn = np.full(nodes - 1, 0.25 * math.pi, np.float32)
    levels = np.random.default_rng(0).permutation(nodes - 1).astype(np.float64)
    forest = join_trees(single_nodes(nodes), Edges(steps, steps + 1, turn, levels))
    found = forest.angle.numpy()
    assert int(forest.count) == 1
    assert distance(found - found[0], np.arange(nodes) % 8 * 0.25 * math.pi) < 2e-3


def test_levels_divide_the_range_of_weights():
    weights = tf.constant([-2.1, -2.0, 0.0, 2.0, 2.1])
    expected = [0, 0, (LEVELS - 1) // 2, LEVELS - 1, LEVELS - 1]
    assert level_of(weights, -2.0, 2.0).numpy().tolist() == expected
