"""The files that launcher and workers of one job exchange, in a folder that is deleted afterwards.

They are files because the graph of a job has a size limit.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from preprocessing.dataset.quarantine import Rejected, bad_fraction
from preprocessing.pipeline.plan import Plan, SourceFile
from preprocessing.pipeline.shard_files import StagedShard, close_staging
from preprocessing.sources.opener import stage_archives
from preprocessing.storage import beam_files

SOURCE_FILES_NAME = "source_files.jsonl"  # the files to decode
REUSED_NAME = "reused.jsonl"  # the unchanged shards of the previous dataset
REJECTED_NAME = "rejected.jsonl"  # the files that the plan rejected
LISTINGS_NAME = "listings.json"  # shard -> digest of its input listing
OUTCOME_NAME = "outcome.json"  # how the job ended, whatever dataset existed before


class Outcome(NamedTuple):
    """How a job ended."""

    folder: str  # of the dataset, or empty if none was written
    recordings: int
    reasons: dict[str, int]  # reason -> rejected files

    @property
    def bad_fraction(self) -> float:
        """The fraction of recordings that were rejected."""
        return bad_fraction(self.recordings, self.reasons)


@contextlib.contextmanager
def staging_folder(output: str) -> Iterator[str]:
    """Provide a folder below `output`, which the caller has locked; delete it and those of killed jobs."""
    root = beam_files.join(output, ".staging")
    staging = beam_files.join(root, uuid.uuid4().hex[:12])
    beam_files.delete_folder(root)
    try:
        yield staging
    finally:
        close_staging(staging)
        beam_files.delete_folder(root)
        # A thread may have had its path already, and have created the file after the list was made.
        if beam_files.exists(root):
            beam_files.delete_folder(root)


def write_plan(plan: Plan, reused: list[StagedShard], staging: str) -> None:
    """Write a plan and the shards that need not be decoded."""
    reused_names = {shard.name for shard in reused}
    to_decode = (file for file in plan.source_files if file.shard not in reused_names)
    beam_files.make_folder(staging)
    _write_lines(staging, SOURCE_FILES_NAME, to_decode)
    _write_lines(staging, REUSED_NAME, reused)
    _write_lines(staging, REJECTED_NAME, sorted(set(plan.rejected)))
    beam_files.write(beam_files.join(staging, LISTINGS_NAME), json.dumps(plan.listings).encode())
    stage_archives(plan.compressed_archives, staging)


def read_listings(staging: str) -> dict[str, str]:
    """Return the digest of each shard's input listing."""
    listings: dict[str, str] = json.loads(beam_files.read(beam_files.join(staging, LISTINGS_NAME)))
    return listings


def write_outcome(outcome: Outcome, staging: str) -> None:
    """Write how the job ended."""
    beam_files.write(beam_files.join(staging, OUTCOME_NAME), json.dumps(outcome._asdict()).encode())


def read_outcome(staging: str) -> Outcome:
    """Return how the job ended."""
    return Outcome(**json.loads(beam_files.read(beam_files.join(staging, OUTCOME_NAME))))


def _write_lines(staging: str, name: str, rows: Iterable[SourceFile | StagedShard | Rejected]) -> None:
    with beam_files.create(beam_files.join(staging, name)) as stream:
        for row in rows:  # one by one: there may be millions
            stream.write(f"{row.to_json()}\n".encode())
