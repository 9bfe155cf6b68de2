"""Upload a folder to a bucket from a background thread, while the folder keeps changing.

Each request hard-links what has changed since the last upload into an upload queue, which takes no space until
the folder drops a file. The queue holds at most two snapshots: the one in progress and the newest. So a slow
bucket costs at most twice the checkpoints that the folder keeps on disk, and no memory.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from preprocessing import event_log
from preprocessing.errors import StorageError
from preprocessing.storage import lease
from preprocessing.storage.atomic import is_temporary, write_atomically
from trainer.runs.storage import GcsPrefix

SYNC_LAG_SECS = 60.0  # a shorter lag of the bucket is not reported; also the time between two warnings

FileState = tuple[int, int]  # modification time in ns, size in bytes


class Uploader:
    """Uploads a folder: changed files first, then the pointer, which names some of them, then deletions.

    So a reader of the bucket that starts at the pointer finds all files that it names. Files that could not be
    uploaded stay on this machine and are uploaded when the run is started here again.

    Attributes:
        path: The local folder.
        prefix: Where it is uploaded to.
    """

    def __init__(
        self,
        path: Path,
        prefix: GcsPrefix,
        pointer: str,
        upload_only: tuple[str, ...],
        find_left_overs: Callable[[set[str], bytes], set[str]],
    ) -> None:
        """Prepare the upload of `path` to `prefix`; `start` begins it.

        Args:
            path: The local folder.
            prefix: Where to upload it to.
            pointer: Name of the file that is uploaded after all others.
            upload_only: Prefixes of names that are never downloaded or deleted: each machine writes its own files.
            find_left_overs: Returns those of the names in the bucket that an interrupted upload has left, given the
                content of its pointer. They are not downloaded, and deleted after the next upload.
        """
        self.path = path
        self.prefix = prefix
        self._pointer_name, self._upload_only, self._find_left_overs = pointer, upload_only, find_left_overs
        self._queue_folder = path.with_name(f"{path.name}.upload-queue")
        # Exists while the bucket lags; holds the bucket's pointer as this machine knew it last.
        self._lag_marker = path.with_name(f"{path.name}.unsynced")
        self._remote_pointer = b""
        self._remote_names: set[str] = set()  # without those of `upload_only`
        # Names that are or were in the run: other files outside of its checkpoints are somebody else's.
        self._known_names: set[str] = set()
        self._uploaded: dict[str, FileState] = {}
        self._changed = threading.Condition()  # guards the following attributes
        self._next: _Snapshot | None = None
        self._requested = 0
        self._waiting_since: deque[float] = deque()  # times of the requests not yet served, oldest first
        self._warned_at: float | None = None  # time of the last warning about a sync lag
        self._closing = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Download the bucket's content into the folder, since another machine may have continued the run, and start.

        Nothing is downloaded if the bucket lags behind this machine and no other machine has changed its pointer.
        """
        shutil.rmtree(self._queue_folder, ignore_errors=True)
        self._remote_pointer = self.prefix.read(self._pointer_name) or b""
        self._remote_names = self._list_remote()
        self._known_names |= self._remote_names
        if not (self._lag_marker.exists() and self._lag_marker.read_bytes() == self._remote_pointer):
            wanted = self._remote_names - self._find_left_overs(self._remote_names, self._remote_pointer)
            for name in self._file_states():
                if name not in wanted:
                    (self.path / name).unlink()
            self.prefix.download(sorted(wanted), self.path)
            self._uploaded = self._file_states()
        self._thread.start()

    def request(self, is_last: bool = False) -> None:
        """Request an upload of the folder as it is now; return at once.

        Raises:
            CommandError: An earlier upload failed for good (exit code 4).
        """
        self._raise_error()
        snapshot = self._take_snapshot(is_last)
        with self._changed:
            write_atomically(self._lag_marker, self._remote_pointer)
            if self._next is not None:  # only the newest state matters
                shutil.rmtree(self._next.queued, ignore_errors=True)
            self._next = snapshot
            self._waiting_since.append(time.monotonic())
            self._warn_of_lag()
            self._changed.notify_all()

    def close(self) -> None:
        """Request a last upload, and wait for it; nothing is uploaded after the return.

        Raises:
            CommandError: It, or an earlier upload, failed for good (exit code 4).
        """
        try:
            self.request(is_last=True)
        finally:
            with self._changed:
                self._closing = True
                self._changed.notify_all()
            while self._thread.is_alive():
                self._thread.join(SYNC_LAG_SECS)
                with self._changed:
                    self._warn_of_lag()
        self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise StorageError(
                f"{self._error}; the run is kept in {self.path} and is uploaded when it is started here again",
            )

    def _run(self) -> None:
        while (snapshot := self._wait_for_snapshot()) is not None:
            try:
                self._upload(snapshot)
                self._mark_done(snapshot)
            except Exception as error:
                self._error = error
            finally:
                shutil.rmtree(snapshot.queued, ignore_errors=True)

    def _wait_for_snapshot(self) -> _Snapshot | None:
        with self._changed:
            self._changed.wait_for(lambda: self._next is not None or self._closing)
            if self._closing and self._error is not None:
                return None
            snapshot, self._next = self._next, None
            return snapshot

    def _upload(self, snapshot: _Snapshot) -> None:
        files = snapshot.files
        changed = [
            name for name in files if name != self._pointer_name and self._uploaded.get(name) != files[name]
        ]
        self.prefix.upload(changed, snapshot.queued)
        self._uploaded.update({name: files[name] for name in changed})
        self._remote_names.update(changed)
        self._known_names.update(changed)
        if snapshot.pointer is not None and snapshot.pointer != self._remote_pointer:
            self.prefix.write(self._pointer_name, snapshot.pointer)
            self._remote_pointer = snapshot.pointer
        # A delayed upload may have restored a file that was deleted meanwhile.
        if snapshot.is_last:
            checkpoints = self._pointer_name.rpartition("/")[0] + "/"
            self._remote_names = {
                name
                for name in self._list_remote()
                if name in self._known_names or name.startswith(checkpoints)
            }
        for name in self._remote_names - files.keys():
            self.prefix.delete(name)
            self._uploaded.pop(name, None)
        self._remote_names &= files.keys()

    def _mark_done(self, snapshot: _Snapshot) -> None:
        with self._changed:
            self._error = None
            while len(self._waiting_since) > self._requested - snapshot.number:
                self._waiting_since.popleft()
            if not self._waiting_since:
                self._lag_marker.unlink(missing_ok=True)
                if self._warned_at is not None:
                    event_log.log_event("caught_up", "the bucket has caught up")
                self._warned_at = None

    def _warn_of_lag(self) -> None:
        """Warn of a long sync lag, at most once per `SYNC_LAG_SECS`."""
        now = time.monotonic()
        since = self._waiting_since[0] if self._waiting_since else now
        if now - max(since, self._warned_at or since) >= SYNC_LAG_SECS:
            self._warned_at = now
            reason = f" ({self.prefix.last_error})" if self.prefix.last_error else ""
            lag = f"{len(self._waiting_since)} checkpoint(s), {now - since:.0f} s"
            message = f"the bucket lags by {lag}{reason}: training continues, and {self.path} has all files"
            checkpoints = len(self._waiting_since)
            event_log.log_event(
                "sync_lag",
                message,
                event_log.WARNING,
                lag_secs=round(now - since, 1),
                checkpoints=checkpoints,
            )

    def _list_remote(self) -> set[str]:
        return {name for name in self.prefix.list_names() if not name.startswith(self._upload_only)}

    def _take_snapshot(self, is_last: bool) -> _Snapshot:
        files = self._file_states()
        queued = self._queue_folder / uuid.uuid4().hex
        for name, state in files.items():
            if self._uploaded.get(name) != state:
                link = queued / name
                link.parent.mkdir(parents=True, exist_ok=True)
                os.link(self.path / name, link)
        pointer = self.path / self._pointer_name
        self._requested += 1
        content = pointer.read_bytes() if pointer.exists() else None
        return _Snapshot(self._requested, is_last, files, content, queued)

    def _file_states(self) -> dict[str, FileState]:
        states = {}
        for path in self.path.rglob("*"):
            if path.is_file() and path.name != lease.LEASE_NAME and not is_temporary(path):
                stat = path.stat()
                states[path.relative_to(self.path).as_posix()] = (stat.st_mtime_ns, stat.st_size)
        return states


class _Snapshot(NamedTuple):
    """The folder at one moment.

    The hard links outlive checkpoints that the folder drops. The pointer is read at once, since the file may name a
    later checkpoint by the time it is uploaded.
    """

    number: int  # of the request
    is_last: bool  # of this process
    files: dict[str, FileState]
    pointer: bytes | None
    queued: Path  # the folder with links to what has changed since the last upload
