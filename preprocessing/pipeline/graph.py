"""The Beam pipeline: source files grouped by shard -> shards decoded and written -> duplicates dropped and empty
splits filled -> commit.

Only paths are grouped. Audio is read, decoded and written within one worker and never passes through a shuffle.
"""

from __future__ import annotations

import apache_beam as beam

from preprocessing.options import Options
from preprocessing.pipeline.commit import Commit
from preprocessing.pipeline.deduplicate import FindDuplicates
from preprocessing.pipeline.plan import SourceFile
from preprocessing.pipeline.selection import SelectRecordings, WriteSelected
from preprocessing.pipeline.shards import ReuseShard, ShardResult, WriteShard
from preprocessing.pipeline.staging import REUSED_NAME, SOURCE_FILES_NAME
from preprocessing.sources.exclusions import parse_exclusions
from preprocessing.storage import beam_files


def build(pipeline: beam.Pipeline, options: Options, fingerprint: str, staging: str) -> None:
    """Add the job's steps to `pipeline`.

    Args:
        pipeline: An empty pipeline.
        options: The options of the job.
        fingerprint: Of the input listing; see `preprocessing.pipeline.plan.Plan`.
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
    _ = (
        (written_shards, reused_shards)
        | "Merge shards" >> beam.Flatten()
        | "Collect shards" >> beam.combiners.ToList()
        | "Find duplicates" >> beam.ParDo(FindDuplicates(options.audio.sample_rate_hz))
        | "Select recordings" >> beam.ParDo(SelectRecordings(options))
        | "Write selected records" >> beam.ParDo(WriteSelected(staging))
        | "Collect final shards" >> beam.combiners.ToList()
        | "Commit dataset" >> beam.ParDo(Commit(options, fingerprint, staging))
    )


# Beam pickles functions by reference, but class methods by value, with their byte code.
def _parse_source_file(line: str) -> SourceFile:
    return SourceFile.from_json(line)


def _parse_shard(line: str) -> ShardResult:
    return ShardResult.from_json(line)
