"""The steps that select pairs of recordings which may be duplicates: identical files, and similar fingerprints.

A recording is a row of an array, and arrays of rows travel as one element. Keys are hash partitions, cells of trees or
shards, so that no worker sees all rows. See `preprocessing.features.neighbors` for the search.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator

import apache_beam as beam
import numpy as np

from preprocessing.features import neighbors
from preprocessing.features.fingerprint import FINGERPRINT_BYTES
from preprocessing.pipeline.shard_files import StagedShard

ROWS_PER_KEY = 16_384  # a worker holds so many rows at a time, on average
SAMPLES_PER_CELL = 64  # from which the medians of the upper levels are estimated
ROW_BITS = 32  # of a recording's id, which is the number of its shard and its row in it

CONTENT = np.dtype([("sha256", "S32"), ("id", "<i8"), ("fingerprint", "u1", FINGERPRINT_BYTES)])
FINGERPRINT = np.dtype([("id", "<i8"), ("fingerprint", "u1", FINGERPRINT_BYTES)])
PAIR = np.dtype([("first", "<i8"), ("second", "<i8"), ("squared_distance", "<i8")])  # first < second
IDENTICAL_FILES = -1  # in place of a distance

Block = tuple[int, bytes]  # the bytes of an array of one of these types, with the key that all its rows have
IDENTICAL, SAMPLE = "identical", "sample"  # outputs beside the main one


def shard_and_row(recording: int) -> tuple[int, int]:
    """Return the number of a recording's shard, and its row in it."""
    return recording >> ROW_BITS, recording & (1 << ROW_BITS) - 1


def key_count(recordings: int) -> int:
    """Return the number of keys over which the rows of a job are spread: a power of two."""
    return 1 << max(0, math.ceil(math.log2(max(1, recordings) / ROWS_PER_KEY)))


class ReadRecordings(beam.DoFn):
    """`(shard number, StagedShard)` -> blocks of `CONTENT`, keyed by a hash of the content."""

    def __init__(self, keys: int) -> None:
        self.keys = keys

    def process(self, element: tuple[int, StagedShard]) -> Iterator[Block]:
        """Read the shard's description."""
        number, shard = element
        description = shard.describe()
        rows = []
        for row, (recording_id, positions) in enumerate(description.recordings().items()):
            entry = description.entries[positions[0]]
            if recording_id not in description.invalid and entry.fingerprint:
                fingerprint = np.frombuffer(bytes.fromhex(entry.fingerprint), np.uint8)
                rows.append((bytes.fromhex(entry.source_sha256), number << ROW_BITS | row, fingerprint))
        content = np.array(rows, CONTENT)
        yield from _by_key(content, _uniform(content) % self.keys)


class FindIdentical(beam.DoFn):
    """Blocks of `CONTENT` with one key -> a block of `FINGERPRINT`, one row per content.

    Other outputs: blocks of `PAIR` for identical files, keyed by the first one's shard, and a sample of fingerprints.
    """

    def __init__(self, sampled_fraction: float) -> None:
        self.sampled_fraction = sampled_fraction

    def process(self, group: tuple[int, Iterable[bytes]]) -> Iterator[bytes | beam.pvalue.TaggedOutput]:
        """Compare SHA-256 digests."""
        rows = _concatenate(group[1], CONTENT)
        rows = rows[np.lexsort((rows["id"], rows["sha256"]))]
        is_first = np.ones(len(rows), bool)
        is_first[1:] = rows["sha256"][1:] != rows["sha256"][:-1]
        first_of = rows["id"][np.maximum.accumulate(np.where(is_first, np.arange(len(rows)), 0))]
        for block in _pairs(first_of[~is_first], rows["id"][~is_first], IDENTICAL_FILES):
            yield beam.pvalue.TaggedOutput(IDENTICAL, block)
        distinct = rows[is_first]
        if self.sampled_fraction:
            is_sampled = _uniform(distinct) < self.sampled_fraction * 2**32
            yield beam.pvalue.TaggedOutput(SAMPLE, distinct["fingerprint"][is_sampled].tobytes())
        yield distinct[["id", "fingerprint"]].astype(FINGERPRINT).tobytes()


class AssignCells(beam.DoFn):
    """A block of `FINGERPRINT` -> blocks keyed by the cells of a tree."""

    def __init__(self, tree: int, cells: int) -> None:
        self.tree = tree
        self.depth = cells.bit_length() - 1

    def start_bundle(self) -> None:
        """Forget the medians."""
        self.medians: np.ndarray | None = None

    def process(self, block: bytes, sample: Iterable[bytes]) -> Iterator[Block]:
        """Sort the rows into cells, which are bounded by medians of the sample."""
        if self.medians is None:
            fingerprints = np.frombuffer(b"".join(sample), np.uint8).reshape(-1, FINGERPRINT_BYTES)
            self.medians = neighbors.cell_medians(fingerprints, self.tree, self.depth)
        rows = np.frombuffer(block, FINGERPRINT)
        yield from _by_key(rows, neighbors.cells_of(rows["fingerprint"], self.tree, self.medians))


class FindSimilar(beam.DoFn):
    """Blocks of `FINGERPRINT` in one cell of a tree -> blocks of `PAIR`, keyed by the first one's shard."""

    def __init__(self, tree: int, cells: int) -> None:
        self.tree = tree
        self.depth = cells.bit_length() - 1

    def process(self, group: tuple[int, Iterable[bytes]]) -> Iterator[Block]:
        """Search the cell."""
        yield from _find_similar(_concatenate(group[1], FINGERPRINT), self.tree, self.depth)


def find_in_block(block: bytes, trees: int) -> Iterator[Block]:
    """Yield the same as `FindSimilar`, from a block of `FINGERPRINT` that has all rows."""
    for tree in range(trees):
        yield from _find_similar(np.frombuffer(block, FINGERPRINT), tree, depth=0)


def select_pairs(blocks: Iterable[bytes]) -> list[tuple[int, int, bool]]:
    """Select, from the blocks of `PAIR` of one shard, what is to be compared.

    Returns:
        Ids of the first and the second recording, and whether the files are identical, so that no comparison is needed.
    """
    pairs = _concatenate(blocks, PAIR)
    is_identical = pairs["squared_distance"] == IDENTICAL_FILES
    identical, similar = pairs[is_identical], pairs[~is_identical]
    nearest = neighbors.nearest(neighbors.Neighbors(*(similar[name] for name in neighbors.Neighbors._fields)))
    selected = [(first, second, True) for first, second, _ in identical.tolist()]
    selected += [
        (int(first), int(second), False) for first, second in zip(nearest.first, nearest.second, strict=True)
    ]
    return selected


def _find_similar(rows: np.ndarray, tree: int, depth: int) -> Iterator[Block]:
    rows = rows[np.argsort(rows["id"])]  # the order of arrival is not reproducible
    found = neighbors.find_in_cell(rows["fingerprint"], tree, depth)
    yield from _pairs(rows["id"][found.first], rows["id"][found.second], found.squared_distance)


def _pairs(first: np.ndarray, second: np.ndarray, squared_distance: np.ndarray | int) -> Iterator[Block]:
    """Return blocks of `PAIR`; `first` is the smaller one."""
    pairs = np.empty(len(first), PAIR)
    pairs["first"], pairs["second"], pairs["squared_distance"] = first, second, squared_distance
    yield from _by_key(pairs, pairs["first"] >> ROW_BITS)


def _by_key(rows: np.ndarray, keys: np.ndarray) -> Iterator[Block]:
    """Split rows by their keys, in one sort."""
    order = np.argsort(keys, kind="stable")
    rows, keys = rows[order], keys[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    for start, end in itertools.pairwise([*starts, len(rows)]):
        yield int(keys[start]), rows[start:end].tobytes()


def _uniform(content: np.ndarray) -> np.ndarray:
    """Return a uniform 32-bit number per row of `CONTENT`, which depends only on the content: `[n]` int64."""
    digests = np.ascontiguousarray(content["sha256"]).view(np.uint8).reshape(-1, 32)
    return np.ascontiguousarray(digests[:, :4]).view(">u4").ravel().astype(np.int64)


def _concatenate(blocks: Iterable[bytes], dtype: np.dtype) -> np.ndarray:
    return np.frombuffer(b"".join(blocks), dtype)
