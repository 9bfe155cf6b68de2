"""The steps that find duplicate recordings across all shards; of each set, the first by name is kept.

Fingerprints select pairs of recordings that may be the same (`candidates`); their waveforms decide (`compare`); pairs
make sets (`components`). Each step is spread over all workers, and compares a recording with few others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import apache_beam as beam
from apache_beam.pvalue import AsIter

from preprocessing.features.neighbors import MAX_LEAF, TREES
from preprocessing.pipeline import candidates
from preprocessing.pipeline.compare import Compare, LocateFirst
from preprocessing.pipeline.components import FindComponents, Node


class Duplicate(NamedTuple):
    """A recording to drop."""

    row: int  # in its shard
    original: str  # URI of the recording that is kept


class FindDuplicates(beam.PTransform):
    """`(shard number, StagedShard)` -> `(shard number, Duplicate)`."""

    def __init__(self, sample_rate_hz: int, recordings: int) -> None:
        """Set up the step.

        Args:
            sample_rate_hz: Of the clips in the shards.
            recordings: About how many there are, which determines how the work is divided.
        """
        super().__init__()
        self.sample_rate_hz = sample_rate_hz
        self.recordings = recordings

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        """Add the steps."""
        pairs = shards | "Find candidates" >> FindCandidates(self.recordings)
        located = (
            (shards, pairs)
            | "Join pairs" >> beam.Flatten()
            | "Group pairs" >> beam.GroupByKey()
            | "Locate first" >> beam.ParDo(LocateFirst())
        )
        edges = (
            (shards, located)
            | "Join candidates" >> beam.Flatten()
            | "Group candidates" >> beam.GroupByKey()
            | "Compare" >> beam.ParDo(Compare(self.sample_rate_hz))
        )
        return edges | "Join sets" >> FindComponents() | "Select copies" >> beam.FlatMap(_duplicates)


class FindCandidates(beam.PTransform):
    """`(shard number, StagedShard)` -> blocks of `candidates.PAIR`, keyed by the first recording's shard."""

    def __init__(self, recordings: int) -> None:
        super().__init__()
        self.keys = candidates.key_count(recordings)
        self.trees = TREES if recordings > MAX_LEAF else 1  # a single leaf is searched completely
        self.sampled_fraction = candidates.SAMPLES_PER_CELL * self.keys / recordings if self.keys > 1 else 0.0

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        """Add the steps."""
        distinct, identical, sample = (
            shards
            | "Read recordings" >> beam.ParDo(candidates.ReadRecordings(self.keys))
            | "Group contents" >> beam.GroupByKey()
            | "Find identical files"
            >> beam.ParDo(candidates.FindIdentical(self.sampled_fraction)).with_outputs(
                candidates.IDENTICAL, candidates.SAMPLE, main="distinct"
            )
        )
        if self.keys > 1:
            similar = [
                distinct | f"Tree {tree}" >> SearchTree(tree, self.keys, sample) for tree in range(self.trees)
            ]
        else:  # one block has all rows
            search = beam.FlatMap(candidates.find_in_block, trees=self.trees)
            similar = [distinct | "Find similar" >> search]
        return (identical, *similar) | "Merge candidates" >> beam.Flatten()


class SearchTree(beam.PTransform):
    """Blocks of `candidates.FINGERPRINT` -> blocks of `candidates.PAIR`, as `FindCandidates`.

    Each tree groups all fingerprints anew, in steps of its own: the local runner holds what a step groups in memory.
    """

    def __init__(self, tree: int, cells: int, sample: beam.PCollection) -> None:
        super().__init__()
        self.tree = tree
        self.cells = cells
        self.sample = sample

    def expand(self, fingerprints: beam.PCollection) -> beam.PCollection:
        """Add the steps."""
        return (
            fingerprints
            | "Assign cells" >> beam.ParDo(candidates.AssignCells(self.tree, self.cells), AsIter(self.sample))
            | "Group cells" >> beam.GroupByKey()
            | "Find similar" >> beam.ParDo(candidates.FindSimilar(self.tree, self.cells))
        )


def _duplicates(labeled: tuple[Node, Node]) -> Iterator[tuple[int, Duplicate]]:
    """Yield a recording that is not the first of its set.

    One file may be a recording of two splits, by the reference's lists.
    """
    (name, recording), (original, _) = labeled
    if name != original:
        number, row = candidates.shard_and_row(recording)
        yield number, Duplicate(row, original.decode("utf-8", "surrogatepass"))
