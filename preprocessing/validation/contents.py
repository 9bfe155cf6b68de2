"""The contents of a dataset, as the table and the page of `inspect` show them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from preprocessing.dataset import example
from preprocessing.dataset.manifest import Manifest
from preprocessing.dataset.quarantine import Rejected
from preprocessing.dataset.records import RecordEntry
from preprocessing.dataset.splits import SPLITS

MAX_LISTED_KEYS = 5


@dataclass
class DatasetContents:
    """What was read from a dataset. Methods that take a genre describe all clips if it is None."""

    folder: str
    manifest: Manifest
    entries: list[RecordEntry] = field(default_factory=list)  # the lines of records.jsonl
    rejected: list[Rejected] = field(default_factory=list)  # the lines of quarantine.jsonl
    example_records: dict[str, example.Record] = field(default_factory=dict)  # genre -> one typical clip

    def entries_of(self, genre: str | None) -> list[RecordEntry]:
        """Return the entries of one genre."""
        return [entry for entry in self.entries if genre in (None, entry.genre)]

    def attribute_values(self, attribute: str, genre: str | None) -> list[float]:
        """Return the values of one attribute, leaving out the clips for which it could not be measured."""
        values = (getattr(entry, attribute) for entry in self.entries_of(genre))
        return [value for value in values if value is not None]

    def clip_counts(self, genre: str | None) -> list[int]:
        """Return the number of clips in each of `SPLITS`."""
        clips = Counter(entry.split for entry in self.entries_of(genre))
        return [clips[split] for split in SPLITS]

    def duration(self, genre: str | None) -> str:
        """Return the duration of the clips without padding, as h:mm:ss."""
        samples = sum(entry.valid_samples for entry in self.entries_of(genre))
        minutes, secs = divmod(round(samples / self.manifest.sample_rate_hz), 60)
        return f"{minutes // 60}:{minutes % 60:02}:{secs:02}"

    def keys_summary(self) -> str:
        """Return how many clips have a clear key, and the most frequent keys."""
        keys = Counter(entry.key for entry in self.entries if entry.key)
        most = ", ".join(f"{key} {count}" for key, count in keys.most_common(MAX_LISTED_KEYS))
        return f"{keys.total():,} of {len(self.entries):,} clips" + (f", most often {most}" if most else "")

    def verified_summary(self) -> str:
        """Return what was verified, for a dataset without faults."""
        records = sum(shard.records for shard in self.manifest.shards)
        return f"{len(self.manifest.shards)} shards, {records:,} records, all checksums valid"
