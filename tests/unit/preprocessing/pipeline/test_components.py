import itertools

import apache_beam as beam
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to

from preprocessing.pipeline.components import FindComponents, Label, find_roots, link_to_smallest


def node(number):
    return f"{number:04d}.wav".encode(), number


def edges(*pairs):
    return [(node(left), node(right)) for left, right in pairs]


CLIQUE = edges(*itertools.combinations(range(10, 30), 2))
CHAIN = edges(*((100 + n, 101 + n) for n in range(40)))
STARS = [edges(*((center, n) for n in range(200, 240) if n != center)) for center in (199, 220, 250)]
BRIDGED_CLIQUES = edges(
    *itertools.combinations(range(300, 306), 2), *itertools.combinations(range(310, 316), 2), (303, 314)
)


def test_each_node_gets_the_smallest_node_of_its_component():
    everything = [*CLIQUE, *CHAIN, *STARS[2], *BRIDGED_CLIQUES]
    shuffled = everything[::3] + everything[1::3] + everything[2::3]
    smallest = {node(n): node(10) for n in range(10, 30)}
    smallest |= {node(n): node(100) for n in range(100, 141)}
    smallest |= {node(n): node(200) for n in (*range(200, 240), 250)}
    smallest |= {node(n): node(300) for n in (*range(300, 306), *range(310, 316))}
    with TestPipeline() as pipeline:
        found = pipeline | beam.Create(shuffled) | FindComponents()
        assert_that(found, equal_to(list(smallest.items())))


def test_without_pairs_there_are_no_components():
    with TestPipeline() as pipeline:
        assert_that(pipeline | beam.Create([]) | FindComponents(), equal_to([]))


@pytest.mark.parametrize(("graph", "links"), [(CLIQUE, 0), *zip(STARS, (0, 1, 0), strict=True), (CHAIN, 39)])
def test_only_links_between_stars_go_to_every_worker(graph, links):
    def group(pairs):
        ordered = sorted(pairs)
        return [
            (key, [other for _, other in found]) for key, found in itertools.groupby(ordered, lambda e: e[0])
        ]

    stars = [edge for near in group([*graph, *(e[::-1] for e in graph)]) for edge in link_to_smallest(near)]
    labeled = [output for near in group(stars) for output in Label().process(near)]
    assert sum(isinstance(output, beam.pvalue.TaggedOutput) for output in labeled) == links


def test_roots_do_not_depend_on_the_order_of_the_edges():
    expected = {node(n): node(100) for n in range(100, 141)}
    assert find_roots(CHAIN) == find_roots(CHAIN[::-1]) == find_roots(CHAIN[::2] + CHAIN[1::2]) == expected
