"""One job at a time on an output: a lock of the kernel's where it is local, a lease with a heartbeat on gs://.

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


@contextlib.contextmanager
def hold(uri: str, expires_secs: float = EXPIRES_SECS, renew_secs: float = RENEW_SECS) -> Iterator[None]:
    """Holds the folder `uri`, local or `gs://`, for the length of a `with` block.

    Raises:
        CommandError: Another job holds it (2), or took it over while this one was cut off from storage (4).
    """
    if not uri.startswith("gs://"):
        with _lock(Path(uri)):
            yield
        return
    lease = _Lease(uri, expires_secs, renew_secs)
    lease.take()
    lost = CommandError(f"{uri} was taken over by another job: run this one again", STORAGE_FAILED)
    try:
        yield
    except KeyboardInterrupt:
        if lease.lost:
            raise lost from None
        raise
    finally:
        lease.give_back()
    if lease.lost:
        raise lost


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


class _Lease:
    """An object that says who works here, and until when."""

    def __init__(self, uri: str, expires_secs: float, renew_secs: float) -> None:
        self._uri, self._expires_secs, self._renew_secs = uri, expires_secs, renew_secs
        self._token = uuid.uuid4().hex
        self._blob = blob(f"{uri.rstrip('/')}/{NAME}")
        self._generation = 0
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self.lost = False

    def take(self) -> None:
        """Takes it if it is free or expired, and keeps it by a heartbeat."""
        with failures(self._uri):
            try:
                there = json.loads(self._blob.download_as_bytes())
                self._generation = self._blob.generation
            except NotFound:
                there, self._generation = None, 0
            if there and there["expires"] > time.time():
                raise CommandError(_refusal(self._uri, there["owner"]), USAGE)
            try:
                self._write()
            except PreconditionFailed as error:
                raise CommandError(_refusal(self._uri, ""), USAGE) from error
        self._heart.start()

    def give_back(self) -> None:
        """Ends the heartbeat; what another job has taken over stays."""
        self._ended.set()
        self._heart.join()
        with contextlib.suppress(GoogleAPIError):  # it expires by itself
            self._blob.delete(if_generation_match=self._generation)

    def _write(self) -> None:
        content = {"owner": _describe(), "token": self._token, "expires": time.time() + self._expires_secs}
        self._blob.upload_from_string(
            json.dumps(content), if_generation_match=self._generation, retry=DEFAULT_RETRY
        )
        self._generation = self._blob.generation

    def _beat(self) -> None:
        renewed = time.monotonic()
        while not self._ended.wait(self._renew_secs):
            try:
                self._write()
                renewed = time.monotonic()
            except (GoogleAPIError, OSError) as error:
                taken = isinstance(error, PreconditionFailed)
                if taken or time.monotonic() - renewed > self._expires_secs:
                    self.lost = True
                    os.kill(os.getpid(), signal.SIGINT)  # whatever the job waits for
                    return


def _describe() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _refusal(uri: str, owner: str) -> str:
    who = f" ({owner})" if owner else ""
    return f"another job{who} is at work on {uri}: wait for it, or use another --output"
