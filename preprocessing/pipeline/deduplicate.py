"""The step that finds duplicate recordings across all shards; of each set, the first by name is kept.

Fingerprints select pairs of recordings that may be the same; their waveforms, read back from the staged
shards, decide. Recordings that failed after some of their records were written are dropped as well.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import apache_beam as beam
import numpy as np

from preprocessing.dataset import example, tfrecord
from preprocessing.dataset.quarantine import Rejected
from preprocessing.features import fingerprint
from preprocessing.pipeline.shards import ShardResult
from preprocessing.storage import beam_files

COMPARED_CLIPS = 3  # of a long recording: the first, a middle and the last one
LENGTH_TOLERANCE = 0.05  # between duplicates: codecs add silence, and a copy may be trimmed slightly
CACHED_CLIPS = 32  # in memory: a recording is compared with several others


class FindDuplicates(beam.DoFn):
    """All `ShardResult`s -> one list of them, each with the ids of the recordings to drop from it."""

    def __init__(self, sample_rate_hz: int) -> None:
        self.sample_rate_hz = sample_rate_hz

    def process(self, shards: list[ShardResult]) -> Iterator[list[tuple[ShardResult, frozenset[str]]]]:
        """Find duplicates; audio is read only of recordings whose fingerprints are similar."""
        shards = sorted(shards, key=lambda shard: shard.name)
        recordings = sorted(_recordings(shards))
        originals = self._originals(recordings, _ClipReader(shards))
        dropped: dict[int, set[str]] = defaultdict(set)
        rejected: dict[int, list[Rejected]] = defaultdict(list)
        for number, (recording, original) in enumerate(zip(recordings, originals, strict=True)):
            if original != number:
                dropped[recording.shard].add(recording.recording_id)
                detail = f"the same recording as {recordings[original].uri}"
                rejected[recording.shard].append(Rejected(recording.uri, "duplicate", detail))
        results = (
            shard._replace(rejected=[*shard.rejected, *rejected[number]])
            for number, shard in enumerate(shards)
        )
        yield [(shard, frozenset(dropped[number]) | shard.invalid) for number, shard in enumerate(results)]

    def _originals(self, recordings: list[_Recording], read_clip: _ClipReader) -> list[int]:
        """Return, for each recording, the number of the first one that is the same (often itself)."""
        parents = list(range(len(recordings)))  # a union-find forest; a root is the first of its set by name

        def find_root(number: int) -> int:
            while parents[number] != number:
                number = parents[number]
            return number

        first_with_content: dict[str, int] = {}
        for number, recording in enumerate(recordings):
            first = first_with_content.setdefault(recording.source_sha256, number)
            if recordings[first].uri != recording.uri:  # identical files need no comparison of audio
                parents[number] = first
        distinct = [number for number, parent in enumerate(parents) if number == parent]
        for pair in fingerprint.candidate_pairs([recordings[number].fingerprint for number in distinct]):
            left, right = (distinct[index] for index in pair)
            earlier, later = sorted((find_root(left), find_root(right)))
            if recordings[earlier].uri == recordings[later].uri:
                continue  # one file, in two splits by the reference's lists
            if self._are_duplicates(recordings[left], recordings[right], read_clip):
                parents[later] = earlier
        return [find_root(number) for number in range(len(recordings))]

    def _are_duplicates(self, left: _Recording, right: _Recording, read_clip: _ClipReader) -> bool:
        if abs(left.samples - right.samples) > LENGTH_TOLERANCE * max(left.samples, right.samples):
            return False
        last = min(len(left.positions), len(right.positions)) - 1
        compared = sorted({last * part // (COMPARED_CLIPS - 1) for part in range(COMPARED_CLIPS)})
        return all(
            fingerprint.is_same_recording(read_clip(left, clip), read_clip(right, clip), self.sample_rate_hz)
            for clip in compared
        )


class _Recording(NamedTuple):
    """A recording and where its clips are; sorted by `uri`."""

    uri: str
    recording_id: str
    shard: int  # number among the sorted shards
    positions: list[int]  # of its clips, among the shard's entries
    samples: int  # of all its clips, without padding
    fingerprint: str
    source_sha256: str


def _recordings(shards: list[ShardResult]) -> Iterator[_Recording]:
    """Yield the valid recordings of all shards."""
    for number, shard in enumerate(shards):
        entries = shard.entries
        positions: dict[str, list[int]] = defaultdict(list)
        for position, entry in enumerate(entries):
            positions[entry.recording_id].append(position)
        for recording_id, clip_positions in positions.items():
            first = entries[clip_positions[0]]
            if recording_id not in shard.invalid and first.fingerprint:
                yield _Recording(
                    uri=first.source_uri,
                    recording_id=recording_id,
                    shard=number,
                    positions=clip_positions,
                    samples=sum(entries[position].valid_samples for position in clip_positions),
                    fingerprint=first.fingerprint,
                    source_sha256=first.source_sha256,
                )


class _ClipReader:
    """Reads single clips back from staged shards, and caches the last ones."""

    def __init__(self, shards: list[ShardResult]) -> None:
        self._shards = shards
        self._read_cached = functools.lru_cache(CACHED_CLIPS)(self._read)
        self._offsets = functools.cache(self._read_offsets)

    def __call__(self, recording: _Recording, clip: int) -> np.ndarray:
        """Return one clip of a recording, without padding: `[valid_samples]` float32."""
        return self._read_cached(recording.shard, recording.positions[clip])

    def _read(self, shard: int, position: int) -> np.ndarray:
        with beam_files.open_stream(self._shards[shard].path) as stream:
            stream.seek(self._offsets(shard)[position])
            record = example.decode(next(tfrecord.read_frames(stream)))
        return record.audio[: record.valid_samples]

    def _read_offsets(self, shard: int) -> list[int]:
        with beam_files.open_stream(self._shards[shard].path) as stream:
            return list(tfrecord.record_offsets(stream))
