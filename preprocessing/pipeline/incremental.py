"""Incremental preprocessing: detect an up-to-date dataset, and shards whose source files are unchanged."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import NamedTuple

from preprocessing.dataset.manifest import MANIFEST_NAME, Manifest, Shard
from preprocessing.dataset.quarantine import QUARANTINE_NAME, Rejected
from preprocessing.dataset.records import RECORDS_NAME, RecordEntry
from preprocessing.dataset.versions import latest_version
from preprocessing.errors import CommandError
from preprocessing.options import Options
from preprocessing.pipeline.plan import Plan
from preprocessing.pipeline.shards import ShardResult, pack_entries
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


def reusable_shards(dataset: CommittedDataset, options: Options, plan: Plan) -> list[ShardResult]:
    """Return the shards that need not be decoded again, as if a job had written them.

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
    entries = defaultdict(list)
    for line in records.decode().splitlines():
        entry = RecordEntry.from_json(line)
        entries[entry.shard].append(entry)
    shard_of = {file.uri: file.shard for file in plan.source_files}
    rejected = defaultdict(list)
    for line in quarantine.decode().splitlines():
        file = Rejected.from_json(line)
        rejected[shard_of.get(file.uri, "")].append(file)
    reusable = []
    for shard in manifest.shards:
        if plan.listings.get(shard.name) != shard.listing_sha256:
            continue
        if not has_same_exclusions and (
            excluded_sha256 & {entry.source_sha256 for entry in entries[shard.name]}
            or any(file.reason == "excluded" for file in rejected[shard.name])
        ):
            continue
        result = _reuse(folder, shard, entries[shard.name], rejected[shard.name])
        if result is not None:
            reusable.append(result)
    return reusable


def _read(folder: str, name: str) -> bytes | None:
    uri = beam_files.join(folder, name)
    return beam_files.read(uri) if beam_files.exists(uri) else None


def _reuse(
    folder: str, shard: Shard, entries: list[RecordEntry], rejected: list[Rejected]
) -> ShardResult | None:
    """Return a shard of which no source file has changed; None if it must be decoded nevertheless."""
    if {file.reason for file in rejected} & {"duplicate", *TRANSIENT_REASONS}:
        return None
    path = beam_files.join(folder, shard.name)
    if len(entries) != shard.records or beam_files.size(path) != shard.bytes:
        return None
    in_file_order = sorted(entries, key=lambda entry: (entry.recording_id, entry.start_secs))
    return ShardResult(shard.name, path, shard.bytes, shard.sha256, pack_entries(in_file_order), rejected)
