"""Check a dataset completely: hash every byte, decode every record and compare it with its entry.

Shards are streamed, one record at a time. Faults are collected, so that one pass reports all of them.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from types import NoneType
from typing import BinaryIO, TypeVar

import numpy as np
from google.protobuf.message import DecodeError

from preprocessing.dataset import example, tfrecord
from preprocessing.dataset.manifest import MANIFEST_NAME, Manifest, Shard
from preprocessing.dataset.quarantine import QUARANTINE_NAME, Rejected
from preprocessing.dataset.records import RECORDS_NAME, RecordEntry
from preprocessing.dataset.splits import SPLITS
from preprocessing.progress import Progress
from preprocessing.storage import beam_files
from preprocessing.validation.contents import DatasetContents

HASH_BLOCK_BYTES = 1 << 20

RecordKey = tuple[str, str]
"""Identifies a record: track id, and split where tracks may be in two splits (else "")."""
Line = TypeVar("Line", RecordEntry, Rejected)
# The types of a line's fields that are not strings.
_FIELD_TYPES: dict[str, tuple[type, ...]] = {
    "start_secs": (float, int),
    "valid_samples": (int,),
    **dict.fromkeys((*example.Attributes._fields, "key_clarity"), (float, int, NoneType)),
    "key": (str, NoneType),
}


class DatasetValidator:
    """One pass over a dataset: fills in `contents` and collects `faults`, one line each."""

    def __init__(self, folder: str, manifest: Manifest) -> None:
        self.contents = DatasetContents(folder, manifest)
        self.faults: list[str] = []
        self._manifest = manifest
        self._tracks_shared = manifest.options.get("split") == "reference"
        self._entries: dict[RecordKey, RecordEntry] = {}
        self._shard_of: dict[RecordKey, str] = {}  # of each record that was read
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)  # split -> genre -> records
        self._complete: set[str] = set()  # shards that could be read to their end
        self._example_keys: set[RecordKey] = set()

    def run(self, keep_examples: bool) -> None:
        """Check everything; with `keep_examples`, keep one typical record of each genre."""
        self._read_entries()
        self._read_quarantine()
        if keep_examples and not self.faults:
            self._example_keys = {self._key(entry.split, entry.track_id) for entry in self._typical_entries()}
        records = sum(shard.records for shard in self._manifest.shards)
        with Progress("verifying", records, "clips", leave=True) as progress:
            for shard in self._manifest.shards:
                self._read_shard(shard, progress)
        self._check_counts()
        self._check_entries()
        if self._manifest.with_digest().digest != self._manifest.digest:
            self.add_fault(MANIFEST_NAME, "its digest does not match its options and shards")

    def add_fault(self, where: str, what: str) -> None:
        """Note a fault in a file or in one of its records."""
        self.faults.append(f"{where}: {what}")

    def _key(self, split: str, track_id: str) -> RecordKey:
        return track_id, split if self._tracks_shared else ""

    def _read_entries(self) -> None:
        content = self._read(RECORDS_NAME)
        if content is not None and hashlib.sha256(content).hexdigest() != self._manifest.records_sha256:
            self.add_fault(RECORDS_NAME, f"its SHA-256 differs from the one in {MANIFEST_NAME}")
        for number, entry in self._parse(RECORDS_NAME, content, RecordEntry.from_json):
            key = self._key(entry.split, entry.track_id)
            if key in self._entries:
                self.add_fault(RECORDS_NAME, f"line {number}: duplicate entry for {entry.track_id}")
            self._entries[key] = entry
        self.contents.entries = list(self._entries.values())

    def _read_quarantine(self) -> None:
        """Read the quarantine, without comparing counts: a job that makes no dataset replaces it, too."""
        lines = self._parse(QUARANTINE_NAME, self._read(QUARANTINE_NAME), Rejected.from_json)
        self.contents.rejected = [rejected for _, rejected in lines]

    def _read(self, name: str) -> bytes | None:
        uri = beam_files.join(self.contents.folder, name)
        if beam_files.exists(uri):
            return beam_files.read(uri)
        self.add_fault(name, "the file is missing")
        return None

    def _parse(
        self, name: str, content: bytes | None, parse: Callable[[str], Line]
    ) -> Iterator[tuple[int, Line]]:
        """Yield the valid lines of a file with their numbers; note the others as faults."""
        for number, text in enumerate((content or b"").decode("utf-8", "replace").splitlines(), start=1):
            try:
                line = parse(text)
                for field, value in line._asdict().items():
                    if not isinstance(value, _FIELD_TYPES.get(field, (str,))):
                        raise TypeError(f"{field} is {value!r}")
            except (ValueError, TypeError) as error:
                self.add_fault(name, f"line {number} is corrupt ({error})")
            else:
                yield number, line

    def _typical_entries(self) -> Iterator[RecordEntry]:
        """Yield, of each genre, the training clip of median loudness (if none, of all its clips)."""
        for genre in sorted({entry.genre for entry in self.contents.entries}):
            clips = self.contents.entries_of(genre)
            training = [entry for entry in clips if entry.split == "train"] or clips
            ranked = sorted(training, key=lambda entry: (_or_lowest(entry.loudness_db), entry.track_id))
            yield ranked[len(ranked) // 2]

    def _read_shard(self, shard: Shard, progress: Progress) -> None:
        uri = beam_files.join(self.contents.folder, shard.name)
        if not beam_files.exists(uri):
            self.add_fault(shard.name, "the file is missing")
            return
        number = 0
        with beam_files.open_stream(uri) as opened:
            stream = _HashingStream(opened)
            try:
                for number, payload in enumerate(tfrecord.read_frames(stream), start=1):
                    self._check_record(shard, number, payload)
                    progress.advance()
                self._complete.add(shard.name)
                if number != shard.records:
                    self.add_fault(shard.name, f"{number} records instead of {shard.records}")
            except tfrecord.CorruptRecordError as error:
                self.add_fault(
                    shard.name, f"record {number + 1}: {error}; the rest of the shard is not checked"
                )
            stream.read_rest()
        if stream.size_bytes != shard.bytes:
            self.add_fault(shard.name, f"{stream.size_bytes:,} bytes instead of {shard.bytes:,}")
        if stream.sha256.hexdigest() != shard.sha256:
            self.add_fault(shard.name, f"its SHA-256 differs from the one in {MANIFEST_NAME}")

    def _check_record(self, shard: Shard, number: int, payload: bytes) -> None:
        where = f"{shard.name}: record {number}"
        try:
            record = example.decode(payload)
        except (DecodeError, IndexError, ValueError) as error:  # an Example may lack features
            self.add_fault(where, f"it cannot be decoded ({type(error).__name__}: {error})")
            return
        where += f" ({record.track_id})"
        for fault in _format_faults(record, self._manifest):
            self.add_fault(where, fault)
        self._counts[shard.split][record.genre] += 1
        key = self._key(shard.split, record.track_id)
        if key in self._shard_of:
            self.add_fault(where, f"duplicate track_id, also in {self._shard_of[key]}")
        self._shard_of[key] = shard.name
        if entry := self._entries.get(key):
            for fault in _differences(record, shard, entry):
                self.add_fault(where, fault)
        elif self._entries:
            self.add_fault(where, f"{RECORDS_NAME} has no entry for it")
        if key in self._example_keys:
            self.contents.example_records[record.genre] = record

    def _check_counts(self) -> None:
        """Compare the manifest's counts with the records, in the splits that could be read completely.

        Elsewhere, one missing shard would cause many faults.
        """
        manifest, counts = self._manifest, self._counts
        for split in sorted({*SPLITS, *manifest.counts}):
            if not all(shard.name in self._complete for shard in manifest.split_shards(split)):
                continue
            stated = manifest.counts.get(split, {})
            for genre in sorted(stated.keys() | counts[split].keys()):
                expected, actual = stated.get(genre, 0), counts[split][genre]
                if expected != actual:
                    fault = f"it lists {expected} clips of {genre} in {split}, the shards have {actual}"
                    self.add_fault(MANIFEST_NAME, fault)
        genres = sorted(set().union(*counts.values()))
        if len(self._complete) == len(manifest.shards) and genres != sorted(manifest.genres):
            self.add_fault(MANIFEST_NAME, f"it lists the genres {manifest.genres}, the shards have {genres}")
        if not any(shard.records for shard in manifest.shards):
            self.add_fault(MANIFEST_NAME, "the dataset has no records")

    def _check_entries(self) -> None:
        """Check that each entry has a record, and that no recording is in two splits."""
        incomplete = {shard.name for shard in self._manifest.shards} - self._complete
        splits_of: dict[str, set[str]] = defaultdict(set)
        for key, entry in sorted(self._entries.items()):
            splits_of[entry.recording_id].add(entry.split)
            if key not in self._shard_of and entry.shard not in incomplete:
                self.add_fault(RECORDS_NAME, f"{entry.track_id} is in no shard; expected in {entry.shard}")
        for recording_id, splits in splits_of.items():
            if len(splits) > 1 and not self._tracks_shared:
                names = " and ".join(sorted(splits))
                self.add_fault(RECORDS_NAME, f"recording {recording_id} is in both {names}")


class _HashingStream:
    """A stream to read from that counts and hashes the bytes read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.size_bytes = 0
        self.sha256 = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self.size_bytes += len(data)
        self.sha256.update(data)
        return data

    def read_rest(self) -> None:
        while self.read(HASH_BLOCK_BYTES):
            pass


def _format_faults(record: example.Record, manifest: Manifest) -> Iterator[str]:
    """Yield where a record differs from the format that every record has."""
    audio, valid = record.audio, record.valid_samples
    if len(audio) != manifest.clip_samples:
        yield f"{len(audio):,} samples instead of {manifest.clip_samples:,}"
    if not np.isfinite(audio).all():
        yield "NaN or infinite samples"
    elif audio.size and (peak := float(np.abs(audio).max())) > 1:
        yield f"samples outside [-1, 1], up to {peak:.6g}"
    if not 1 <= valid <= manifest.clip_samples:
        yield f"valid_samples is {valid:,}, outside 1 to {manifest.clip_samples:,}"
    elif audio[valid:].any():
        yield f"the padding, from sample {valid:,} on, is not zero"
    if record.sample_rate_hz != manifest.sample_rate_hz:
        yield f"sample_rate_hz is {record.sample_rate_hz}, not {manifest.sample_rate_hz}"


def _differences(record: example.Record, shard: Shard, entry: RecordEntry) -> Iterator[str]:
    """Yield where a record and its entry differ; floats are compared in the record's float32."""
    actual: dict[str, object] = {"split": shard.split, "shard": shard.name}
    for name in ("genre", "valid_samples", "source_uri", "source_sha256"):
        actual[name] = getattr(record, name)
    actual["key"] = record.key.name or None
    for name, value in {**record.attributes._asdict(), "key_clarity": record.key.clarity}.items():
        actual[name] = None if math.isnan(value) else value
    for name, value in actual.items():
        listed = getattr(entry, name)
        if isinstance(value, float) and isinstance(listed, int | float):
            listed = float(np.float32(listed))
        if value != listed:
            yield f"{name} is {value!r}, but {listed!r} in {RECORDS_NAME}"


def _or_lowest(value: float | None) -> float:
    return -math.inf if value is None else value
