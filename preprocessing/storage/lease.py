"""Exclusive access to a folder: a file lock where it is local, a lease with a heartbeat on `gs://`.

The kernel releases a lock when its process dies. A bucket cannot know, so a lease expires unless its holder
renews it. Every write of a lease is conditional on the generation before, so two jobs never both hold it
(Gray & Cheriton 1989, "Leases").
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from google.api_core.exceptions import PreconditionFailed, RetryError

from preprocessing.errors import CommandError, StorageError, UsageError
from preprocessing.storage.gcs import (
    GcsObject,
    TransientError,
    retry_policy,
    retry_settings,
    storage_errors,
)

LEASE_NAME = ".lease"
RENEWALS = 4  # per lifetime of a lease
MAX_ATTEMPTS = 100  # to open a lease file
POLLS = 60  # per lifetime, by a process that waits for a lease to expire


class Lease:
    """Exclusive access to a folder, as long as it is not `lost`."""

    lost = False

    def check(self) -> None:
        """Call before each write to the folder.

        Raises:
            TransientError: The lease has expired, but it may not have been taken over: storage cannot be reached.
            CommandError: The lease is lost (exit code 4).
        """


@contextlib.contextmanager
def acquire(uri: str, survives_outage: bool = False) -> Iterator[Lease]:
    """Hold the lease of a folder for the length of a `with` block.

    If the folder is leased already, wait until that lease expires: its holder may have died, and this process
    may replace it. A renewal in the meantime shows that the holder is alive, and ends the wait with an error.

    Args:
        uri: The folder, local (made if it is missing) or `gs://`.
        survives_outage: Whether the lease survives an outage of storage longer than its lifetime, as long as no
            other process takes it over. Only for a holder that calls `Lease.check` before each write.

    Raises:
        CommandError: Another process holds the lease (2), or it was taken over or could not be renewed in time (4).
    """
    if not uri.startswith("gs://"):
        with _file_lock(Path(uri)):
            yield Lease()
        return
    lease = _GcsLease(uri, survives_outage)
    lease.acquire()
    try:
        yield lease
    except BaseException as error:
        if lease.lost:
            raise lease.lost_error() from error
        raise
    finally:
        try:
            lease.release()
        except KeyboardInterrupt:  # sent by the heartbeat of a lost lease, after the block had ended
            if not lease.lost:
                raise
    if lease.lost:
        raise lease.lost_error()


def holder(uri: str) -> str | None:
    """Describe the process that holds the lease of a folder; None if there is none."""
    if uri.startswith("gs://"):
        with storage_errors(uri):
            current = _GcsLease(uri).read()
            return current["owner"] if current and current["expires"] > time.time() else None
    try:
        file = (Path(uri) / LEASE_NAME).open()
    except (FileNotFoundError, NotADirectoryError):
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read()
    return None


@contextlib.contextmanager
def _file_lock(folder: Path) -> Iterator[None]:
    path = folder / LEASE_NAME
    while True:
        with _open_in_folder(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise _held_error(str(folder), file.read()) from None
            # Its last holder deletes the file before it unlocks it, and this may be the deleted one.
            if not _is_file(path, file):
                continue
            try:
                file.truncate(0)
                file.write(_this_process())
                file.flush()
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _open_in_folder(path: Path) -> TextIO:
    """Open a file for appending, and make its folder, which another process may delete as long as it is empty."""
    for _ in range(MAX_ATTEMPTS):
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("a+")
    path.parent.mkdir(parents=True, exist_ok=True)  # some folders cannot be made
    return path.open("a+")


def _is_file(path: Path, file: TextIO) -> bool:
    """Return whether an open file is the one that has this path now."""
    try:
        return path.stat().st_ino == os.fstat(file.fileno()).st_ino
    except FileNotFoundError:
        return False


class _GcsLease(Lease):
    """An object that names the holder and the time of expiry, and a thread that renews it."""

    def __init__(self, uri: str, survives_outage: bool = False) -> None:
        self._uri = uri
        self._survives_outage = survives_outage
        self._token = uuid.uuid4().hex
        self._lease_secs = retry_settings().lease_secs
        self._renew_secs = self._lease_secs / RENEWALS
        self._object = GcsObject(f"{uri.rstrip('/')}/{LEASE_NAME}")
        self._generation = 0
        self._expires = 0.0  # on this machine's monotonic clock
        self._is_taken_over = True  # if it is lost
        self._released = threading.Event()
        self._heartbeat = threading.Thread(target=self._renew_until_released, daemon=True)

    def acquire(self) -> None:
        """Write the lease when there is none that is valid, and start the heartbeat."""
        with storage_errors(self._uri):
            current = first = self.read()
            while current and current["expires"] > time.time():
                if first and current["expires"] != first["expires"]:
                    raise _held_error(self._uri, current["owner"])
                time.sleep(self._lease_secs / POLLS)
                current = self.read()
            try:
                retry_policy()(self._write_first)()
            except PreconditionFailed as error:
                raise _held_error(self._uri, "") from error
        self._heartbeat.start()

    def check(self) -> None:
        """See `Lease.check`."""
        if self.lost:
            raise self.lost_error()
        if time.monotonic() > self._expires:
            raise TransientError(f"the lease of {self._uri} could not be renewed")

    def lost_error(self) -> CommandError:
        """Return the error that says why the lease is lost."""
        if self._is_taken_over:
            return StorageError(f"{self._uri} was taken over by another process: run this command again")
        return StorageError(
            f"{self._uri} could not be reached for {self._lease_secs:g} s, and another process may have taken it over: "
            "run this command again"
        )

    def release(self) -> None:
        """Stop the heartbeat and delete the lease, unless another process has taken it over."""
        self._released.set()
        self._heartbeat.join()
        with contextlib.suppress(CommandError), storage_errors(self._uri):  # if this fails, it expires
            self._object.delete(self._generation, self._renew_secs)

    def read(self) -> dict[str, Any] | None:
        """Return the lease in the bucket, whoever holds it."""
        content, self._generation = self._object.read() or (b"", 0)
        return json.loads(content) if content else None

    def _write_first(self) -> None:
        """Retry like any other request, but with a new time of expiry in each attempt."""
        try:
            self._write()
        except RetryError as error:
            raise TransientError(str(error)) from error

    def _write(self) -> None:
        started = time.monotonic()
        content = {
            "owner": _this_process(),
            "token": self._token,
            "expires": time.time() + self._lease_secs,
        }
        self._generation = self._object.write(
            json.dumps(content).encode(), self._generation, self._renew_secs, self._is_own
        )
        self._expires = started + self._lease_secs

    def _is_own(self, content: bytes) -> bool:
        """Recognize every write of this lease: the response to an earlier one may have been lost, too."""
        return json.loads(content).get("token") == self._token

    def _renew_until_released(self) -> None:
        while not self._released.wait(self._renew_secs):
            try:
                with storage_errors(self._uri):
                    self._write()
            except CommandError as error:
                taken_over = isinstance(error.__cause__, PreconditionFailed)
                expired = time.monotonic() > self._expires
                if taken_over or (expired and not self._survives_outage):
                    self.lost, self._is_taken_over = True, taken_over
                    os.kill(os.getpid(), signal.SIGINT)  # interrupts whatever the main thread waits for
                    return


def _this_process() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _held_error(uri: str, owner: str) -> CommandError:
    description = f" ({owner})" if owner else ""
    return UsageError(
        f"another process{description} is at work on {uri}: wait for it or stop it, or use another folder",
    )
