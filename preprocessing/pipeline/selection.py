"""The steps that decide which recordings each final shard holds, and copy the records of those that changed.

Duplicates and failed recordings are dropped, and recordings move to splits that would be empty. What is left of a
small collection is known only after decoding, so the plan cannot see to that.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import apache_beam as beam

from preprocessing.dataset import tfrecord
from preprocessing.dataset.quarantine import Rejected
from preprocessing.dataset.splits import SPLITS, fill_empty_splits, id_digest
from preprocessing.pipeline.deduplicate import Duplicate
from preprocessing.pipeline.plan import shard_of
from preprocessing.pipeline.shard_files import (
    FinalShard,
    ShardDescription,
    ShardWriter,
    StagedShard,
    finish_shard,
    split_of,
    take_shard,
)
from preprocessing.storage import beam_files

SURVIVORS = "survivors"  # output of `DropRecordings` beside the main one


class Selection(NamedTuple):
    """The records of a shard that are kept."""

    shard: StagedShard
    dropped: frozenset[str]  # recording ids
    duplicates: list[Rejected]


class Survivors(NamedTuple):
    """What is left of a shard: as much as is needed to fill empty splits."""

    split: str
    recordings: int
    smallest: list[str]  # the recording ids with the smallest digests, one for each split that may be empty


class DropRecordings(beam.DoFn):
    """`(shard number, its StagedShard and its Duplicates)` -> `Selection`, and beside it `Survivors`."""

    def __init__(self, fills_splits: bool) -> None:
        self.fills_splits = fills_splits

    def process(
        self, group: tuple[int, Iterable[StagedShard | Duplicate]]
    ) -> Iterator[Selection | beam.pvalue.TaggedOutput]:
        """Drop duplicates and failed recordings."""
        shard, found = take_shard(group[1])
        description = shard.describe()
        recordings = description.recordings()
        ids = list(recordings)
        duplicates, dropped = [], set(description.invalid)
        for row, original in sorted(found):
            uri = description.entries[recordings[ids[row]][0]].source_uri
            duplicates.append(Rejected(uri, "duplicate", f"the same recording as {original}"))
            dropped.add(ids[row])
        if self.fills_splits:
            left = recordings.keys() - dropped
            smallest = heapq.nsmallest(len(SPLITS), left, key=id_digest)
            yield beam.pvalue.TaggedOutput(SURVIVORS, Survivors(split_of(shard.name), len(left), smallest))
        yield Selection(shard, frozenset(dropped), duplicates)


def find_moves(survivors: Iterable[Survivors]) -> dict[str, str]:
    """Return the recordings that fill empty splits, with their new splits; none if there are no `Survivors`."""
    counts = dict.fromkeys(SPLITS, 0)
    smallest: dict[str, list[str]] = {split: [] for split in SPLITS}
    for split, recordings, ids in survivors:
        counts[split] += recordings
        smallest[split] = heapq.nsmallest(len(SPLITS), [*smallest[split], *ids], key=id_digest)
    return fill_empty_splits(counts, smallest)


class WriteSelected(beam.DoFn):
    """`Selection` -> its `FinalShard`, which may be empty, and one for each recording that moves to another split."""

    def __init__(self, staging: str, train_shards: int) -> None:
        self.staging = staging
        self.train_shards = train_shards

    def start_bundle(self) -> None:
        """Forget what moves."""
        self.moves: dict[str, str] | None = None

    def process(self, selection: Selection, survivors: Iterable[Survivors]) -> Iterator[FinalShard]:
        """Copy the selected records to a new file without decoding them, unless all are selected."""
        if self.moves is None:
            self.moves = find_moves(survivors)
        shard, dropped, duplicates = selection
        entries, rejected, _ = shard.describe()
        ids = {entry.recording_id for entry in entries}
        moved = ids & self.moves.keys() - dropped
        description = ShardDescription(entries, [*rejected, *duplicates])
        yield self._write(shard.name, shard, ids - dropped - moved, description, is_reusable=not moved)
        for recording_id in sorted(moved):
            name = shard_of(recording_id, self.moves[recording_id], self.train_shards)
            yield self._write(name, shard, {recording_id}, ShardDescription(entries, []), is_reusable=False)

    def _write(
        self, name: str, shard: StagedShard, kept: set[str], description: ShardDescription, is_reusable: bool
    ) -> FinalShard:
        entries, rejected, _ = description
        if name == shard.name and all(entry.recording_id in kept for entry in entries):
            written = (shard.path, shard.size_bytes, shard.sha256)
        else:
            writer, selected = ShardWriter(self.staging, name), []
            with beam_files.open_stream(shard.path) as stream:
                for entry, payload in zip(entries, tfrecord.read_frames(stream), strict=True):
                    if entry.recording_id in kept:
                        writer.append(tfrecord.frame(payload))
                        selected.append(entry._replace(shard=name, split=split_of(name)))
            entries, written = selected, writer.close()
        return finish_shard(name, written, ShardDescription(entries, rejected), self.staging, is_reusable)
