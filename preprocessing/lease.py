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

from google.api_core.exceptions import GoogleAPIError, NotFound, PreconditionFailed
from google.cloud.storage.retry import DEFAULT_RETRY

from preprocessing.bucket import blob, failures
from preprocessing.errors import STORAGE_FAILED, USAGE, CommandError

NAME = ".lease"
EXPIRES_SECS = 60.0
RENEW_SECS = 15.0
POLL_SECS = 1.0


class Held:
    """A folder that is held; `lost` if another has taken it over, and nothing may be written any more."""

    lost = False


@contextlib.contextmanager
def hold(uri: str) -> Iterator[Held]:
    """Holds the folder `uri`, local or `gs://`, for the length of a `with` block.

    A lease that nobody renews is waited for: its owner may have died, and have been started again elsewhere.

    Raises:
        CommandError: Another process holds it (2), or took it over while this one could not renew it (4).
    """
    if not uri.startswith("gs://"):
        with _lock(Path(uri)):
            yield Held()
        return
    lease = _Lease(uri)
    lease.take()
    try:
        yield lease
    except BaseException as error:
        if lease.lost:
            raise _taken_over(uri) from error
        raise
    finally:
        lease.give_back()
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

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._token = uuid.uuid4().hex
        self._blob = blob(f"{uri.rstrip('/')}/{NAME}")
        self._generation = 0
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)

    def take(self) -> None:
        """Takes it if it is free or expires, and keeps it by a heartbeat."""
        with failures(self._uri):
            there = first = self.read()
            while there and there["expires"] > time.time():
                if there["expires"] != first["expires"]:  # somebody is alive
                    raise CommandError(_refusal(self._uri, there["owner"]), USAGE)
                time.sleep(POLL_SECS)
                there = self.read()
            try:
                self._write()
            except PreconditionFailed as error:
                raise CommandError(_refusal(self._uri, ""), USAGE) from error
        self._heart.start()

    def read(self) -> dict | None:
        """What is there."""
        try:
            there = json.loads(self._blob.download_as_bytes())
        except NotFound:
            self._generation = 0
            return None
        self._generation = self._blob.generation
        return there

    def give_back(self) -> None:
        """Ends the heartbeat; what another job has taken over stays."""
        self._ended.set()
        self._heart.join()
        with contextlib.suppress(GoogleAPIError):  # it expires by itself
            self._blob.delete(if_generation_match=self._generation)

    def _write(self) -> None:
        content = {"owner": _describe(), "token": self._token, "expires": time.time() + EXPIRES_SECS}
        try:
            self._blob.upload_from_string(
                json.dumps(content), if_generation_match=self._generation, retry=DEFAULT_RETRY
            )
            self._generation = self._blob.generation
        except PreconditionFailed:
            # An answer that got lost is asked for again, and finds its own writing there.
            there = self.read()
            if there is None or there.get("token") != self._token:
                raise

    def _beat(self) -> None:
        renewed = time.monotonic()
        while not self._ended.wait(RENEW_SECS):
            try:
                self._write()
                renewed = time.monotonic()
            except (GoogleAPIError, OSError) as error:
                taken = isinstance(error, PreconditionFailed)
                if taken or time.monotonic() - renewed > EXPIRES_SECS:
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
