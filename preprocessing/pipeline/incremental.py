"""Incremental preprocessing: detect an up-to-date dataset, and shards whose source files are unchanged."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from typing import NamedTuple

from preprocessing.dataset.manifest import MANIFEST_NAME, Manifest, Shard
from preprocessing.dataset.quarantine import QUARANTINE_NAME, Rejected
from preprocessing.dataset.records import RECORDS_NAME, RecordEntry
from preprocessing.dataset.versions import latest_version
from preprocessing.errors import CommandError
from preprocessing.options import Options
from preprocessing.pipeline.plan import Plan
from preprocessing.pipeline.shard_files import ShardDescription, StagedShard
from preprocessing.sources.exclusions import parse_exclusions
from preprocessing.storage import beam_files

EXCLUSIONS = "exclusions_sha256"  # among the options of a dataset
TRANSIENT_REASONS = ("unreadable", "no_permission", "missing")  # worth another attempt


class CommittedDataset(NamedTuple):
    """A finished dataset."""

    folder: str
    manifest: Manifest


def find_committed(options: Options) -> CommittedDataset | None:
    """Return the dataset in the output; None if there is none, or it is corrupt or of another schema."""
    folder = latest_version(options.output) if options.versioned else options.output
    if not folder:
        return None
    uri = beam_files.join(folder, MANIFEST_NAME)
    if not beam_files.exists(uri):
        return None
    try:
        return CommittedDataset(folder, Manifest.from_json(beam_files.read(uri), uri))
    except CommandError:
        return None


def is_up_to_date(dataset: CommittedDataset, options: Options, plan: Plan) -> bool:
    """Return whether a job would produce the dataset that exists already."""
    folder, manifest = dataset
    return (
        manifest.options == options.content_options()
        and manifest.inputs_fingerprint == plan.fingerprint
        and not set(TRANSIENT_REASONS) & set(manifest.quarantined)
        and all(beam_files.exists(beam_files.join(folder, shard.name)) for shard in manifest.shards)
    )


def reusable_shards(
    dataset: CommittedDataset, options: Options, plan: Plan, staging: str
) -> list[StagedShard]:
    """Return the shards that need not be decoded again, with staged descriptions as if this job had written them.

    A shard from which a duplicate was dropped is decoded again: the other recording may be gone.
    """
    folder, manifest = dataset
    wanted = options.content_options()
    has_same_exclusions = manifest.options.get(EXCLUSIONS) == wanted[EXCLUSIONS]
    if manifest.options | {EXCLUSIONS: ""} != wanted | {EXCLUSIONS: ""}:
        return []
    excluded_sha256 = parse_exclusions(options.exclusions).sha256
    records = _read(folder, RECORDS_NAME)
    quarantine = _read(folder, QUARANTINE_NAME)
    if records is None or quarantine is None:
        return []
    if hashlib.sha256(records).hexdigest() != manifest.records_sha256:
        return []
    lines = defaultdict(list)  # parsed shard by shard, since entries take several times as much memory
    for line in records.splitlines():
        lines[json.loads(line)["shard"]].append(line)
    shard_of = {file.uri: file.shard for file in plan.source_files}
    rejected = defaultdict(list)
    for line in quarantine.splitlines():
        file = Rejected.from_json(line.decode())
        rejected[shard_of.get(file.uri, "")].append(file)
    reusable = []
    for shard in manifest.shards:
        if plan.listings.get(shard.name) != shard.listing_sha256:
            continue
        entries = [RecordEntry.from_json(line.decode()) for line in lines[shard.name]]
        if not has_same_exclusions and (
            excluded_sha256 & {entry.source_sha256 for entry in entries}
            or any(file.reason == "excluded" for file in rejected[shard.name])
        ):
            continue
        if _is_reusable(folder, shard, entries, rejected[shard.name]):
            in_file_order = sorted(entries, key=lambda entry: (entry.recording_id, entry.start_secs))
            description = ShardDescription(in_file_order, rejected[shard.name]).write(staging, shard.name)
            path = beam_files.join(folder, shard.name)
            reusable.append(StagedShard(shard.name, path, shard.bytes, shard.sha256, description))
    return reusable


def _read(folder: str, name: str) -> bytes | None:
    uri = beam_files.join(folder, name)
    return beam_files.read(uri) if beam_files.exists(uri) else None


def _is_reusable(folder: str, shard: Shard, entries: list[RecordEntry], rejected: list[Rejected]) -> bool:
    """Return whether a shard of which no source file has changed is as good as a new one."""
    return (
        not {file.reason for file in rejected} & {"duplicate", *TRANSIENT_REASONS}
        and len(entries) == shard.records
        and beam_files.size(beam_files.join(folder, shard.name)) == shard.bytes
    )
