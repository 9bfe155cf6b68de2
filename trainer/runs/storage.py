"""Object storage, through google-cloud-storage: the objects below a prefix.

TensorFlow's own `gs://` file system cannot be pointed at an emulator, so nothing in the trainer uses it.
"""

from __future__ import annotations

import base64
import contextlib
import io
import os
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, TypeVar

import google_crc32c
from google.api_core.exceptions import BadRequest, NotFound, PreconditionFailed
from google.api_core.retry import Retry
from google.cloud import storage
from google.resumable_media.common import InvalidResponse

from preprocessing.errors import USAGE, CommandError
from preprocessing.storage.gcs import TryLaterError, failures, once, policy

Result = TypeVar("Result")

THREADS = 8
SINGLE_REQUEST_BYTES = 8 << 20  # a larger file goes up in parts
PART_BYTES = 16 << 20  # of each of such files in memory


def is_remote(uri: str) -> bool:
    """Whether `uri` is on object storage."""
    return uri.startswith("gs://")


def default_cache() -> Path:
    """Where shards and the working copies of remote runs lie."""
    return Path(tempfile.gettempdir()) / "gtzan-cvae"


class Prefix:
    """The objects below `gs://bucket/prefix`, by their names relative to it.

    What fails is tried again as `preprocessing.storage.gcs` says. Each write replaces the generation that it knows
    of: an attempt that nobody waits for any more, and that arrives late, changes nothing. `check` is called
    before each attempt at a write, and forbids it by raising; `trouble` is what failed last, in a few words.
    """

    def __init__(self, uri: str) -> None:
        bucket, _, prefix = uri.removeprefix("gs://").partition("/")
        if not bucket:
            raise CommandError(f"{uri} names no bucket: write gs://bucket/prefix", USAGE)
        self.uri = uri
        self.check: Callable[[], None] = lambda: None
        self.trouble = ""
        self._generations: dict[str, int] = {}  # what is not here is not there, as far as is known
        self._start = prefix.strip("/") + "/" if prefix.strip("/") else ""
        with failures(uri):
            self._bucket = storage.Client().bucket(bucket)

    def list(self) -> list[str]:
        """The names of all objects, sorted."""
        with failures(self.uri):
            pages = {**once(), "retry": self._policy()}  # each for itself: there may be many
            blobs = self._bucket.client.list_blobs(self._bucket, prefix=self._start, **pages)
            self._generations = {blob.name.removeprefix(self._start): blob.generation for blob in blobs}
        # The web console makes folders.
        return sorted(name for name in self._generations if name and not name.endswith("/"))

    def read(self, name: str) -> bytes | None:
        """One object, or None if there is none."""
        with failures(self.uri), contextlib.suppress(NotFound):
            return self._retried(lambda: self._blob(name).download_as_bytes(checksum="crc32c", **once()))
        return None

    def updated(self, name: str) -> datetime | None:
        """When an object was written, or None if there is none."""
        with failures(self.uri):
            blob = self._retried(lambda: self._bucket.get_blob(self._start + name, **once()))
            return blob.updated if blob else None

    def write(self, name: str, data: bytes) -> None:
        """One object, replaced as a whole."""
        with failures(self.uri):
            self._retried(lambda: self._put(name, io.BytesIO(data)))

    def delete(self, name: str) -> None:
        """One object, if it is there."""

        def attempt() -> None:
            self.check()
            with self._as_known(name):
                self._blob(name).delete(if_generation_match=self._generations.get(name), **once())

        with failures(self.uri), contextlib.suppress(NotFound):
            self._retried(attempt)
        self._generations.pop(name, None)

    def upload(self, names: list[str], folder: Path) -> None:
        """Many files at once."""

        def attempt(name: str) -> None:
            with (folder / name).open("rb") as file:
                self._put(name, file)

        with failures(self.uri):
            _in_parallel(lambda name: self._retried(lambda: attempt(name)), names)

    def download(self, names: list[str], folder: Path) -> None:
        """Many objects at once."""
        folder.mkdir(parents=True, exist_ok=True)

        def attempt(name: str) -> None:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:  # from the beginning: the client does not check what it resumes
                self._blob(name).download_to_file(file, checksum="crc32c", **once())

        with failures(self.uri):
            _in_parallel(lambda name: self._retried(lambda: attempt(name)), names)

    def _put(self, name: str, file: BinaryIO) -> None:
        """One attempt; the server compares the checksum before it lets the object be seen."""
        self.check()
        size = file.seek(0, os.SEEK_END)  # of a file that grows, so much
        blob = self._bucket.blob(self._start + name, chunk_size=PART_BYTES)
        blob.crc32c = checksum = _crc32c(file, size)
        file.seek(0)
        write = {"size": size, "if_generation_match": self._generations.get(name, 0), **once()}
        with self._as_known(name, checksum):
            if size <= SINGLE_REQUEST_BYTES:
                blob.upload_from_file(file, **write)
            else:
                try:  # its parts are tried again by the client, which goes on from what has arrived
                    blob.upload_from_file(file, **{**write, "retry": self._policy()})
                except (BadRequest, NotFound, InvalidResponse) as error:  # that is damaged, or forgotten
                    raise TryLaterError(str(error)) from error
            self._generations[name] = blob.generation

    @contextlib.contextmanager
    def _as_known(self, name: str, checksum: str | None = None) -> Iterator[None]:
        """Around a write: if the object is of another generation, learns which, for the next attempt.

        But if it has `checksum`, only the answer to an earlier attempt got lost, and all is well.
        """
        try:
            yield
        except PreconditionFailed as error:
            there = self._bucket.get_blob(self._start + name, **once())
            self._generations[name] = there.generation if there else 0
            if there is None or there.crc32c != checksum:
                raise TryLaterError(f"{name} was changed by another") from error

    def _blob(self, name: str) -> storage.Blob:
        return self._bucket.blob(self._start + name)

    def _policy(self) -> Retry:
        return policy(on_error=self._note)

    def _retried(self, attempt: Callable[[], Result]) -> Result:
        return self._policy()(attempt)()

    def _note(self, error: Exception) -> None:
        self.trouble = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


class Folder:
    """The files below a folder, local or `gs://`, by their names relative to it."""

    def __init__(self, uri: str) -> None:
        self._prefix = Prefix(uri) if is_remote(uri) else None
        self._path = Path(uri)

    def list(self) -> list[str]:
        """The names of all files, sorted; none where there is no folder."""
        if self._prefix is not None:
            return self._prefix.list()
        files = (path for path in self._path.rglob("*") if path.is_file())
        return sorted(path.relative_to(self._path).as_posix() for path in files)

    def read(self, name: str) -> bytes | None:
        """One file, or None if there is none."""
        if self._prefix is not None:
            return self._prefix.read(name)
        path = self._path / name
        return path.read_bytes() if path.is_file() else None

    def updated(self, name: str) -> datetime | None:
        """When a file was written, or None if there is none."""
        if self._prefix is not None:
            return self._prefix.updated(name)
        path = self._path / name
        return datetime.fromtimestamp(path.stat().st_mtime, UTC) if path.is_file() else None

    def delete(self, name: str) -> None:
        """One file, if it is there."""
        if self._prefix is not None:
            self._prefix.delete(name)
        else:
            (self._path / name).unlink(missing_ok=True)


def _in_parallel(call: Callable[[str], None], names: list[str]) -> None:
    """Calls with every name, and raises the first failure when no call goes on any more.

    Its threads are daemons: a second signal ends the program at once, whatever they wait for.
    """
    left, failed = deque(names), []

    def work() -> None:
        with contextlib.suppress(IndexError):  # none is left
            while not failed:
                name = left.popleft()
                try:
                    call(name)
                except Exception as error:
                    failed.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(THREADS, len(names)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def _crc32c(file: BinaryIO, size: int) -> str:
    """Of its first `size` bytes, as storage writes it."""
    file.seek(0)
    checksum = google_crc32c.Checksum()
    while size and (part := file.read(min(size, 1 << 20))):
        checksum.update(part)
        size -= len(part)
    return base64.b64encode(checksum.digest()).decode()
