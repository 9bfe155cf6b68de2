"""All shards -> the dataset: moved into place, quarantine and records beside them, `dataset.json` last.

Each step can be repeated, so a retried commit ends in the same state.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import apache_beam as beam

from preprocessing.dataset import records, versions
from preprocessing.dataset.example import Attributes
from preprocessing.dataset.manifest import (
    MAX_EMPIRICAL_CONDITIONS,
    NAME,
    QUARANTINE_NAME,
    Manifest,
    Shard,
    Statistics,
    from_json,
    statistics,
)
from preprocessing.dataset.quarantine import Rejected, bad_fraction
from preprocessing.dataset.records import Entry
from preprocessing.dataset.splits import SPLITS
from preprocessing.errors import CommandError
from preprocessing.options import Options
from preprocessing.pipeline.shards import ShardResult
from preprocessing.storage import beam_files

REJECTED = "rejected.jsonl"  # staged: what the plan already refused
LISTINGS = "listings.json"  # staged: of each shard, a digest of its clips' places, sizes and times
OUTCOME = "outcome.json"  # staged: how a job ended, whatever was there before it


class Outcome(NamedTuple):
    """How a job ended; `folder` is where the dataset is, or empty where there is none."""

    folder: str
    recordings: int
    reasons: dict[str, int]  # of the quarantine, with their number

    def bad_fraction(self) -> float:
        """The part of the recordings that are bad."""
        return bad_fraction(self.recordings, self.reasons)


def stage_listings(listings: dict[str, str], staging: str) -> None:
    """Puts the shards' listing digests where the commit finds them."""
    beam_files.write(beam_files.join(staging, LISTINGS), json.dumps(listings).encode())


class Commit(beam.DoFn):
    """`ShardResult`s -> the dataset, unless too much of the input was bad."""

    def __init__(self, options: Options, fingerprint: str, staging: str) -> None:
        self.options = options
        self.fingerprint = fingerprint
        self.staging = staging

    def process(self, results: list[ShardResult]) -> Iterator[Outcome]:
        """Yields how it ended; the launcher reads the same from `OUTCOME`."""
        results = sorted(results, key=lambda result: result.name)
        good = [result for result in results if result.bytes]
        rejected = self._rejected(results)
        reasons = dict(sorted(Counter(one.reason for one in rejected).items()))
        entries = sorted(entry for result in good for entry in result.entries)
        recordings = len({entry.recording_id for entry in entries})
        quarantine = "".join(f"{one.to_json()}\n" for one in rejected).encode()
        # An unmounted input, say: an earlier dataset is not its price.
        refused = not good or bad_fraction(recordings, reasons) > self.options.max_bad_fraction
        folder = ""
        if refused:
            beam_files.write(beam_files.join(self.options.output, QUARANTINE_NAME), quarantine)
        else:
            folder = self._place(good, entries, reasons, quarantine)
        outcome = Outcome(folder, recordings, reasons)
        beam_files.write(self._staged(OUTCOME), json.dumps(outcome._asdict()).encode())
        yield outcome

    def _place(
        self, good: list[ShardResult], entries: list[Entry], reasons: dict[str, int], quarantine: bytes
    ) -> str:
        lines = "".join(f"{entry.to_json()}\n" for entry in entries).encode()
        manifest = self._manifest(good, entries, reasons, hashlib.sha256(lines).hexdigest()).with_digest()
        versioned = self.options.versioned
        folder = beam_files.join(self.options.output, manifest.digest) if versioned else self.options.output
        if not (versioned and _has(folder, manifest)):
            beam_files.make_folder(folder)
            _clear(folder, {shard.name for shard in manifest.shards})
            for result in good:
                beam_files.move(result.staged, beam_files.join(folder, result.name))
        for name, content in (
            (QUARANTINE_NAME, quarantine),
            (records.NAME, lines),
            (NAME, manifest.to_json()),
        ):
            beam_files.write(self._staged(name), content)
            beam_files.move(self._staged(name), beam_files.join(folder, name))
        if versioned:
            versions.move_latest(self.options.output, manifest.digest)
        return folder

    def _rejected(self, results: list[ShardResult]) -> list[Rejected]:
        """Each bad file once, also where the reference's lists read it for two splits."""
        lines = beam_files.read(self._staged(REJECTED)).decode().splitlines()
        by_name = {Rejected(**json.loads(line)) for line in lines}
        return sorted(by_name.union(*(result.rejected for result in results)))

    def _staged(self, name: str) -> str:
        return beam_files.join(self.staging, name)

    def _manifest(
        self, good: list[ShardResult], entries: list[Entry], reasons: dict[str, int], records_sha256: str
    ) -> Manifest:
        counts: dict[str, Counter] = {split: Counter() for split in SPLITS}
        for entry in entries:
            counts[entry.split][entry.genre] += 1
        listings = json.loads(beam_files.read(self._staged(LISTINGS)))
        # What a model may know.
        training = [entry for entry in entries if entry.split == "train"] or entries
        usual = min(len(training), MAX_EMPIRICAL_CONDITIONS)
        audio_format = self.options.audio
        return Manifest(
            sample_rate_hz=audio_format.sample_rate_hz,
            clip_secs=audio_format.clip_secs,
            clip_samples=audio_format.clip_samples,
            options=self.options.that_shape_the_data(),
            genres=sorted({entry.genre for entry in entries}),
            shards=[_shard(result, listings[result.name]) for result in good],
            counts={split: dict(sorted(genres.items())) for split, genres in counts.items()},
            quarantined=reasons,
            attributes=_statistics(training),
            empirical_conditions=[_told(training[len(training) * rank // usual]) for rank in range(usual)],
            records_sha256=records_sha256,
            inputs_fingerprint=self.fingerprint,
        )


def read_outcome(staging: str) -> Outcome:
    """How the job whose files lie in `staging` ended."""
    return Outcome(**json.loads(beam_files.read(beam_files.join(staging, OUTCOME))))


def _shard(result: ShardResult, listing_sha256: str) -> Shard:
    entries = result.entries
    inputs = "".join(f"{entry.track_id} {entry.source_sha256}\n" for entry in entries)
    return Shard(
        name=result.name,
        split=result.name.split("-")[0],
        records=len(entries),
        bytes=result.bytes,
        sha256=result.sha256,
        inputs_sha256=hashlib.sha256(inputs.encode("utf-8", "surrogateescape")).hexdigest(),
        listing_sha256=listing_sha256,
    )


def _has(folder: str, manifest: Manifest) -> bool:
    """Whether a version is there already, to the bit: only files' times or places have changed."""
    uri = beam_files.join(folder, NAME)
    try:
        made = from_json(beam_files.read(uri), uri) if beam_files.exists(uri) else None
    except CommandError:  # damaged: it is made again
        return False
    there = {(shard.name, shard.sha256) for shard in made.shards} if made else set()
    return there == {(shard.name, shard.sha256) for shard in manifest.shards}


def _clear(folder: str, kept: set[str]) -> None:
    """Takes an earlier dataset away: its manifest first, so that a mixture is never a dataset."""
    beam_files.delete([beam_files.join(folder, NAME)])
    for split in SPLITS:
        pattern = beam_files.join(beam_files.literal(folder), f"{split}-?????-of-?????.tfrecord")
        found = [file.path for file in beam_files.find(pattern)]
        beam_files.delete([path for path in found if path.rsplit("/", 1)[-1] not in kept])


def _told(entry: Entry) -> dict[str, str | float | None]:
    return {"genre": entry.genre, **{name: getattr(entry, name) for name in Attributes._fields}}


def _statistics(entries: list[Entry]) -> dict[str, Statistics]:
    found = {}
    for name in Attributes._fields:
        values = (getattr(entry, name) for entry in entries)
        found[name] = statistics(math.nan if value is None else value for value in values)
    return {name: of for name, of in found.items() if of}
