"""A small dataset that tests write without the job, valid or with faults."""

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
from preprocessing.dataset.splits import SPLITS

RATE_HZ, CLIP_SAMPLES, VALID_SAMPLES = 1_000, 2_048, 2_000
GENRES = ("jazz", "rock")
TRAIN = [f"{genre}.{number:05d}" for genre in GENRES for number in range(4)]
TEST = [f"{genre}.{number:05d}" for genre in GENRES for number in (8, 9)]
TRAIN_0, TRAIN_1, TEST_0 = shard_name("train", 0, 2), shard_name("train", 1, 2), shard_name("test", 0, 1)


def make_record(track_id: str) -> example.Record:
    """Return a padded tone whose frequency and level depend on the track; rock is half as loud as jazz."""
    genre, number = track_id.split(".")
    clip = np.zeros(CLIP_SAMPLES, np.float32)
    time_secs = np.arange(VALID_SAMPLES) / RATE_HZ
    level = (0.5 if genre == "jazz" else 0.25) / (1 + int(number[:5]))
    clip[:VALID_SAMPLES] = level * np.sin(2 * np.pi * (50 + 20 * int(number[:5])) * time_secs)
    beat = (120.0, 0.75) if genre == "jazz" else (math.nan, math.nan)
    attributes = example.Attributes(-10.0 - int(number[:5]), 200.3, *beat)
    key = example.Key("A minor" if genre == "jazz" else "F major", 0.25)
    uri = f"/corpus/{genre}/{track_id}.wav"
    return example.Record(clip, track_id, genre, RATE_HZ, VALID_SAMPLES, "ab" * 32, uri, attributes, key)


def make_entry(record: example.Record, split: str, shard: str) -> records.RecordEntry:
    """Return the line of `records.jsonl` that describes a record."""
    attributes = {**record.attributes._asdict(), "key_clarity": record.key.clarity}
    measured = {name: None if math.isnan(value) else value for name, value in attributes.items()}
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
        key=record.key.name or None,
        **measured,
    )


class DraftDataset:
    """A dataset in memory: two shards of the training split and one of the test split."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shards = {
            TRAIN_0: [make_record(track_id) for track_id in TRAIN[::2]],
            TRAIN_1: [make_record(track_id) for track_id in TRAIN[1::2]],
            TEST_0: [make_record(track_id) for track_id in TEST],
        }
        self.options = {"split": "hash"}
        self.rejected = []
        self.update_entries()

    def update_entries(self) -> None:
        """Replace the entries by those that describe the records."""
        self.entries = [
            make_entry(record, name.split("-")[0], name)
            for name, shard_records in self.shards.items()
            for record in shard_records
        ]

    def change(self, name: str, index: int, **changes: object) -> None:
        """Change fields of a record, but not of its entry."""
        self.shards[name][index] = self.shards[name][index]._replace(**changes)

    def change_entry(self, index: int, **changes: object) -> None:
        """Change fields of an entry, but not of its record."""
        self.entries[index] = self.entries[index]._replace(**changes)

    def write(self, **changes: object) -> str:
        """Write the files, with `changes` to fields of the manifest, and return the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        shards, counts = [], {split: Counter() for split in SPLITS}
        for name, shard_records in self.shards.items():
            content = b"".join(tfrecord.frame(example.encode(record)) for record in shard_records)
            (self.folder / name).write_bytes(content)
            split = name.split("-")[0]
            sha256 = hashlib.sha256(content).hexdigest()
            shards.append(Shard(name, split, len(shard_records), len(content), sha256, name, name))
            counts[split].update(record.genre for record in shard_records)
        lines = "".join(f"{entry.to_json()}\n" for entry in sorted(self.entries)).encode()
        (self.folder / records.RECORDS_NAME).write_bytes(lines)
        rejected = "".join(f"{file.to_json()}\n" for file in self.rejected)
        (self.folder / QUARANTINE_NAME).write_text(rejected)
        manifest = Manifest(
            sample_rate_hz=RATE_HZ,
            clip_secs=CLIP_SAMPLES / RATE_HZ,
            clip_samples=CLIP_SAMPLES,
            options=self.options,
            genres=list(GENRES),
            shards=shards,
            counts={split: dict(genres) for split, genres in counts.items()},
            recordings={
                split: len({entry.recording_id for entry in self.entries if entry.split == split})
                for split in SPLITS
            },
            quarantined=dict(Counter(file.reason for file in self.rejected)),
            attributes={},
            keys={},
            empirical_conditions=[],
            records_sha256=hashlib.sha256(lines).hexdigest(),
            inputs_fingerprint="",
        ).with_digest()
        (self.folder / MANIFEST_NAME).write_bytes(dataclasses.replace(manifest, **changes).to_json())
        return str(self.folder)
