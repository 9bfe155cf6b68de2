"""The steps that join pairs of duplicates to sets, of which the first recording by name is kept.

The sets are the connected components of a graph, and no worker holds all of it. Copies of one recording are mostly
similar to each other, or identical to one of them, and then one round leaves a star around the smallest node, or two
stars with a link: each node tells its smaller neighbors the smallest one. Chains, whose ends are not similar to each
other, become chains of stars. Only links between stars, and no nodes, go to every worker.

Source: small-star of R. Kiveris et al., Connected Components in MapReduce and Beyond, SoCC 2014.
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
    """Yield edges between the smallest neighbor of a node and the node with its other smaller neighbors."""
    node, others = group
    smallest, *larger = sorted({node, *(other for other in others if other < node)})
    for other in larger:
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
