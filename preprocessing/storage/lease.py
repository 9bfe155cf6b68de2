"""One process at a time on a folder: a lock of the kernel's where it is local, a lease with a heartbeat on gs://.

The kernel lets go of a lock when its owner dies, however it dies. A bucket cannot know, so a lease there
expires unless it is renewed; it is taken, renewed and given back by generation-match, so that two jobs never
both believe that they have it.
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

from google.api_core.exceptions import PreconditionFailed, RetryError

from preprocessing.errors import STORAGE_FAILED, USAGE, CommandError
from preprocessing.storage.gcs import Object, TryLaterError, failures, patience, policy

NAME = ".lease"
RENEWALS = 4  # in the time in which it expires
POLLS = 60  # by one that waits, in the same time


class Held:
    """A folder that is held; `lost` if another has taken it over, and nothing may be written any more."""

    lost = False

    def check(self) -> None:
        """Goes before each write.

        Raises:
            TryLaterError: It has expired, since storage cannot be reached; perhaps nobody has taken it.
            CommandError: It is lost (exit code 4).
        """


@contextlib.contextmanager
def hold(uri: str, outlasts_storage: bool = False) -> Iterator[Held]:
    """Holds the folder `uri`, local or `gs://`, for the length of a `with` block.

    A lease that nobody renews is waited for: its owner may have died, and have been started again elsewhere.
    One that cannot be renewed until it expires is lost; but where whoever holds it calls `check` before each
    write and so `outlasts_storage`, it is lost only when another has really taken it.

    Raises:
        CommandError: Another process holds it (2), or took it over while this one could not renew it (4).
    """
    if not uri.startswith("gs://"):
        with _lock(Path(uri)):
            yield Held()
        return
    lease = _Lease(uri, outlasts_storage)
    lease.take()
    try:
        yield lease
    except BaseException as error:
        if lease.lost:
            raise _taken_over(uri) from error
        raise
    finally:
        try:
            lease.give_back()
        except KeyboardInterrupt:  # its own, which came when the work was done
            if not lease.lost:
                raise
    if lease.lost:
        raise _taken_over(uri)


def owner(uri: str) -> str | None:
    """Who holds a folder, or None."""
    if uri.startswith("gs://"):
        with failures(uri):
            there = _Lease(uri).read()
            return there["owner"] if there and there["expires"] > time.time() else None
    path = Path(uri) / NAME
    if not path.exists():
        return None
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read()
    return None


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    while True:
        with path.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise CommandError(_refusal(str(folder), file.read()), USAGE) from None
            # Its owner deletes the file before it lets go, and this may be the deleted one.
            if not path.exists() or path.stat().st_ino != os.fstat(file.fileno()).st_ino:
                continue
            try:
                file.truncate(0)
                file.write(_describe())
                file.flush()
                yield
            finally:
                path.unlink()
            return


class _Lease(Held):
    """An object that says who works here, and until when."""

    def __init__(self, uri: str, outlasts_storage: bool = False) -> None:
        self._uri = uri
        self._outlasts_storage = outlasts_storage
        self._token = uuid.uuid4().hex
        self._lease_secs = patience().lease_secs
        self._renew_secs = self._lease_secs / RENEWALS
        self._object = Object(f"{uri.rstrip('/')}/{NAME}")
        self._generation = 0
        self._expires = 0.0  # by this machine's monotonic clock
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)

    def check(self) -> None:
        """As of `Held`."""
        if self.lost:
            raise _taken_over(self._uri)
        if time.monotonic() > self._expires:
            raise TryLaterError(f"the lease of {self._uri} could not be renewed")

    def take(self) -> None:
        """Takes it if it is free or expires, and keeps it by a heartbeat."""
        with failures(self._uri):
            there = first = self.read()
            while there and there["expires"] > time.time():
                if there["expires"] != first["expires"]:  # somebody is alive
                    raise CommandError(_refusal(self._uri, there["owner"]), USAGE)
                time.sleep(self._lease_secs / POLLS)
                there = self.read()
            try:
                policy()(self._begin)()
            except PreconditionFailed as error:
                raise CommandError(_refusal(self._uri, ""), USAGE) from error
        self._heart.start()

    def read(self) -> dict | None:
        """What is there."""
        content, self._generation = self._object.read() or (None, 0)
        return json.loads(content) if content else None

    def give_back(self) -> None:
        """Ends the heartbeat; what another job has taken over stays."""
        self._ended.set()
        self._heart.join()
        with contextlib.suppress(CommandError), failures(self._uri):  # it expires by itself
            self._object.delete(self._generation, self._renew_secs)

    def _begin(self) -> None:
        """The first write: as patient as any other, but made anew each time, since what it says gets old."""
        try:
            self._write()
        except RetryError as error:
            raise TryLaterError(str(error)) from error

    def _write(self) -> None:
        began = time.monotonic()
        content = {"owner": _describe(), "token": self._token, "expires": time.time() + self._lease_secs}
        try:
            self._generation = self._object.write(
                json.dumps(content).encode(), self._generation, self._renew_secs
            )
        except PreconditionFailed:
            # An answer that got lost is asked for again, and finds its own writing there.
            there = self.read()
            if there is None or there.get("token") != self._token:
                raise
        self._expires = began + self._lease_secs

    def _beat(self) -> None:
        while not self._ended.wait(self._renew_secs):
            try:
                with failures(self._uri):
                    self._write()
            except CommandError as error:
                taken = isinstance(error.__cause__, PreconditionFailed)
                if taken or (time.monotonic() > self._expires and not self._outlasts_storage):
                    self.lost = True
                    os.kill(os.getpid(), signal.SIGINT)  # whatever the job waits for
                    return


def _describe() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _refusal(uri: str, owner: str) -> str:
    who = f" ({owner})" if owner else ""
    return f"another process{who} is at work on {uri}: wait for it or stop it, or use another folder"


def _taken_over(uri: str) -> CommandError:
    return CommandError(f"{uri} was taken over by another process: run this command again", STORAGE_FAILED)
