"""A small dataset written by hand, whole or with any fault."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections import Counter
from pathlib import Path

import numpy as np

from preprocessing.dataset import example, records, tfrecord
from preprocessing.dataset.manifest import MANIFEST_NAME, Manifest, Shard, shard_name
from preprocessing.dataset.quarantine import QUARANTINE_NAME

RATE_HZ, CLIP_SAMPLES, VALID_SAMPLES = 1_000, 2_048, 2_000
GENRES = ("jazz", "rock")
TRAIN = [f"{genre}.{number:05d}" for genre in GENRES for number in range(4)]
TEST = [f"{genre}.{number:05d}" for genre in GENRES for number in (8, 9)]
TRAIN_0, TRAIN_1, TEST_0 = shard_name("train", 0, 2), shard_name("train", 1, 2), shard_name("test", 0, 1)


def make_record(track_id: str) -> example.Record:
    """A tone of its own, half as loud in rock, with some padding."""
    genre, number = track_id.split(".")
    clip = np.zeros(CLIP_SAMPLES, np.float32)
    time_secs = np.arange(VALID_SAMPLES) / RATE_HZ
    level = (0.5 if genre == "jazz" else 0.25) / (1 + int(number[:5]))
    clip[:VALID_SAMPLES] = level * np.sin(2 * np.pi * (50 + 20 * int(number[:5])) * time_secs)
    attributes = example.Attributes(-10.0 - int(number[:5]), 200.3, 120.0 if genre == "jazz" else math.nan)
    uri = f"/corpus/{genre}/{track_id}.wav"
    return example.Record(clip, track_id, genre, RATE_HZ, VALID_SAMPLES, "ab" * 32, uri, attributes)


def make_entry(record: example.Record, split: str, shard: str) -> records.RecordEntry:
    measured = {name: None if math.isnan(of) else of for name, of in record.attributes._asdict().items()}
    return records.RecordEntry(
        track_id=record.track_id,
        recording_id=record.track_id,
        genre=record.genre,
        split=split,
        shard=shard,
        start_secs=0.0,
        valid_samples=record.valid_samples,
        source_uri=record.source_uri,
        source_sha256=record.source_sha256,
        fingerprint="",
        **measured,
    )


class Dataset:
    """A dataset to be written, whole or with faults: two training shards and one to test on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shards = {
            TRAIN_0: [make_record(track_id) for track_id in TRAIN[::2]],
            TRAIN_1: [make_record(track_id) for track_id in TRAIN[1::2]],
            TEST_0: [make_record(track_id) for track_id in TEST],
        }
        self.options = {"split": "hash"}
        self.rejected = []
        self.list_records()

    def list_records(self) -> None:
        """Makes the lines that belong to the records."""
        listed = [(record, name) for name, of in self.shards.items() for record in of]
        self.entries = [make_entry(record, name.split("-")[0], name) for record, name in listed]

    def change(self, name: str, place: int, **changes: object) -> None:
        """Makes one record another, and leaves its line as it was."""
        self.shards[name][place] = self.shards[name][place]._replace(**changes)

    def change_entry(self, place: int, **changes: object) -> None:
        """Makes one line another, and leaves its record as it was."""
        self.entries[place] = self.entries[place]._replace(**changes)

    def write(self, **changes: object) -> str:
        """Writes all of it, with `changes` to its manifest, and returns its folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        shards, counts = [], {split: Counter() for split in ("train", "validation", "test")}
        for name, of in self.shards.items():
            content = b"".join(tfrecord.frame(example.encode(record)) for record in of)
            (self.folder / name).write_bytes(content)
            split = name.split("-")[0]
            sha256 = hashlib.sha256(content).hexdigest()
            shards.append(Shard(name, split, len(of), len(content), sha256, name, name))
            counts[split].update(record.genre for record in of)
        lines = "".join(f"{entry.to_json()}\n" for entry in sorted(self.entries)).encode()
        (self.folder / records.RECORDS_NAME).write_bytes(lines)
        rejected = "".join(f"{one.to_json()}\n" for one in self.rejected)
        (self.folder / QUARANTINE_NAME).write_text(rejected)
        manifest = Manifest(
            sample_rate_hz=RATE_HZ,
            clip_secs=CLIP_SAMPLES / RATE_HZ,
            clip_samples=CLIP_SAMPLES,
            options=self.options,
            genres=list(GENRES),
            shards=shards,
            counts={split: dict(genres) for split, genres in counts.items()},
            quarantined=dict(Counter(one.reason for one in self.rejected)),
            attributes={},
            empirical_conditions=[],
            records_sha256=hashlib.sha256(lines).hexdigest(),
            inputs_fingerprint="",
        ).with_digest()
        (self.folder / MANIFEST_NAME).write_bytes(dataclasses.replace(manifest, **changes).to_json())
        return str(self.folder)
