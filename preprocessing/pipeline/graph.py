"""The Beam pipeline: source files grouped by shard -> shards decoded and written -> duplicates dropped and empty
splits filled -> commit.

Only paths and fingerprints are grouped. Audio is read, decoded and written within one worker and never passes through
a shuffle; nor do the descriptions of records, which are files beside the shards.
"""

from __future__ import annotations

import apache_beam as beam
from apache_beam.pvalue import AsIter

from preprocessing.options import Options
from preprocessing.pipeline.commit import Commit
from preprocessing.pipeline.deduplicate import FindDuplicates
from preprocessing.pipeline.plan import SourceFile
from preprocessing.pipeline.selection import (
    SURVIVORS,
    DropRecordings,
    WriteSelected,
)
from preprocessing.pipeline.shard_files import StagedShard
from preprocessing.pipeline.shards import ReuseShard, WriteShard
from preprocessing.pipeline.staging import REUSED_NAME, SOURCE_FILES_NAME
from preprocessing.sources.exclusions import parse_exclusions
from preprocessing.storage import beam_files


def build(pipeline: beam.Pipeline, options: Options, fingerprint: str, recordings: int, staging: str) -> None:
    """Add the job's steps to `pipeline`.

    Args:
        pipeline: An empty pipeline.
        options: The options of the job.
        fingerprint: Of the input listing; see `preprocessing.pipeline.plan.Plan`.
        recordings: The number of source files, of reused shards too.
        staging: A folder in which `preprocessing.pipeline.staging.write_plan` wrote the plan.
    """
    excluded_sha256 = parse_exclusions(options.exclusions).sha256
    written_shards = (
        pipeline
        | "Read source files" >> beam.io.ReadFromText(beam_files.join(staging, SOURCE_FILES_NAME))
        | "Parse source file" >> beam.Map(_parse_source_file)
        | "Key by shard" >> beam.WithKeys(SourceFile.shard_key)
        | "Group paths by shard" >> beam.GroupByKey()
        | "Decode and write shard" >> beam.ParDo(WriteShard(options.audio, staging, excluded_sha256))
    )
    reused_shards = (
        pipeline
        | "Read reused shards" >> beam.io.ReadFromText(beam_files.join(staging, REUSED_NAME))
        | "Parse reused shard" >> beam.Map(_parse_shard)
        | "Copy reused shard" >> beam.ParDo(ReuseShard(staging))
    )
    shards = (written_shards, reused_shards) | "Merge shards" >> beam.Flatten()
    finish(shards, options, fingerprint, recordings, staging)


def finish(
    shards: beam.PCollection, options: Options, fingerprint: str, recordings: int, staging: str
) -> None:
    """Add the steps after decoding: from `(shard number, StagedShard)` to the dataset; see `build`."""
    duplicates = shards | "Find duplicates" >> FindDuplicates(options.audio.sample_rate_hz, recordings)
    drop = DropRecordings(fills_splits=options.split == "hash")
    selected = (
        (shards, duplicates)
        | "Join duplicates" >> beam.Flatten()
        | "Group duplicates" >> beam.GroupByKey()
        | "Drop recordings" >> beam.ParDo(drop).with_outputs(SURVIVORS, main="selections")
    )
    _ = (
        selected["selections"]
        | "Write selected records"
        >> beam.ParDo(WriteSelected(staging, options.shards), AsIter(selected[SURVIVORS]))
        | "Collect final shards" >> beam.combiners.ToList()
        | "Commit dataset" >> beam.ParDo(Commit(options, fingerprint, staging))
    )


# Beam pickles functions by reference, but class methods by value, with their byte code.
def _parse_source_file(line: str) -> SourceFile:
    return SourceFile.from_json(line)


def _parse_shard(line: str) -> StagedShard:
    return StagedShard.from_json(line)
