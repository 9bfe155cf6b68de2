"""The steps that join pairs of duplicates to sets, of which the first recording by name is kept.

The sets are the connected components of a graph, and no worker holds all of it. Copies of one recording are mostly
similar to each other, and then one round suffices: each node sends its smallest neighbor to the others. Only chains,
whose ends are not similar to each other, remain to be joined; their links, and nothing else, go to one worker.

Source: large-star of R. Kiveris et al., Connected Components in MapReduce and Beyond, SoCC 2014.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import apache_beam as beam

Node = tuple[bytes, int]  # the name of a recording and its id: nodes sort by name
Edge = tuple[Node, Node]


class FindComponents(beam.PTransform):
    """Pairs of nodes -> `(node, smallest node of its component)` for each node that is in a pair."""

    def expand(self, edges: beam.PCollection) -> beam.PCollection:
        """Add the steps."""
        stars = edges | "To neighbors" >> beam.FlatMap(both_directions)
        stars = (
            stars
            | "Group neighbors" >> beam.GroupByKey()
            | "Link to smallest" >> beam.FlatMap(link_to_smallest)
        )
        nodes = stars | "To nodes" >> beam.FlatMap(both_directions) | "Group nodes" >> beam.GroupByKey()
        labels = nodes | "Label" >> beam.FlatMap(label)
        links = nodes | "Find links" >> beam.FlatMap(links_between_labels)
        roots = links | "Collect links" >> beam.combiners.ToList() | "Join chains" >> beam.Map(find_roots)
        return labels | "Find root" >> beam.Map(_with_root, roots=beam.pvalue.AsSingleton(roots))


def both_directions(edge: Edge) -> Iterator[Edge]:
    """Yield an edge in both directions."""
    yield edge
    yield edge[::-1]


def link_to_smallest(group: tuple[Node, Iterable[Node]]) -> Iterator[Edge]:
    """Yield edges from a node's larger neighbors to the smallest one of the neighbors and the node."""
    node, others = group
    neighbors = set(others)
    smallest = min(node, *neighbors)
    yield from ((other, smallest) for other in sorted(neighbors) if other > node)


def label(group: tuple[Node, Iterable[Node]]) -> Iterator[Edge]:
    """Yield a node with its label: the smallest one of its neighbors and itself."""
    node, others = group
    yield node, min(node, *others)


def links_between_labels(group: tuple[Node, Iterable[Node]]) -> Iterator[Edge]:
    """Yield the pairs of labels that are in one component; there are none in a star around its smallest node.

    The smaller neighbors of a node are in one component. So are its own label and the node, if that is the label of a
    larger neighbor.
    """
    node, others = group
    neighbors = set(others)
    smaller = sorted(other for other in neighbors if other < node)
    yield from ((other, smaller[0]) for other in smaller[1:])
    if smaller and max(neighbors) > node:
        yield node, smaller[0]


def find_roots(edges: list[Edge]) -> dict[Node, Node]:
    """Return the smallest node of its component for each node of the edges."""
    roots: dict[Node, Node] = {}

    def find(node: Node) -> Node:
        while (parent := roots.setdefault(node, node)) != node:
            roots[node] = roots[parent]  # halves the path for the next search
            node = parent
        return node

    for left, right in edges:
        smaller, larger = sorted((find(left), find(right)))
        roots[larger] = smaller
    return {node: find(node) for node in list(roots)}


def _with_root(labeled: Edge, roots: dict[Node, Node]) -> Edge:
    node, label = labeled
    return node, roots.get(label, label)
