"""The steps that decide which recordings each final shard holds, and copy the records of those that changed.

Duplicates and failed recordings are dropped, and recordings move to splits that would be empty. What is left of a
small collection is known only after decoding, so the plan cannot see to that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import apache_beam as beam

from preprocessing.dataset import tfrecord
from preprocessing.dataset.splits import SPLITS, fill_empty_splits
from preprocessing.options import Options
from preprocessing.pipeline.plan import shard_of
from preprocessing.pipeline.shards import ShardResult, ShardWriter, pack_entries
from preprocessing.storage import beam_files


class Selection(NamedTuple):
    """The records of a final shard: those of `shard` without some recordings, or only one of its recordings."""

    name: str  # of the final shard
    shard: ShardResult
    dropped: frozenset[str]  # recording ids
    only: str = ""  # a recording id; empty for all that are not dropped


class SelectRecordings(beam.DoFn):
    """All shards, each with the recording ids to drop -> `Selection`s."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def process(self, shards: list[tuple[ShardResult, frozenset[str]]]) -> Iterator[Selection]:
        """Drop recordings; with the split `hash`, fill the splits that would be empty."""
        moves = _moves(shards) if self.options.split == "hash" else {}
        for shard, dropped in shards:
            moved = {entry.recording_id for entry in shard.entries} & moves.keys() - dropped
            if moved:
                shard = shard._replace(is_reusable=False)
            yield Selection(shard.name, shard, dropped | moved)
            for recording_id in sorted(moved):
                name = shard_of(recording_id, moves[recording_id], self.options.shards)
                yield Selection(name, shard._replace(rejected=[]), frozenset(), only=recording_id)


class WriteSelected(beam.DoFn):
    """`Selection` -> the `ShardResult` of the final shard."""

    def __init__(self, staging: str) -> None:
        self.staging = staging

    def process(self, selection: Selection) -> Iterator[ShardResult]:
        """Copy the selected records to a new file without decoding them, unless all are selected."""
        name, shard, dropped, only = selection
        if not dropped and not only:
            yield shard
            return
        writer, entries = ShardWriter(self.staging, name), []
        with beam_files.open_stream(shard.path) as stream:
            for entry, payload in zip(shard.entries, tfrecord.read_frames(stream), strict=True):
                if entry.recording_id not in dropped and only in ("", entry.recording_id):
                    writer.append(tfrecord.frame(payload))
                    entries.append(entry._replace(shard=name, split=_split_of(name)))
        path, size_bytes, sha256 = writer.close()
        yield shard._replace(
            name=name,
            path=path,
            size_bytes=size_bytes,
            sha256=sha256,
            packed_entries=pack_entries(entries),
            invalid=frozenset(),
        )


def _split_of(shard_name: str) -> str:
    return shard_name.partition("-")[0]


def _moves(shards: list[tuple[ShardResult, frozenset[str]]]) -> dict[str, str]:
    """Return the recordings that fill empty splits, with their new splits."""
    recordings = {split: set[str]() for split in SPLITS}
    for shard, dropped in shards:
        if shard.size_bytes:
            recordings[_split_of(shard.name)] |= {entry.recording_id for entry in shard.entries} - dropped
    if all(recordings.values()):
        return {}
    return fill_empty_splits(
        {recording: split for split, members in recordings.items() for recording in members}
    )
