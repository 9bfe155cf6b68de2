"""A run's directory: worked on locally, and mirrored to `gs://` by a background thread."""

from __future__ import annotations

import contextlib
import hashlib
import queue
import shutil
import threading
from pathlib import Path
from typing import NamedTuple

from preprocessing.errors import STORAGE_FAILED, CommandError
from trainer.storage import Prefix, is_remote

CHECKPOINTS = "checkpoints"
POINTER = f"{CHECKPOINTS}/checkpoint"  # names the newest checkpoint: readers start here
EVENTS = "events"

State = tuple[int, int]  # of a file: modification time in ns, size in bytes


class Snapshot(NamedTuple):
    """The directory at one moment. The pointer's bytes are taken then: later it may name what came later."""

    files: dict[str, State]
    pointer: bytes | None


def working_copy(uri: str, cache: Path) -> Path:
    """The local directory of a run: itself, or for a remote one a folder in the cache."""
    return cache / "runs" / hashlib.sha256(uri.encode()).hexdigest()[:16] if is_remote(uri) else Path(uri)


def fetch_run(uri: str, cache: Path) -> Path:
    """A local copy of a run to read from; a local run is returned as it is."""
    if not is_remote(uri):
        return Path(uri)
    path = cache / "read" / working_copy(uri, cache).name
    shutil.rmtree(path, ignore_errors=True)
    prefix = Prefix(uri)
    # The pointer first: whatever it names was there before it.
    prefix.download([name for name in prefix.list() if name == POINTER], path)
    prefix.download([name for name in prefix.list() if name != POINTER and not name.startswith(EVENTS)], path)
    return path


class RunDirectory:
    """A run's local directory `path`, mirrored to `uri` if that is remote.

    Use as a context manager: leaving it waits for the last upload. The mirror uploads files first and the
    checkpoint pointer last, and deletes what is gone only after that: a reader never sees a torn checkpoint.
    """

    def __init__(self, uri: str, cache: Path) -> None:
        self.uri = uri
        self.path = working_copy(uri, cache)
        self._prefix = Prefix(uri) if is_remote(uri) else None
        self._pushed: dict[str, State] = {}
        self._requests: queue.Queue[Snapshot | None] = queue.Queue(maxsize=1)
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> RunDirectory:
        self.path.mkdir(parents=True, exist_ok=True)
        if self._prefix is not None:
            self._pull(self._prefix)
            self._thread.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._prefix is not None:
            self._request(self._snapshot())
            self._requests.put(None)
            self._thread.join()
            if kind is None:
                self._raise_failure()

    def commit(self) -> None:
        """Asks for the directory as it is now to be mirrored; returns at once.

        Raises:
            CommandError: An earlier upload failed for good (exit code 4).
        """
        if self._prefix is not None:
            self._raise_failure()
            self._request(self._snapshot())

    def _request(self, snapshot: Snapshot) -> None:
        with contextlib.suppress(queue.Empty):
            self._requests.get_nowait()  # an older state that was not begun: only the newest one matters
        self._requests.put(snapshot)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise CommandError(f"{self._failure}; the run is kept in {self.path}", STORAGE_FAILED)

    def _pull(self, prefix: Prefix) -> None:
        """The bucket's state replaces the local copy: another machine may have gone on with the run."""
        names = {name for name in prefix.list() if not name.startswith(EVENTS)}
        for name in self._snapshot().files:
            if name not in names:
                (self.path / name).unlink()
        prefix.download(sorted(names), self.path)
        self._pushed = self._snapshot().files

    def _work(self) -> None:
        while (snapshot := self._requests.get()) is not None:
            try:
                self._push(self._prefix, snapshot)
                self._failure = None
            except Exception as error:
                self._failure = error

    def _push(self, prefix: Prefix, snapshot: Snapshot) -> None:
        changed = [name for name, state in snapshot.files.items() if self._pushed.get(name) != state]
        there = [name for name in changed if name != POINTER and (self.path / name).exists()]
        prefix.upload(there, self.path)
        self._pushed.update({name: snapshot.files[name] for name in there})
        if not all((self.path / name).exists() for name in snapshot.files if name.startswith(CHECKPOINTS)):
            return  # a checkpoint was rotated out meanwhile; the next snapshot brings a newer pointer
        if snapshot.pointer is not None:
            prefix.write(POINTER, snapshot.pointer)
        for name in [name for name in self._pushed if name not in snapshot.files]:
            prefix.delete(name)
            del self._pushed[name]

    def _snapshot(self) -> Snapshot:
        files = {}
        for path in self.path.rglob("*"):
            if path.is_file():
                stat = path.stat()
                files[path.relative_to(self.path).as_posix()] = (stat.st_mtime_ns, stat.st_size)
        pointer = self.path / POINTER
        return Snapshot(files, pointer.read_bytes() if pointer.exists() else None)
