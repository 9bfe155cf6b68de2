"""A folder brought to a bucket by a thread, while the folder goes on changing.

Each request links what has changed since the last upload into an outbox, which costs nothing until the
folder drops a file. At most two such snapshots exist, the one that is on its way and the newest: a bucket
that is behind costs at most twice the checkpoints that the folder keeps, and no memory.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
import uuid
from collections import deque
from pathlib import Path
from typing import NamedTuple

from preprocessing.errors import STORAGE_FAILED, CommandError
from preprocessing.storage import lease
from trainer import event_log
from trainer.runs.storage import Prefix

BEHIND_SECS = 60.0  # a bucket that is behind for less is not spoken of; also between two warnings

State = tuple[int, int]  # of a file: modification time in ns, size in bytes


class Snapshot(NamedTuple):
    """The folder at one moment, with what changed since the last upload linked into `outbox`.

    Links stay when a checkpoint is rotated out; the pointer's bytes are taken at once, since later it may
    name what came later.
    """

    number: int  # of requests, when it was taken
    is_last: bool  # of this process
    files: dict[str, State]
    pointer: bytes | None
    outbox: Path


class Mirror:
    """Brings `path` to `prefix`: files first, then `pointer`, which names some of them, then deletions.

    So a reader of the bucket who begins at the pointer finds all that it names. What could not be uploaded is
    kept, and goes up when the run is started again on this machine. Names that begin with one of `own` are
    only ever uploaded: each machine writes its own.
    """

    def __init__(self, path: Path, prefix: Prefix, pointer: str, own: tuple[str, ...]) -> None:
        self.path = path
        self.prefix = prefix
        self._pointer_name, self._own = pointer, own
        self._outbox = path.with_name(f"{path.name}.outbox")
        # Exists while something is not uploaded; holds the bucket's pointer as this machine last knew it.
        self._behind = path.with_name(f"{path.name}.behind")
        self._pointer = b""  # of the bucket
        self._there: set[str] = set()  # names in the bucket, without its own
        self._pushed: dict[str, State] = {}
        self._changed = threading.Condition()  # guards what follows
        self._next: Snapshot | None = None
        self._requested = 0
        self._open: deque[float] = deque()  # when those requests came that are not served, oldest first
        self._told_at: float | None = None  # that the bucket is behind
        self._closing = False
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        """The bucket's state replaces the local copy: another machine may have gone on with the run.

        But where this machine has what the bucket lacks, and nobody has moved the bucket since, that stays.
        """
        shutil.rmtree(self._outbox, ignore_errors=True)
        self._pointer = self.prefix.read(self._pointer_name) or b""
        self._there = self._listed()
        if not (self._behind.exists() and self._behind.read_bytes() == self._pointer):
            for name in self._states():
                if name not in self._there:
                    (self.path / name).unlink()
            self.prefix.download(sorted(self._there), self.path)
            self._pushed = self._states()
        self._thread.start()

    def request(self, is_last: bool = False) -> None:
        """Asks for the folder as it is now to be mirrored; returns at once.

        Raises:
            CommandError: An earlier upload failed for good (exit code 4).
        """
        self._raise_failure()
        snapshot = self._snapshot(is_last)
        with self._changed:
            self._behind.write_bytes(self._pointer)
            if self._next is not None:  # only the newest state matters
                shutil.rmtree(self._next.outbox, ignore_errors=True)
            self._next = snapshot
            self._open.append(time.monotonic())
            self._warn()
            self._changed.notify_all()

    def close(self) -> None:
        """Asks a last time, and waits for it.

        Raises:
            CommandError: It failed for good (exit code 4).
        """
        self.request(is_last=True)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        while self._thread.is_alive():
            self._thread.join(BEHIND_SECS)
            with self._changed:
                self._warn()
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            kept = f"the run is kept in {self.path} and goes up when it is started again here"
            raise CommandError(f"{self._failure}; {kept}", STORAGE_FAILED)

    def _work(self) -> None:
        while (snapshot := self._take()) is not None:
            try:
                self._push(snapshot)
                self._finish(snapshot)
            except Exception as error:
                self._failure = error
            finally:
                shutil.rmtree(snapshot.outbox, ignore_errors=True)

    def _take(self) -> Snapshot | None:
        with self._changed:
            self._changed.wait_for(lambda: self._next is not None or self._closing)
            if self._closing and self._failure is not None:
                return None
            snapshot, self._next = self._next, None
            return snapshot

    def _push(self, snapshot: Snapshot) -> None:
        files = snapshot.files
        changed = [
            name for name in files if name != self._pointer_name and self._pushed.get(name) != files[name]
        ]
        self.prefix.upload(changed, snapshot.outbox)
        self._pushed.update({name: files[name] for name in changed})
        self._there.update(changed)
        if snapshot.pointer is not None and snapshot.pointer != self._pointer:
            self.prefix.write(self._pointer_name, snapshot.pointer)
            self._pointer = snapshot.pointer
        if snapshot.is_last:  # an upload that comes late brings back what has been deleted meanwhile
            self._there = self._listed()
        for name in self._there - files.keys():
            self.prefix.delete(name)
            self._pushed.pop(name, None)
        self._there &= files.keys()

    def _finish(self, snapshot: Snapshot) -> None:
        with self._changed:
            self._failure = None
            while len(self._open) > self._requested - snapshot.number:
                self._open.popleft()
            if not self._open:
                self._behind.unlink(missing_ok=True)
                if self._told_at is not None:
                    event_log.log_event("caught_up", "the bucket has caught up")
                self._told_at = None

    def _warn(self) -> None:
        """Says how far the bucket is behind, if it is and it is time to."""
        now = time.monotonic()
        since = self._open[0] if self._open else now
        if now - max(since, self._told_at or since) >= BEHIND_SECS:
            self._told_at = now
            why = f" ({self.prefix.trouble})" if self.prefix.trouble else ""
            late = f"{len(self._open)} checkpoint(s), {now - since:.0f} s behind"
            message = f"the bucket is {late}{why}: the run goes on, and is kept in {self.path}"
            event_log.log_event("behind", message, event_log.WARNING)

    def _listed(self) -> set[str]:
        return {name for name in self.prefix.list() if not name.startswith(self._own)}

    def _snapshot(self, is_last: bool) -> Snapshot:
        files = self._states()
        folder = self._outbox / uuid.uuid4().hex
        for name, state in files.items():
            if self._pushed.get(name) != state:
                link = folder / name
                link.parent.mkdir(parents=True, exist_ok=True)
                os.link(self.path / name, link)
        pointer = self.path / self._pointer_name
        self._requested += 1
        content = pointer.read_bytes() if pointer.exists() else None
        return Snapshot(self._requested, is_last, files, content, folder)

    def _states(self) -> dict[str, State]:
        found = {}
        for path in self.path.rglob("*"):
            if path.is_file() and path.name != lease.NAME:
                stat = path.stat()
                found[path.relative_to(self.path).as_posix()] = (stat.st_mtime_ns, stat.st_size)
        return found
