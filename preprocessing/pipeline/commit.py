"""The last step: merge the shards' lines, move all shards into place, and write `dataset.json` last.

It holds digests and counts; lines pass through it as streams. Each action can be repeated, so a retried commit ends in
the same state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import apache_beam as beam

from preprocessing.dataset import versions
from preprocessing.dataset.manifest import MANIFEST_NAME, Manifest, Shard
from preprocessing.dataset.output import find_shards
from preprocessing.dataset.quarantine import QUARANTINE_NAME, bad_fraction
from preprocessing.dataset.records import RECORDS_NAME
from preprocessing.dataset.splits import REQUIRED_SPLITS, SPLITS
from preprocessing.errors import CommandError
from preprocessing.options import Options
from preprocessing.pipeline.merge import RecordsSummary, merge_quarantine, merge_records
from preprocessing.pipeline.shard_files import FinalShard
from preprocessing.pipeline.staging import Outcome, read_listings, write_outcome
from preprocessing.storage import beam_files


class Commit(beam.DoFn):
    """All `FinalShard`s -> the dataset, unless too many recordings were rejected."""

    def __init__(self, options: Options, fingerprint: str, staging: str) -> None:
        self.options = options
        self.fingerprint = fingerprint
        self.staging = staging

    def process(self, shards: list[FinalShard]) -> Iterator[Outcome]:
        """Commit the dataset; yield the outcome, which is also staged for the launcher."""
        shards = sorted(shards, key=lambda shard: shard.name)
        reasons = merge_quarantine(shards, self.staging)
        shards = [shard for shard in shards if shard.size_bytes]
        records = merge_records(shards, self.staging)
        folder = ""
        has_splits = {*REQUIRED_SPLITS} <= {shard.split for shard in shards}
        if has_splits and bad_fraction(records.recordings, reasons) <= self.options.max_bad_fraction:
            folder = self._place(shards, self._manifest(shards, records, reasons))
        else:  # keep the previous dataset: the input may be unmounted, for example
            staged = beam_files.join(self.staging, QUARANTINE_NAME)
            beam_files.move(staged, beam_files.join(self.options.output, QUARANTINE_NAME))
        outcome = Outcome(folder, records.recordings, reasons)
        write_outcome(outcome, self.staging)
        yield outcome

    def _manifest(
        self, shards: list[FinalShard], records: RecordsSummary, reasons: dict[str, int]
    ) -> Manifest:
        listings = read_listings(self.staging)
        audio = self.options.audio
        counts = {split: Counter[str]() for split in SPLITS}
        for shard in shards:
            counts[shard.split].update(shard.genres)
        manifest = Manifest(
            sample_rate_hz=audio.sample_rate_hz,
            clip_secs=audio.clip_secs,
            clip_samples=audio.clip_samples,
            options=self.options.content_options(),
            genres=sorted(set[str]().union(*counts.values())),
            shards=[
                _manifest_shard(shard, listings[shard.name] if shard.is_reusable else "") for shard in shards
            ],
            counts={split: dict(sorted(genres.items())) for split, genres in counts.items()},
            recordings={
                split: sum(shard.recordings for shard in shards if shard.split == split) for split in SPLITS
            },
            quarantined=reasons,
            attributes=records.attributes,
            keys=records.keys,
            empirical_conditions=records.empirical_conditions,
            records_sha256=records.sha256,
            inputs_fingerprint=self.fingerprint,
        )
        return manifest.with_digest()

    def _place(self, shards: list[FinalShard], manifest: Manifest) -> str:
        """Move everything to the dataset's folder, which is returned."""
        output, versioned = self.options.output, self.options.versioned
        folder = beam_files.join(output, manifest.digest) if versioned else output
        if not (versioned and _has_same_shards(folder, manifest)):
            beam_files.make_folder(folder)
            _delete_previous(folder, keep={shard.name for shard in manifest.shards})
            for shard in shards:
                beam_files.move(shard.path, beam_files.join(folder, shard.name))
        beam_files.write(beam_files.join(self.staging, MANIFEST_NAME), manifest.to_json())
        for name in (QUARANTINE_NAME, RECORDS_NAME, MANIFEST_NAME):  # in this order
            beam_files.move(beam_files.join(self.staging, name), beam_files.join(folder, name))
        if versioned:
            versions.set_latest(output, manifest.digest)
        return folder


def _manifest_shard(shard: FinalShard, listing_sha256: str) -> Shard:
    return Shard(
        name=shard.name,
        split=shard.split,
        records=sum(shard.genres.values()),
        bytes=shard.size_bytes,
        sha256=shard.sha256,
        inputs_sha256=shard.inputs_sha256,
        listing_sha256=listing_sha256,
    )


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
