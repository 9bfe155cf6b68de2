"""Which shards are what `dataset.json` says, to the bit: read once, then known by size and time."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from preprocessing.dataset.manifest import Shard

THREADS = 4
FOLDER = "verified"  # in the cache: a file for each folder of shards


def corrupt_shards(folder: Path, shards: Sequence[Shard], cache: Path) -> list[Shard]:
    """Those of `shards` that `folder` lacks, or that differ from the manifest.

    What was right when it was read, and has the size and time that it had then, is not read again.
    """
    memory = cache / FOLDER / f"{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]}.json"
    known = _recall(memory)
    states = {shard.name: _state(folder / shard.name) for shard in shards}  # before they are read
    right = {shard.name for shard in shards if known.get(shard.name) == [*states[shard.name], shard.sha256]}
    unread = [
        shard for shard in shards if shard.name not in right and states[shard.name][:1] == [shard.bytes]
    ]
    with ThreadPoolExecutor(THREADS) as pool:  # reading and hashing let go of Python's lock
        digests = pool.map(lambda shard: _sha256(folder / shard.name), unread)
        right |= {shard.name for shard, digest in zip(unread, digests, strict=True) if digest == shard.sha256}
    if unread:
        _keep(memory, {one.name: [*states[one.name], one.sha256] for one in shards if one.name in right})
    return [shard for shard in shards if shard.name not in right]


def _state(path: Path) -> list[int]:
    """Size in bytes and modification time in ns; empty if there is no such file."""
    if not path.is_file():
        return []
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _recall(memory: Path) -> dict[str, list]:
    try:
        return dict(json.loads(memory.read_text()))
    except (OSError, ValueError, TypeError):  # none yet, or damaged: all is read again
        return {}


def _keep(memory: Path, states: dict[str, list]) -> None:
    memory.parent.mkdir(parents=True, exist_ok=True)
    temporary = memory.with_name(f"{memory.name}.{os.getpid()}")
    temporary.write_text(json.dumps(states))
    temporary.replace(memory)
