"""The Beam job: clip list -> grouped by shard -> decoded and written by the shard's worker -> commit.

Only paths are grouped. Audio is read, decoded and written inside one worker and never goes through a shuffle.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult

from preprocessing import attributes, audio, example, files
from preprocessing.gtzan import SPLITS
from preprocessing.manifest import NAME, QUARANTINE_NAME, Manifest, Shard, Statistics, statistics
from preprocessing.options import AudioFormat, Options
from preprocessing.sources import Clip, Listing, Rejected

OUTCOME = "good_shards"  # a staged file with their number: how a job ended, whatever was there before it


class ShardResult(NamedTuple):
    """What a worker reports of one shard: its temporary file, if any record was good, and what was not."""

    shard: Shard | None
    staged: str
    genres: Counter
    attributes: list[example.Attributes]  # of each record
    rejected: list[Rejected]


class WriteShard(beam.DoFn):
    """`(shard name, its clips)` -> `ShardResult`; the records go to a file of this attempt alone."""

    def __init__(self, audio_format: AudioFormat, staging: str) -> None:
        self.audio_format = audio_format
        self.staging = staging

    def process(self, element: tuple[str, Iterable[Clip]]) -> Iterator[ShardResult]:
        """Decodes each clip, writes the good ones, collects the reasons of the others."""
        name, clips = element
        # A retried or duplicated attempt writes a second file; the commit takes exactly one of them.
        staged = files.join(self.staging, f"{time.time_ns():x}-{name}")
        content, inputs = hashlib.sha256(), hashlib.sha256()
        genres: Counter = Counter()
        measured: list[example.Attributes] = []
        rejected: list[Rejected] = []
        size = 0
        with files.create(staged) as stream:
            for clip in sorted(clips, key=lambda clip: clip.track_id):
                try:
                    record = self._read(clip)
                except audio.BadAudioError as bad:
                    rejected.append(Rejected(clip.uri, bad.reason, bad.detail))
                    continue
                framed = example.frame(example.encode(record))
                stream.write(framed)
                content.update(framed)
                inputs.update(f"{clip.track_id} {record.source_sha256}\n".encode("utf-8", "surrogateescape"))
                size += len(framed)
                genres[clip.genre] += 1
                measured.append(record.attributes)
        shard = None
        if genres:
            split = name.split("-")[0]
            digests = content.hexdigest(), inputs.hexdigest()
            shard = Shard(name, split, genres.total(), size, *digests)
        yield ShardResult(shard, staged, genres, measured, rejected)

    def _read(self, clip: Clip) -> example.Record:
        try:
            data = files.read(clip.uri)
        except OSError as error:  # BeamIOError is one too
            raise audio.BadAudioError("unreadable", str(error)) from error
        waveform, valid_samples = audio.decode(data, self.audio_format)
        return example.Record(
            audio=waveform,
            track_id=clip.track_id,
            genre=clip.genre,
            sample_rate_hz=self.audio_format.sample_rate_hz,
            valid_samples=valid_samples,
            source_sha256=hashlib.sha256(data).hexdigest(),
            source_uri=clip.uri,
            attributes=attributes.measure(waveform[:valid_samples], self.audio_format.sample_rate_hz),
        )


class Commit(beam.DoFn):
    """All shard results -> the dataset: shards moved into place, quarantine, and `dataset.json` last.

    Each step can be repeated, so a retried commit ends in the same state.
    """

    def __init__(self, options: Options, fingerprint: str, staging: str) -> None:
        self.options = options
        self.fingerprint = fingerprint
        self.staging = staging

    def process(self, results: list[ShardResult]) -> Iterator[Manifest]:
        """Yields the committed manifest, or nothing where no clip was good."""
        good = sorted((result for result in results if result.shard), key=lambda result: result.shard.name)
        rejected = self._rejected(results)
        files.write(self._staged(OUTCOME), str(len(good)).encode())
        lines = "".join(f"{bad.to_json()}\n" for bad in rejected).encode()
        if not good:  # an unmounted input, say: an earlier dataset is not its price
            files.write(self._final(QUARANTINE_NAME), lines)
            return
        manifest = self._manifest(good, rejected).with_digest()
        self._clear({shard.name for shard in manifest.shards})
        for result in good:
            files.move(result.staged, self._final(result.shard.name))
        files.write(self._final(QUARANTINE_NAME), lines)
        files.write(self._staged(NAME), manifest.to_json())
        files.move(self._staged(NAME), self._final(NAME))
        yield manifest

    def _rejected(self, results: list[ShardResult]) -> list[Rejected]:
        """Each bad file once, also where the seed's lists read it for two splits."""
        lines = files.read(self._staged("rejected.jsonl")).decode().splitlines()
        by_name = {Rejected(**json.loads(line)) for line in lines}
        return sorted(by_name.union(*(result.rejected for result in results)))

    def _clear(self, kept: set[str]) -> None:
        """Takes an earlier dataset away: its manifest first, so that a mixture is never a dataset."""
        files.delete([self._final(NAME)])
        for split in SPLITS:
            pattern = files.join(files.literal(self.options.output), f"{split}-?????-of-?????.tfrecord")
            found = [file.path for file in files.find(pattern)]
            files.delete([path for path in found if path.rsplit("/", 1)[-1] not in kept])

    def _final(self, name: str) -> str:
        return files.join(self.options.output, name)

    def _staged(self, name: str) -> str:
        return files.join(self.staging, name)

    def _manifest(self, good: list[ShardResult], rejected: list[Rejected]) -> Manifest:
        counts: dict[str, Counter] = {split: Counter() for split in SPLITS}
        for result in good:
            counts[result.shard.split].update(result.genres)
        audio_format = self.options.audio
        return Manifest(
            sample_rate_hz=audio_format.sample_rate_hz,
            clip_secs=audio_format.clip_secs,
            clip_samples=audio_format.clip_samples,
            options=self.options.that_shape_the_data(),
            genres=sorted({genre for split in counts.values() for genre in split}),
            shards=[result.shard for result in good],
            counts={split: dict(sorted(genres.items())) for split, genres in counts.items()},
            quarantined=dict(sorted(Counter(bad.reason for bad in rejected).items())),
            attributes=_statistics(good),
            inputs_fingerprint=self.fingerprint,
        )


def _statistics(good: list[ShardResult]) -> dict[str, Statistics]:
    """Of each attribute over the training split: what a model may know."""
    training = [result for result in good if result.shard.split == "train"] or good
    rows = [row for result in training for row in result.attributes]
    found = {name: statistics(getattr(row, name) for row in rows) for name in example.Attributes._fields}
    return {name: of for name, of in found.items() if of}


def build(pipeline: beam.Pipeline, options: Options, fingerprint: str, staging: str) -> None:
    """Adds the job's steps to `pipeline`; the clip list lies in `staging`, as `stage` wrote it."""
    _ = (
        pipeline
        | "Read clip list" >> beam.io.ReadFromText(files.join(staging, "clips.jsonl"))
        | "Parse clip" >> beam.Map(Clip.from_json)
        | "Key by shard" >> beam.WithKeys(Clip.shard_key)
        | "Group paths by shard" >> beam.GroupByKey()
        | "Decode and write shard" >> beam.ParDo(WriteShard(options.audio, staging))
        | "Collect shards" >> beam.combiners.ToList()
        | "Commit dataset" >> beam.ParDo(Commit(options, fingerprint, staging))
    )


def stage(listing: Listing, staging: str) -> None:
    """Writes the plan where every worker can read it: a job's graph has a size limit, a file has none."""
    files.make_folder(staging)
    for name, rows in (("clips.jsonl", listing.clips), ("rejected.jsonl", listing.rejected)):
        files.write(files.join(staging, name), "".join(f"{row.to_json()}\n" for row in rows).encode())


def submit(options: Options, listing: Listing, staging: str, beam_flags: list[str]) -> PipelineResult:
    """Stages the plan and starts the job; local runners return when it has ended."""
    stage(listing, staging)
    pipeline = beam.Pipeline(options=PipelineOptions(beam_flags))
    build(pipeline, options, listing.fingerprint, staging)
    return pipeline.run()
