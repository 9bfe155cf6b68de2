"""The step that finds copies of a recording among all shards; the first by name stays."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import apache_beam as beam
import numpy as np

from preprocessing.dataset import example, tfrecord
from preprocessing.dataset.quarantine import Rejected
from preprocessing.features import fingerprint as duplicates
from preprocessing.pipeline.shards import ShardResult
from preprocessing.storage import beam_files

COMPARED = 3  # clips of a long recording
LENGTH_TOLERANCE = 0.05  # of two copies: codecs add silence, and a copy may be cut a little
HEARD_CLIPS = 32  # kept in memory: neighbours meet each other again and again


class _Recording(NamedTuple):
    """A recording and where its clips lie: places of a shard's entries."""

    uri: str
    recording_id: str
    shard: int
    places: list[int]
    samples: int
    fingerprint: str
    source_sha256: str


class FindDuplicates(beam.DoFn):
    """All shards -> each with the recordings that must go from it."""

    def __init__(self, sample_rate_hz: int) -> None:
        self.sample_rate_hz = sample_rate_hz

    def process(self, shards: list[ShardResult]) -> Iterator[tuple[ShardResult, frozenset[str]]]:
        """Reads audio of recordings alone whose fingerprints are neighbours."""
        shards = sorted(shards, key=lambda shard: shard.name)
        recordings = sorted(_recordings(shards))
        first = self._first_of_each(recordings, _ClipReader(shards))
        dropped: dict[int, set[str]] = defaultdict(set)
        rejected: dict[int, list[Rejected]] = defaultdict(list)
        for place, original in enumerate(first):
            copy = recordings[place]
            if original != place:
                dropped[copy.shard].add(copy.recording_id)
                detail = f"the same recording as {recordings[original].uri}"
                rejected[copy.shard].append(Rejected(copy.uri, "duplicate", detail))
        for number, shard in enumerate(shards):
            result = shard._replace(rejected=[*shard.rejected, *rejected[number]])
            yield result, frozenset(dropped[number]) | shard.invalid

    def _first_of_each(self, recordings: list[_Recording], heard: _ClipReader) -> list[int]:
        """Of each recording the place of the first by name that it is a copy of, or its own."""
        first = list(range(len(recordings)))

        def original(place: int) -> int:
            while first[place] != place:
                place = first[place]
            return place

        by_content: dict[str, int] = {}
        for place, one in enumerate(recordings):
            earlier = by_content.setdefault(one.source_sha256, place)
            if recordings[earlier].uri != one.uri:  # the same file by another name needs no listening
                first[place] = earlier
        distinct = [place for place, earlier in enumerate(first) if place == earlier]
        for pair in duplicates.neighbours([recordings[place].fingerprint for place in distinct]):
            one, other = (distinct[number] for number in pair)
            earlier, later = sorted((original(one), original(other)))
            if recordings[earlier].uri == recordings[later].uri:  # or on two sides by the reference's lists
                continue
            if self._same(recordings[one], recordings[other], heard):
                first[later] = earlier
        return [original(place) for place in range(len(recordings))]

    def _same(self, one: _Recording, other: _Recording, heard: _ClipReader) -> bool:
        if abs(one.samples - other.samples) > LENGTH_TOLERANCE * max(one.samples, other.samples):
            return False
        last = min(len(one.places), len(other.places)) - 1
        compared = sorted({last * part // (COMPARED - 1) for part in range(COMPARED)})
        return all(
            duplicates.are_the_same(heard(one, number), heard(other, number), self.sample_rate_hz)
            for number in compared
        )


class _ClipReader:
    """Reads single clips back from staged shards, keeping the last ones."""

    def __init__(self, shards: list[ShardResult]) -> None:
        self._shards = shards
        self._clip = functools.lru_cache(HEARD_CLIPS)(self._read)
        self._positions = functools.cache(self._find)  # of the records in a shard's file

    def __call__(self, recording: _Recording, number: int) -> np.ndarray:
        """`[valid_samples]` float32 of a recording's clip."""
        return self._clip(recording.shard, recording.places[number])

    def _find(self, shard: int) -> list[int]:
        with beam_files.open_stream(self._shards[shard].staged) as stream:
            return list(tfrecord.positions(stream))

    def _read(self, shard: int, place: int) -> np.ndarray:
        with beam_files.open_stream(self._shards[shard].staged) as stream:
            stream.seek(self._positions(shard)[place])
            record = example.decode(next(tfrecord.read_frames(stream)))
        return record.audio[: record.valid_samples]


def _recordings(shards: list[ShardResult]) -> Iterator[_Recording]:
    for number, shard in enumerate(shards):
        places: dict[str, list[int]] = defaultdict(list)
        of_shard = shard.entries
        for place, entry in enumerate(of_shard):
            places[entry.recording_id].append(place)
        for recording_id, its in places.items():
            entries = [of_shard[place] for place in its]
            if recording_id not in shard.invalid and entries[0].fingerprint:
                samples = sum(entry.valid_samples for entry in entries)
                yield _Recording(
                    entries[0].source_uri,
                    recording_id,
                    number,
                    its,
                    samples,
                    entries[0].fingerprint,
                    entries[0].source_sha256,
                )
