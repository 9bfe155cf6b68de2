"""Verify the checksums of shards. A verified shard is then recognized by its size and modification time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from preprocessing.dataset.manifest import Shard
from preprocessing.storage.atomic import write_atomically

THREADS = 4
FOLDER = "verified"  # in the cache: one file for each folder of shards

Verified = dict[str, list[int | str]]  # file name -> size in bytes, modification time in ns, SHA-256


def corrupt_shards(folder: Path, shards: Sequence[Shard], cache: Path) -> list[Shard]:
    """Return the shards that are missing from a folder or differ from the manifest.

    Args:
        folder: A local folder.
        shards: The shards to verify, as in the manifest.
        cache: Remembers verified shards: one whose size and modification time are unchanged is not read again.
    """
    record = cache / FOLDER / f"{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]}.json"
    known = _load(record)
    states = {shard.name: _state(folder / shard.name) for shard in shards}  # before the files are read
    valid = {shard.name for shard in shards if known.get(shard.name) == [*states[shard.name], shard.sha256]}
    unread = [
        shard for shard in shards if shard.name not in valid and states[shard.name][:1] == [shard.bytes]
    ]
    with ThreadPoolExecutor(THREADS) as pool:  # reading and hashing release Python's global lock
        digests = pool.map(lambda shard: _sha256(folder / shard.name), unread)
        valid |= {shard.name for shard, digest in zip(unread, digests, strict=True) if digest == shard.sha256}
    if unread:
        verified = (shard for shard in shards if shard.name in valid)
        _save(record, {shard.name: [*states[shard.name], shard.sha256] for shard in verified})
    return [shard for shard in shards if shard.name not in valid]


def _state(path: Path) -> list[int]:
    """Return size in bytes and modification time in ns; empty if there is no such file."""
    if not path.is_file():
        return []
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load(record: Path) -> Verified:
    try:
        return dict(json.loads(record.read_text()))
    except (OSError, ValueError, TypeError):  # missing or corrupt: all shards are read
        return {}


def _save(record: Path, verified: Verified) -> None:
    record.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(record, json.dumps(verified))
