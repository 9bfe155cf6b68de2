"""Verify the checksums of shards. A verified shard is then recognized by its size and modification time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from pathlib import Path

from preprocessing.dataset.manifest import Shard
from preprocessing.storage.atomic import write_atomically

FOLDER = "verified"  # in the cache: one file for each folder of shards
SUPERSEDED_LINES = 1_000  # that such a file may have before it is written anew

State = list[int | str]  # size in bytes, modification time in ns, SHA-256


class VerifiedShards:
    """Which shards of a folder have the checksums of the manifest. Safe in any thread.

    The cache has a line of JSON for each verification. It is appended to, so that its cost does not grow with the
    number of shards, and a process that is killed loses nothing.
    """

    def __init__(self, folder: Path, cache: Path) -> None:
        """Load what is known about `folder`, a local folder, from `cache`."""
        self._folder = folder
        name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
        self._record = cache / FOLDER / f"{name}.jsonl"
        self._lock = threading.Lock()
        self._states: dict[str, State] = {}
        self._load()

    def is_current(self, shard: Shard) -> bool:
        """Tell whether a shard was verified and has not changed since, by its size and modification time."""
        return self._states.get(shard.name) == _state(self._folder / shard.name, shard)

    def verify(self, shard: Shard) -> bool:
        """Tell whether a shard is there with the size and SHA-256 of the manifest; reads it unless it is current.

        Raises:
            OSError: The shard cannot be read, or the cache cannot be written.
        """
        path = self._folder / shard.name
        state = _state(path, shard)  # before the file is read
        if state is not None and self._states.get(shard.name) == state:
            return True
        if state is None or state[0] != shard.bytes or _sha256(path) != shard.sha256:
            return False
        with self._lock:
            self._states[shard.name] = state
            self._record.parent.mkdir(parents=True, exist_ok=True)
            with self._record.open("a") as file:
                file.write(_line(shard.name, state))
        return True

    def _load(self) -> None:
        try:
            lines = self._record.read_text().splitlines()
        except (OSError, ValueError):  # missing or corrupt: all shards are read
            return
        for line in lines:
            with contextlib.suppress(ValueError, TypeError):  # of a process that was killed
                name, state = json.loads(line)
                self._states[name] = state
        if len(lines) - len(self._states) > SUPERSEDED_LINES:
            write_atomically(self._record, "".join(_line(*item) for item in self._states.items()))


def _line(name: str, state: State) -> str:
    return json.dumps([name, state]) + "\n"


def _state(path: Path, shard: Shard) -> State | None:
    """Return what a verified shard is recognized by, or None if there is no such file."""
    try:
        stat = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return [stat.st_size, stat.st_mtime_ns, shard.sha256]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
