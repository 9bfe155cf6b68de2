"""The steps that compare the waveforms of candidate pairs, read back from the staged shards.

The worker that has the first recording's shard adds where its clips are, and the worker that has the second one's shard
compares them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import apache_beam as beam
import numpy as np

from preprocessing.dataset import example, tfrecord
from preprocessing.features import fingerprint
from preprocessing.pipeline.candidates import ROW_BITS, select_pairs, shard_and_row
from preprocessing.pipeline.components import Edge, Node
from preprocessing.pipeline.shard_files import StagedShard, take_shard
from preprocessing.storage import beam_files

COMPARED_CLIPS = 3  # of a long recording: the first, a middle and the last one
LENGTH_TOLERANCE = 0.05  # between duplicates: codecs add silence, and a copy may be trimmed slightly
CACHED_CLIPS = 32  # in memory: a recording is compared with several others


class Recording(NamedTuple):
    """A recording, and where its clips are."""

    uri: str
    id: int  # see `preprocessing.pipeline.candidates.shard_and_row`
    path: str  # of its shard
    offsets: list[int]  # of its clips in the shard
    samples: int  # of all its clips, without padding

    @property
    def node(self) -> Node:
        """The recording as a node of the graph of duplicates, where the first one by name is the smallest."""
        return self.uri.encode("utf-8", "surrogatepass"), self.id


class Candidate(NamedTuple):
    """A pair that may be the same recording."""

    first: Recording
    second_row: int  # in its shard
    is_identical: bool  # the files are, so no audio needs to be compared


class LocateFirst(beam.DoFn):
    """`(shard number, its StagedShard and its blocks of PAIR)` -> `(shard number of the second, Candidate)`."""

    def process(self, group: tuple[int, Iterable[StagedShard | bytes]]) -> Iterator[tuple[int, Candidate]]:
        """Look up the first recording of each pair."""
        shard, blocks = take_shard(group[1])
        if not blocks:
            return
        recordings = _Recordings(shard)
        for first, second, is_identical in select_pairs(blocks):
            number, row = shard_and_row(second)
            yield number, Candidate(recordings[shard_and_row(first)[1]], row, is_identical)


class Compare(beam.DoFn):
    """`(shard number, its StagedShard and its Candidates)` -> pairs of nodes that are the same recording."""

    def __init__(self, sample_rate_hz: int) -> None:
        self.sample_rate_hz = sample_rate_hz

    def process(self, group: tuple[int, Iterable[StagedShard | Candidate]]) -> Iterator[Edge]:
        """Read the clips of each pair; files of identical content need no comparison."""
        shard, found = take_shard(group[1])
        if not found:
            return
        recordings, read_clip = _Recordings(shard), functools.lru_cache(CACHED_CLIPS)(_read_clip)
        candidates: list[Candidate] = sorted(found, key=lambda pair: (pair.second_row, pair.first.id))
        for first, second_row, is_identical in candidates:
            second = recordings[second_row]
            left, right = sorted((first, second))
            if is_identical or self._are_duplicates(left, right, read_clip):
                yield first.node, second.node

    def _are_duplicates(
        self, left: Recording, right: Recording, read_clip: Callable[[str, int], np.ndarray]
    ) -> bool:
        if abs(left.samples - right.samples) > LENGTH_TOLERANCE * max(left.samples, right.samples):
            return False
        last = min(len(left.offsets), len(right.offsets)) - 1
        compared = sorted({last * part // (COMPARED_CLIPS - 1) for part in range(COMPARED_CLIPS)})
        return all(
            fingerprint.is_same_recording(
                read_clip(left.path, left.offsets[clip]),
                read_clip(right.path, right.offsets[clip]),
                self.sample_rate_hz,
            )
            for clip in compared
        )


class _Recordings:
    """The recordings of a shard by row."""

    def __init__(self, shard: StagedShard) -> None:
        description = shard.describe()
        self._shard = shard
        self._entries = description.entries
        self._positions = list(description.recordings().values())
        with beam_files.open_stream(shard.path) as stream:
            self._offsets = list(tfrecord.record_offsets(stream))

    def __getitem__(self, row: int) -> Recording:
        positions = self._positions[row]
        return Recording(
            uri=self._entries[positions[0]].source_uri,
            id=self._shard.number << ROW_BITS | row,
            path=self._shard.path,
            offsets=[self._offsets[position] for position in positions],
            samples=sum(self._entries[position].valid_samples for position in positions),
        )


def _read_clip(path: str, offset: int) -> np.ndarray:
    """Return one clip of a staged shard, without padding: `[valid_samples]` float32."""
    with beam_files.open_stream(path) as stream:
        stream.seek(offset)
        record = example.decode(next(tfrecord.read_frames(stream)))
    return record.audio[: record.valid_samples]
