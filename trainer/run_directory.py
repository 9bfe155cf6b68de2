"""A run's directory: worked on locally, and mirrored to `gs://` by a background thread."""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import re
import shutil
import tempfile
import threading
import uuid
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from preprocessing import lease
from preprocessing.errors import BAD_DATA, STORAGE_FAILED, USAGE, CommandError
from trainer import config as configs
from trainer.pointer import follow
from trainer.storage import Prefix, is_remote

CHECKPOINTS = "checkpoints"
GENERATED = "generated"  # music made when training ended
EVALUATION = "evaluation"  # tables and pictures of the last evaluation
POINTER = f"{CHECKPOINTS}/checkpoint"  # names the newest checkpoint: readers start here
EVENTS = "events"
REPORT = "report.html"  # written last, when all epochs are done
METRICS = "metrics.jsonl"
READS = 5  # tries at a run that is being written

State = tuple[int, int]  # of a file: modification time in ns, size in bytes


class Snapshot(NamedTuple):
    """The directory at one moment, with what changed since the last upload linked into `folder`.

    Links cost nothing and stay when a checkpoint is rotated out; the pointer's bytes are taken at once, since
    later it may name what came later.
    """

    files: dict[str, State]
    pointer: bytes | None
    folder: Path


def working_copy(uri: str, cache: Path) -> Path:
    """The local directory of a run: itself, or for a remote one a folder in the cache."""
    return cache / "runs" / hashlib.sha256(uri.encode()).hexdigest()[:16] if is_remote(uri) else Path(uri)


def fetch_run(uri: str, cache: Path) -> Path:
    """A local copy of what generation needs of a run; a local run is returned as it is.

    A folder of models stands for its champion.

    A run that is training replaces its checkpoints: one that is gone by the time it is fetched is looked up
    again.

    Raises:
        CommandError: The run has no checkpoint (3), or storage failed (4).
    """
    uri = follow(uri)
    if not is_remote(uri):
        return Path(uri)
    prefix = Prefix(uri)
    for attempt in range(1, READS + 1):
        pointer = prefix.read(POINTER)
        if pointer is None:
            raise CommandError(f"--run {uri} has no checkpoint yet: train at least one epoch there", BAD_DATA)
        copy = cache / "read" / hashlib.sha256(uri.encode() + pointer).hexdigest()[:16]
        try:
            if not copy.exists():
                _download_run(prefix, pointer, copy)
            return copy
        except CommandError:
            if attempt == READS or prefix.read(POINTER) == pointer:
                raise
    raise AssertionError("the last attempt returns or raises")


def _download_run(prefix: Prefix, pointer: bytes, copy: Path) -> None:
    """Configuration, kept clips and the checkpoint that `pointer` names, into `copy`, as a whole or not."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=copy.parent))
    try:
        newest = re.search(rb'"([^"]+)"', pointer)[1].decode()
        wanted = (configs.NAME, f"{CHECKPOINTS}/{newest}.", "samples/clips.json", "samples/originals/")
        prefix.download([name for name in prefix.list() if name.startswith(wanted)], temporary)
        (temporary / POINTER).write_bytes(pointer)
        with contextlib.suppress(OSError):  # another reader was quicker
            temporary.rename(copy)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class RunDirectory:
    """A run's local directory `path`, mirrored to `uri` if that is remote.

    Use as a context manager: leaving it waits for the last upload. The mirror uploads files first and the
    checkpoint pointer last, and deletes what is gone only after that: a reader never sees a torn checkpoint.
    What could not be uploaded is kept, and goes up when the run is started again on this machine.
    """

    def __init__(self, uri: str, cache: Path) -> None:
        if not uri:
            raise CommandError("--run must not be empty", USAGE)
        self.uri = uri
        self.path = working_copy(uri, cache)
        self._prefix = Prefix(uri) if is_remote(uri) else None
        self._outbox = self.path.with_name(f"{self.path.name}.outbox")
        # Exists while something is not uploaded; holds the bucket's pointer as this machine last knew it.
        self._behind = self.path.with_name(f"{self.path.name}.behind")
        self._behind_lock = threading.Lock()
        self._bucket_pointer = b""
        self._there: set[str] = set()  # names in the bucket, without events
        self._pushed: dict[str, State] = {}
        self._requests: queue.Queue[Snapshot | None] = queue.Queue(maxsize=1)
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> RunDirectory:
        if self.path.exists() and not self.path.is_dir():
            raise CommandError(f"--run {self.uri} is a file: name a directory", USAGE)
        self.path.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as held:
            self._lease = held.enter_context(lease.hold(self.uri))
            if self._prefix is not None:
                shutil.rmtree(self._outbox, ignore_errors=True)
                self._pull(self._prefix)
                self._thread.start()
            self._held = held.pop_all()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.ExitStack() as held:
            held.push(self._held)
            if self._prefix is not None and self._thread.is_alive():
                self._request()
                self._requests.put(None)
                self._thread.join()
                if self._failure is None:
                    self._behind.unlink(missing_ok=True)
                # A stop request, too, must not hide that the bucket lacks what it promises.
                if kind is None or issubclass(kind, CommandError):
                    self._raise_failure()

    def commit(self) -> None:
        """Asks for the directory as it is now to be mirrored; returns at once.

        Raises:
            CommandError: An earlier upload failed for good (exit code 4).
        """
        if self._prefix is not None:
            self._raise_failure()
            self._request()

    def _request(self) -> None:
        snapshot = self._snapshot()
        with self._behind_lock:
            self._behind.write_bytes(self._bucket_pointer)
            with contextlib.suppress(queue.Empty):  # only the newest state matters
                shutil.rmtree(self._requests.get_nowait().folder, ignore_errors=True)
            self._requests.put(snapshot)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            kept = f"the run is kept in {self.path} and goes up when it is started again here"
            raise CommandError(f"{self._failure}; {kept}", STORAGE_FAILED)

    def _pull(self, prefix: Prefix) -> None:
        """The bucket's state replaces the local copy: another machine may have gone on with the run.

        But where this machine has what the bucket lacks, and nobody has moved the bucket since, that stays.
        """
        self._bucket_pointer = prefix.read(POINTER) or b""
        self._there = {name for name in prefix.list() if not name.startswith((EVENTS, lease.NAME))}
        if self._behind.exists() and self._behind.read_bytes() == self._bucket_pointer:
            return
        for name in self._states():
            if name not in self._there:
                (self.path / name).unlink()
        prefix.download(sorted(self._there), self.path)
        self._pushed = self._states()

    def _work(self) -> None:
        while (snapshot := self._requests.get()) is not None:
            try:
                self._push(self._prefix, snapshot)
                self._failure = None
                with self._behind_lock:
                    if self._requests.empty():
                        self._behind.unlink(missing_ok=True)
            except Exception as error:
                self._failure = error
            finally:
                shutil.rmtree(snapshot.folder, ignore_errors=True)

    def _push(self, prefix: Prefix, snapshot: Snapshot) -> None:
        if self._lease.lost:  # another machine goes on with the run, and what is there is its own
            return
        files = snapshot.files
        changed = [name for name in files if name != POINTER and self._pushed.get(name) != files[name]]
        prefix.upload(changed, snapshot.folder)
        self._pushed.update({name: files[name] for name in changed})
        self._there.update(changed)
        if snapshot.pointer is not None and snapshot.pointer != self._bucket_pointer:
            prefix.write(POINTER, snapshot.pointer)
            self._bucket_pointer = snapshot.pointer
        for name in self._there - files.keys():
            prefix.delete(name)
            self._pushed.pop(name, None)
        self._there &= files.keys()

    def _snapshot(self) -> Snapshot:
        files = self._states()
        folder = self._outbox / uuid.uuid4().hex
        for name, state in files.items():
            if self._pushed.get(name) != state:
                link = folder / name
                link.parent.mkdir(parents=True, exist_ok=True)
                os.link(self.path / name, link)
        pointer = self.path / POINTER
        return Snapshot(files, pointer.read_bytes() if pointer.exists() else None, folder)

    def _states(self) -> dict[str, State]:
        found = {}
        for path in self.path.rglob("*"):
            if path.is_file() and path.name != lease.NAME:
                stat = path.stat()
                found[path.relative_to(self.path).as_posix()] = (stat.st_mtime_ns, stat.st_size)
        return found
