"""What of an earlier dataset can be kept: shards of which nothing has changed."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict

from preprocessing.dataset import records
from preprocessing.dataset.manifest import NAME, QUARANTINE_NAME, Manifest, from_json
from preprocessing.dataset.quarantine import Rejected
from preprocessing.dataset.versions import latest
from preprocessing.errors import CommandError
from preprocessing.options import Options
from preprocessing.pipeline.plan import Plan
from preprocessing.pipeline.shards import ShardResult, pack
from preprocessing.storage import beam_files

WORTH_ANOTHER_TRY = ("unreadable", "no_permission", "missing")  # a file system may have been ill


def committed(options: Options) -> tuple[str, Manifest] | None:
    """The dataset that is there, and its folder; a damaged or foreign one counts as none."""
    folder = latest(options.output) if options.versioned else options.output
    uri = beam_files.join(folder, NAME) if folder else ""
    try:
        return (folder, from_json(beam_files.read(uri), uri)) if uri and beam_files.exists(uri) else None
    except CommandError:
        return None


def is_same_work(folder: str, made: Manifest, options: Options, plan: Plan) -> bool:
    """Whether a job would make what is already there."""
    return (
        made.options == options.that_shape_the_data()
        and made.inputs_fingerprint == plan.fingerprint
        and not set(WORTH_ANOTHER_TRY) & set(made.quarantined)
        and all(beam_files.exists(beam_files.join(folder, shard.name)) for shard in made.shards)
    )


def reusable_shards(folder: str, made: Manifest, options: Options, plan: Plan) -> list[ShardResult]:
    """The shards that a job need not decode again, as if it had.

    A shard that once lost a copy of another recording is made again: the other one may be gone.
    """
    home = [beam_files.join(folder, name) for name in (QUARANTINE_NAME, records.NAME)]
    if made.options != options.that_shape_the_data() or not all(map(beam_files.exists, home)):
        return []
    quarantine, lines = map(beam_files.read, home)
    if hashlib.sha256(lines).hexdigest() != made.records_sha256:
        return []
    shard_of = {clip.uri: clip.shard for clip in plan.clips}
    rejected: dict[str, list[Rejected]] = defaultdict(list)
    for line in quarantine.decode().splitlines():
        one = Rejected(**json.loads(line))
        rejected[shard_of.get(one.uri, "")].append(one)
    entries = defaultdict(list)
    for line in lines.decode().splitlines():
        entry = records.from_json(line)
        entries[entry.shard].append(entry)
    kept = []
    for shard in made.shards:
        path = beam_files.join(folder, shard.name)
        reasons = {one.reason for one in rejected[shard.name]}
        settled = not reasons & {"duplicate", *WORTH_ANOTHER_TRY}
        same = (
            plan.listings.get(shard.name) == shard.listing_sha256
            and len(entries[shard.name]) == shard.records
        )
        if settled and same and beam_files.size(path) == shard.bytes:
            inside = sorted(entries[shard.name], key=lambda entry: (entry.recording_id, entry.start_secs))
            row = ShardResult(shard.name, path, shard.bytes, shard.sha256, pack(inside), rejected[shard.name])
            kept.append(row)
    return kept
