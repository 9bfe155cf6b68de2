"""One reading of a dataset: every byte is hashed, every record decoded and held against its line.

Shards are read as streams, one record at a time. What is wrong is collected, so that one reading tells all of
it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import BinaryIO, TypeVar

import numpy as np
from google.protobuf.message import DecodeError
from tqdm import tqdm

from preprocessing.dataset import example, records, tfrecord
from preprocessing.dataset.manifest import NAME, QUARANTINE_NAME, Manifest, Shard
from preprocessing.dataset.records import Entry
from preprocessing.dataset.splits import SPLITS
from preprocessing.sources.discovery import Rejected
from preprocessing.storage import beam_files

# Of a record in its dataset: the track's id, and the split where the reference's lists share a track.
Key = tuple[str, str]
Line = TypeVar("Line", Entry, Rejected)
# What a line's values are, where they are no text.
_KINDS = {
    "start_secs": (float, int),
    "valid_samples": int,
    **dict.fromkeys(example.Attributes._fields, (float, int, type(None))),
}


class Reading:
    """One reading of a dataset: what lies there, and `faults`, a line each."""

    def __init__(self, home: str, manifest: Manifest) -> None:
        self.home = home
        self.manifest = manifest
        self.faults: list[str] = []
        self.entries: dict[Key, Entry] = {}  # the lines of records.jsonl
        self.rejected: list[Rejected] = []  # those of quarantine.jsonl
        self.heard: dict[str, example.Record] = {}  # genre -> its record to be heard
        self._holders: dict[Key, str] = {}  # of each record that was found, its shard
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)  # split -> genre -> records
        self._whole: set[str] = set()  # the shards whose every record was read
        self._to_hear: set[Key] = set()

    def run(self, hear: bool) -> None:
        """Reads all of it; with `hear`, keeps one clip of each genre."""
        self._read_entries()
        self._read_quarantine()
        if hear and not self.faults:
            self._to_hear = {self._key(entry.split, entry.track_id) for entry in _typical(self.entries)}
        clips = sum(shard.records for shard in self.manifest.shards)
        with tqdm(total=clips, desc="verifying", unit=" clips", dynamic_ncols=True) as bar:
            for shard in self.manifest.shards:
                self._read_shard(shard, bar)
        self._compare_counts()
        self._compare_entries()
        if self.manifest.with_digest().digest != self.manifest.digest:
            self.fault(NAME, "its digest is not that of its options and shards")

    def clips(self, genre: str | None) -> list[Entry]:
        """Those of a genre, or all."""
        return [entry for entry in self.entries.values() if genre in (None, entry.genre)]

    def values(self, measure: str, genre: str | None) -> list[float]:
        """A measure of those clips of a genre, or of all, that have it."""
        values = (getattr(entry, measure) for entry in self.clips(genre))
        return [value for value in values if value is not None]

    def counts(self, genre: str | None) -> list[int]:
        """Clips of a genre, or of all, in each of `SPLITS`."""
        clips = Counter(entry.split for entry in self.clips(genre))
        return [clips[split] for split in SPLITS]

    def duration(self, genre: str | None) -> str:
        """Of the clips of a genre, or of all, as h:mm:ss."""
        samples = sum(entry.valid_samples for entry in self.clips(genre))
        minutes, secs = divmod(round(samples / self.manifest.sample_rate_hz), 60)
        return f"{minutes // 60}:{minutes % 60:02}:{secs:02}"

    def verified(self) -> str:
        """What was found good, where nothing was bad."""
        clips = sum(shard.records for shard in self.manifest.shards)
        return f"{len(self.manifest.shards)} shards, {clips:,} records, every checksum good"

    def fault(self, where: str, what: str) -> None:
        """Notes one, of a file or a record in it."""
        self.faults.append(f"{where}: {what}")

    def _key(self, split: str, track_id: str) -> Key:
        return track_id, split if self._shares_tracks() else ""

    def _shares_tracks(self) -> bool:
        return self.manifest.options.get("split") == "reference"

    def _read_entries(self) -> None:
        content = self._read(records.NAME)
        if content is not None and hashlib.sha256(content).hexdigest() != self.manifest.records_sha256:
            self.fault(records.NAME, "its SHA-256 is not the one in dataset.json")
        for number, entry in self._parse(records.NAME, content, records.from_json):
            key = self._key(entry.split, entry.track_id)
            if key in self.entries:
                self.fault(records.NAME, f"line {number}: {entry.track_id} has a line already")
            self.entries[key] = entry

    def _read_quarantine(self) -> None:
        """Not held against the manifest's counts: a job that ended without a dataset writes it too."""
        content = self._read(QUARANTINE_NAME)
        lines = self._parse(QUARANTINE_NAME, content, lambda line: Rejected(**json.loads(line)))
        self.rejected = [rejected for _, rejected in lines]

    def _read(self, name: str) -> bytes | None:
        uri = beam_files.join(self.home, name)
        if beam_files.exists(uri):
            return beam_files.read(uri)
        self.fault(name, "it is missing")
        return None

    def _parse(
        self, name: str, content: bytes | None, parse: Callable[[str], Line]
    ) -> Iterator[tuple[int, Line]]:
        """The lines of a file by their numbers, without those that are not what they should be."""
        for number, text in enumerate((content or b"").decode("utf-8", "replace").splitlines(), start=1):
            try:
                line = parse(text)
                for field, value in line._asdict().items():
                    if not isinstance(value, _KINDS.get(field, str)):
                        raise TypeError(f"its {field} is {value!r}")
            except (ValueError, TypeError) as error:
                self.fault(name, f"line {number} is damaged ({error})")
            else:
                yield number, line

    def _read_shard(self, shard: Shard, bar: tqdm) -> None:
        uri = beam_files.join(self.home, shard.name)
        if not beam_files.exists(uri):
            self.fault(shard.name, "it is missing")
            return
        number = 0
        with beam_files.open_stream(uri) as opened:
            stream = _Hashed(opened)
            try:
                for number, data in enumerate(tfrecord.read_frames(stream), start=1):
                    self._check_record(shard, number, data)
                    bar.update()
                self._whole.add(shard.name)
                if number != shard.records:
                    self.fault(shard.name, f"{number} records instead of {shard.records}")
            except tfrecord.CorruptRecordError as error:
                self.fault(shard.name, f"record {number + 1}: {error}; the rest of the shard is not read")
            stream.read_rest()
        if stream.bytes != shard.bytes:
            self.fault(shard.name, f"{stream.bytes:,} bytes instead of {shard.bytes:,}")
        if stream.sha256.hexdigest() != shard.sha256:
            self.fault(shard.name, "its SHA-256 is not the one in dataset.json")

    def _check_record(self, shard: Shard, number: int, data: bytes) -> None:
        where = f"{shard.name}: record {number}"
        try:
            record = example.decode(data)
        except (DecodeError, IndexError, ValueError) as error:  # an Example may lack features
            self.fault(where, f"it cannot be decoded ({type(error).__name__}: {error})")
            return
        where += f" ({record.track_id})"
        for what in _wrong_in(record, self.manifest):
            self.fault(where, what)
        self._counts[shard.split][record.genre] += 1
        key = self._key(shard.split, record.track_id)
        if key in self._holders:
            self.fault(where, f"its track_id is also that of a record in {self._holders[key]}")
        self._holders[key] = shard.name
        if entry := self.entries.get(key):
            for what in _differences(record, shard, entry):
                self.fault(where, what)
        elif self.entries:
            self.fault(where, f"{records.NAME} has no line of it")
        if key in self._to_hear:
            self.heard[record.genre] = record

    def _compare_counts(self) -> None:
        """Only of splits that could be read whole: a shard that is missing is one fault and not ten."""
        manifest, counts = self.manifest, self._counts
        for split in sorted({*SPLITS, *manifest.counts}):
            stated = manifest.counts.get(split, {})
            if all(shard.name in self._whole for shard in manifest.split_shards(split)):
                for genre in sorted(stated.keys() | counts[split].keys()):
                    clips, found = stated.get(genre, 0), counts[split][genre]
                    if clips != found:
                        self.fault(NAME, f"it counts {clips} clips of {genre} in {split}, the shards {found}")
        genres = sorted(set().union(*counts.values()))
        if len(self._whole) == len(manifest.shards) and genres != sorted(manifest.genres):
            self.fault(NAME, f"its genres are {manifest.genres}, those of its records {genres}")
        if not any(shard.records for shard in manifest.shards):
            self.fault(NAME, "it has no record")

    def _compare_entries(self) -> None:
        unread = {shard.name for shard in self.manifest.shards} - self._whole
        sides: dict[str, set[str]] = defaultdict(set)
        for key, entry in sorted(self.entries.items()):
            sides[entry.recording_id].add(entry.split)
            if key not in self._holders and entry.shard not in unread:
                self.fault(records.NAME, f"{entry.track_id} is in no shard, it should be in {entry.shard}")
        for recording_id, splits in sides.items():
            if len(splits) > 1 and not self._shares_tracks():
                self.fault(records.NAME, f"recording {recording_id} is in {' and '.join(sorted(splits))}")


class _Hashed:
    """A stream to read from that keeps count of what went through it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.bytes = 0
        self.sha256 = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self.bytes += len(data)
        self.sha256.update(data)
        return data

    def read_rest(self) -> None:
        while self.read(1 << 20):
            pass


def _wrong_in(record: example.Record, manifest: Manifest) -> Iterator[str]:
    """What of a record breaks the promises of every record."""
    clip, valid = record.audio, record.valid_samples
    if len(clip) != manifest.clip_samples:
        yield f"{len(clip):,} samples instead of {manifest.clip_samples:,}"
    if not np.isfinite(clip).all():
        yield "NaN or infinite samples"
    elif clip.size and (peak := float(np.abs(clip).max())) > 1:
        yield f"samples beyond [-1, 1], up to {peak:.6g}"
    if not 1 <= valid <= manifest.clip_samples:
        yield f"valid_samples is {valid:,}, not 1 to {manifest.clip_samples:,}"
    elif clip[valid:].any():
        yield f"the padding, from sample {valid:,} on, is not zero"
    if record.sample_rate_hz != manifest.sample_rate_hz:
        yield f"sample_rate_hz is {record.sample_rate_hz}, not {manifest.sample_rate_hz}"


def _differences(record: example.Record, shard: Shard, entry: Entry) -> Iterator[str]:
    """Where a record and its line disagree; numbers are compared as the record has them, in float32."""
    here = {"split": shard.split, "shard": shard.name}
    here |= {
        name: getattr(record, name) for name in ("genre", "valid_samples", "source_uri", "source_sha256")
    }
    here |= {name: None if math.isnan(of) else of for name, of in record.attributes._asdict().items()}
    for name, value in here.items():
        listed = getattr(entry, name)
        if isinstance(value, float) and isinstance(listed, int | float):
            listed = float(np.float32(listed))
        if value != listed:
            yield f"{name} is {value!r}, and {listed!r} in {records.NAME}"


def _typical(entries: dict[Key, Entry]) -> Iterator[Entry]:
    """Of each genre, the training clip of middle loudness; of any split where none is for training."""
    by_genre: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries.values():
        by_genre[entry.genre].append(entry)
    for _, clips in sorted(by_genre.items()):
        training = [entry for entry in clips if entry.split == "train"] or clips
        ranked = sorted(training, key=lambda entry: (_number(entry.loudness_db), entry.track_id))
        yield ranked[len(ranked) // 2]


def _number(value: float | None) -> float:
    return -math.inf if value is None else value
