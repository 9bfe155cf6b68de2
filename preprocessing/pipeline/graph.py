"""The Beam job: clip list -> grouped by shard -> decoded and written by the shard's worker -> commit.

Only paths are grouped. Audio is read, decoded and written inside one worker and never goes through a shuffle.
"""

from __future__ import annotations

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult

from preprocessing.options import Options
from preprocessing.pipeline import commit, deduplicate
from preprocessing.pipeline.plan import Clip, Plan
from preprocessing.pipeline.shards import DropRecords, KeepShard, ShardResult, WriteShard
from preprocessing.sources.discovery import stage_indexes
from preprocessing.storage import beam_files

CLIPS = "clips.jsonl"  # staged: what there is to decode
KEPT = "kept.jsonl"  # staged: shards of the version before that nothing has touched


def build(pipeline: beam.Pipeline, options: Options, fingerprint: str, staging: str) -> None:
    """Adds the job's steps to `pipeline`; the plan lies in `staging`, as `stage` wrote it."""
    made = (
        pipeline
        | "Read clip list" >> beam.io.ReadFromText(beam_files.join(staging, CLIPS))
        | "Parse clip" >> beam.Map(Clip.from_json)
        | "Key by shard" >> beam.WithKeys(Clip.shard_key)
        | "Group paths by shard" >> beam.GroupByKey()
        | "Decode and write shard" >> beam.ParDo(WriteShard(options.audio, staging))
    )
    kept = (
        pipeline
        | "Read kept shards" >> beam.io.ReadFromText(beam_files.join(staging, KEPT))
        | "Parse shard" >> beam.Map(ShardResult.from_json)
        | "Keep shard" >> beam.ParDo(KeepShard(staging))
    )
    _ = (
        (made, kept)
        | "All shards" >> beam.Flatten()
        | "Collect shards" >> beam.combiners.ToList()
        | "Find copies" >> beam.ParDo(deduplicate.FindDuplicates(options.audio.sample_rate_hz))
        | "Drop copies" >> beam.ParDo(DropRecords(staging))
        | "Collect what stays" >> beam.combiners.ToList()
        | "Commit dataset" >> beam.ParDo(commit.Commit(options, fingerprint, staging))
    )


def stage(plan: Plan, kept: list[ShardResult], staging: str) -> None:
    """Writes the plan where every worker can read it: a job's graph has a size limit, a file has none."""
    kept_names = {shard.name for shard in kept}
    to_decode = (clip for clip in plan.clips if clip.shard not in kept_names)
    beam_files.make_folder(staging)
    for name, rows in ((CLIPS, to_decode), (KEPT, kept), (commit.REJECTED, plan.rejected)):
        beam_files.write(
            beam_files.join(staging, name), "".join(f"{row.to_json()}\n" for row in rows).encode()
        )
    commit.stage_listings(plan.listings, staging)
    stage_indexes(plan.indexes, staging)


def submit(
    options: Options, plan: Plan, kept: list[ShardResult], staging: str, beam_flags: list[str]
) -> PipelineResult:
    """Stages the plan, whose clips it takes, and starts the job; local runners return when it has ended."""
    stage(plan, kept, staging)
    plan.clips.clear()  # hundreds of bytes each, beside local workers
    pipeline = beam.Pipeline(options=PipelineOptions(beam_flags))
    build(pipeline, options, plan.fingerprint, staging)
    return pipeline.run()
