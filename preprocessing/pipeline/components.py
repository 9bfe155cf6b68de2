"""The steps that join pairs of duplicates to sets, of which the first recording by name is kept.

The sets are the connected components of a graph, and no worker holds all of it. Copies of one recording are mostly
similar to each other, and then one round suffices: each node sends its smallest neighbor to the others. Only chains,
whose ends are not similar to each other, remain to be joined; their links, and nothing else, go to every worker.

Source: large-star of R. Kiveris et al., Connected Components in MapReduce and Beyond, SoCC 2014.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import apache_beam as beam

Node = tuple[bytes, int]  # the name of a recording and its id: nodes sort by name
Edge = tuple[Node, Node]
LINKS = "links"  # output of `Label` beside the main one


class FindComponents(beam.PTransform):
    """Pairs of nodes -> `(node, smallest node of its component)` for each node that is in a pair."""

    def expand(self, edges: beam.PCollection) -> beam.PCollection:
        """Add the steps."""
        neighbors = edges | "In both directions" >> beam.FlatMap(both_directions)
        stars = (
            neighbors
            | "Group neighbors" >> beam.GroupByKey()
            | "Link to smallest" >> beam.FlatMap(link_to_smallest)
        )
        nodes = stars | "Group nodes" >> beam.GroupByKey()
        labeled = nodes | "Label" >> beam.ParDo(Label()).with_outputs(LINKS, main="labels")
        return labeled["labels"] | "Join chains" >> beam.ParDo(
            _JoinChains(), beam.pvalue.AsIter(labeled[LINKS])
        )


class _JoinChains(beam.DoFn):
    """`(node, label)` -> `(node, smallest node of its component)`."""

    def start_bundle(self) -> None:
        self.roots: dict[Node, Node] | None = None

    def process(self, labeled: Edge, links: Iterable[Edge]) -> Iterator[Edge]:
        if self.roots is None:
            self.roots = find_roots(links)
        node, label = labeled
        yield node, self.roots.get(label, label)


def both_directions(edge: Edge) -> Iterator[Edge]:
    """Yield an edge in both directions."""
    yield edge
    yield edge[::-1]


def link_to_smallest(group: tuple[Node, Iterable[Node]]) -> Iterator[Edge]:
    """Yield edges between a node's larger neighbors and the smallest one of the neighbors and the node."""
    node, others = group
    neighbors = set(others)
    smallest = min(node, *neighbors)
    for other in neighbors:
        if other > node:
            yield from both_directions((other, smallest))


class Label(beam.DoFn):
    """A node and its neighbors -> the node with its label, which is the smallest of these.

    Another output has pairs of labels that are in one component: the smaller neighbors of a node are, and so are its
    label and the node, if that is the label of a larger neighbor. A star around its smallest node has none.
    """

    def process(self, group: tuple[Node, Iterable[Node]]) -> Iterator[Edge | beam.pvalue.TaggedOutput]:
        """Yield label and links."""
        node, others = group
        neighbors = set(others)
        label, *smaller = sorted(other for other in {*neighbors, node} if other <= node)
        yield node, label
        links = [(other, label) for other in smaller if other < node]
        if label < node < max(neighbors):
            links.append((node, label))
        yield from (beam.pvalue.TaggedOutput(LINKS, link) for link in links)


def find_roots(edges: Iterable[Edge]) -> dict[Node, Node]:
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
