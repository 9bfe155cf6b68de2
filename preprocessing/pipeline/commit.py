"""The last step: move all shards into place, write quarantine and records beside them, `dataset.json` last.

Each action can be repeated, so a retried commit ends in the same state.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator

import apache_beam as beam

from preprocessing.dataset import versions
from preprocessing.dataset.example import Attributes
from preprocessing.dataset.manifest import (
    MANIFEST_NAME,
    MAX_EMPIRICAL_CONDITIONS,
    Manifest,
    Shard,
    Statistics,
    compute_statistics,
)
from preprocessing.dataset.output import find_shards
from preprocessing.dataset.quarantine import QUARANTINE_NAME, bad_fraction
from preprocessing.dataset.records import RECORDS_NAME, RecordEntry
from preprocessing.dataset.splits import REQUIRED_SPLITS, SPLITS
from preprocessing.errors import CommandError
from preprocessing.options import Options
from preprocessing.pipeline.shards import ShardResult
from preprocessing.pipeline.staging import Outcome, read_listings, read_rejected, write_outcome
from preprocessing.storage import beam_files


class Commit(beam.DoFn):
    """All `ShardResult`s -> the dataset, unless too many recordings were rejected."""

    def __init__(self, options: Options, fingerprint: str, staging: str) -> None:
        self.options = options
        self.fingerprint = fingerprint
        self.staging = staging

    def process(self, shards: list[ShardResult]) -> Iterator[Outcome]:
        """Commit the dataset; yield the outcome, which is also staged for the launcher."""
        shards = sorted(shards, key=lambda shard: shard.name)
        # A set: by the reference's lists, one file may be read, and rejected, for two splits.
        rejected = sorted(read_rejected(self.staging).union(*(shard.rejected for shard in shards)))
        reasons = dict(sorted(Counter(file.reason for file in rejected).items()))
        quarantine = "".join(f"{file.to_json()}\n" for file in rejected).encode()
        shards = [shard for shard in shards if shard.size_bytes]
        entries = sorted(entry for shard in shards for entry in shard.entries)
        ids = _recording_ids(entries)
        recordings = len(set[str]().union(*ids.values()))
        folder = ""
        has_splits = all(ids[split] for split in REQUIRED_SPLITS)
        if has_splits and bad_fraction(recordings, reasons) <= self.options.max_bad_fraction:
            manifest, records = self._describe(shards, entries, reasons)
            folder = self._place(shards, manifest, records, quarantine)
        else:  # keep the previous dataset: the input may be unmounted, for example
            beam_files.write(beam_files.join(self.options.output, QUARANTINE_NAME), quarantine)
        outcome = Outcome(folder, recordings, reasons)
        write_outcome(outcome, self.staging)
        yield outcome

    def _describe(
        self, shards: list[ShardResult], entries: list[RecordEntry], reasons: dict[str, int]
    ) -> tuple[Manifest, bytes]:
        """Return the manifest and the content of `records.jsonl`."""
        records = "".join(f"{entry.to_json()}\n" for entry in entries).encode()
        listings = read_listings(self.staging)
        counts: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
        for entry in entries:
            counts[entry.split][entry.genre] += 1
        # Statistics come from the training split, since a model uses them.
        training = [entry for entry in entries if entry.split == "train"] or entries
        audio = self.options.audio
        manifest = Manifest(
            sample_rate_hz=audio.sample_rate_hz,
            clip_secs=audio.clip_secs,
            clip_samples=audio.clip_samples,
            options=self.options.content_options(),
            genres=sorted({entry.genre for entry in entries}),
            shards=[
                _manifest_shard(shard, listings[shard.name] if shard.is_reusable else "") for shard in shards
            ],
            counts={split: dict(sorted(genres.items())) for split, genres in counts.items()},
            recordings={split: len(ids) for split, ids in _recording_ids(entries).items()},
            quarantined=reasons,
            attributes=_attribute_statistics(training),
            empirical_conditions=_empirical_conditions(training),
            records_sha256=hashlib.sha256(records).hexdigest(),
            inputs_fingerprint=self.fingerprint,
        )
        return manifest.with_digest(), records

    def _place(self, shards: list[ShardResult], manifest: Manifest, records: bytes, quarantine: bytes) -> str:
        """Move everything to the dataset's folder, which is returned."""
        output, versioned = self.options.output, self.options.versioned
        folder = beam_files.join(output, manifest.digest) if versioned else output
        if not (versioned and _has_same_shards(folder, manifest)):
            beam_files.make_folder(folder)
            _delete_previous(folder, keep={shard.name for shard in manifest.shards})
            for shard in shards:
                beam_files.move(shard.path, beam_files.join(folder, shard.name))
        contents = {QUARANTINE_NAME: quarantine, RECORDS_NAME: records, MANIFEST_NAME: manifest.to_json()}
        for name, content in contents.items():  # in this order
            staged = beam_files.join(self.staging, name)
            beam_files.write(staged, content)
            beam_files.move(staged, beam_files.join(folder, name))
        if versioned:
            versions.set_latest(output, manifest.digest)
        return folder


def _recording_ids(entries: list[RecordEntry]) -> dict[str, set[str]]:
    """Return the ids of the recordings in each split."""
    ids: dict[str, set[str]] = {split: set() for split in SPLITS}
    for entry in entries:
        ids[entry.split].add(entry.recording_id)
    return ids


def _manifest_shard(shard: ShardResult, listing_sha256: str) -> Shard:
    entries = shard.entries
    inputs = "".join(
        f"{entry.track_id} {entry.source_sha256} {entry.license} {entry.attribution}".rstrip() + "\n"
        for entry in entries
    )
    return Shard(
        name=shard.name,
        split=shard.name.split("-")[0],
        records=len(entries),
        bytes=shard.size_bytes,
        sha256=shard.sha256,
        inputs_sha256=hashlib.sha256(inputs.encode("utf-8", "surrogateescape")).hexdigest(),
        listing_sha256=listing_sha256,
    )


def _attribute_statistics(entries: list[RecordEntry]) -> dict[str, Statistics]:
    """Return the statistics of each attribute that could be measured in any clip."""
    all_statistics = {}
    for name in Attributes._fields:
        values = (getattr(entry, name) for entry in entries)
        statistics = compute_statistics(math.nan if value is None else value for value in values)
        if statistics:
            all_statistics[name] = statistics
    return all_statistics


def _empirical_conditions(entries: list[RecordEntry]) -> list[dict[str, str | float | None]]:
    """Return genre and attributes of evenly spaced entries."""
    count = min(len(entries), MAX_EMPIRICAL_CONDITIONS)
    chosen = (entries[len(entries) * rank // count] for rank in range(count))
    return [
        {"genre": entry.genre, **{name: getattr(entry, name) for name in Attributes._fields}}
        for entry in chosen
    ]


def _has_same_shards(folder: str, manifest: Manifest) -> bool:
    """Return whether the version exists already: then only paths or times of source files have changed."""
    uri = beam_files.join(folder, MANIFEST_NAME)
    if not beam_files.exists(uri):
        return False
    try:
        existing = Manifest.from_json(beam_files.read(uri), uri)
    except CommandError:  # it is corrupt, and so replaced
        return False
    return {(shard.name, shard.sha256) for shard in existing.shards} == {
        (shard.name, shard.sha256) for shard in manifest.shards
    }


def _delete_previous(folder: str, keep: set[str]) -> None:
    """Delete a dataset: its manifest first, so that a mixture of two is never taken for a dataset."""
    beam_files.delete([beam_files.join(folder, MANIFEST_NAME)])
    beam_files.delete([path for path in find_shards(folder) if path.rsplit("/", 1)[-1] not in keep])
