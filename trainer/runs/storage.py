"""Files of a folder, local or on `gs://`, and parallel transfers of many objects.

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
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import google_crc32c
from google.api_core.exceptions import GoogleAPICallError, NotFound
from google.api_core.retry import Retry
from google.cloud import storage
from google.resumable_media.common import InvalidResponse

from preprocessing import progress_file
from preprocessing.errors import UsageError
from preprocessing.storage.gcs import (
    GenerationMismatchError,
    TransientError,
    compare_and_swap,
    connect,
    retry_policy,
    single_attempt,
    storage_errors,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer

Result = TypeVar("Result")

THREADS = 8
VAR_TMP = Path("/var/tmp")
SINGLE_REQUEST_BYTES = 8 << 20  # a larger file is uploaded in parts
# Errors of a local path at which there is no file, which is not asked first: the file may be deleted meanwhile.
ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
PART_BYTES = 16 << 20  # of such an upload, held in memory
UPLOAD_IS_USELESS = (400, 404, 410)  # HTTP status: it is corrupt, or has expired


def is_remote(uri: str) -> bool:
    """Tell whether `uri` is on object storage."""
    return uri.startswith("gs://")


def default_cache() -> Path:
    """Return the default folder for fetched shards, decoded clips and the working copies of remote runs.

    It is in the temporary folder that the environment names, or else in /var/tmp: /tmp may be in memory.
    """
    is_named = any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    on_disk = not is_named and os.access(VAR_TMP, os.W_OK)
    return (VAR_TMP if on_disk else Path(tempfile.gettempdir())) / "gtzan-cvae"


class StorageFolder:
    """The files of a folder, local or `gs://`, by their names relative to it."""

    def __init__(self, uri: str) -> None:
        self._prefix = GcsPrefix(uri) if is_remote(uri) else None
        self._path = Path(uri)

    def list_names(self) -> list[str]:
        """Return the names of all files at any depth, sorted; empty if there is no folder."""
        if self._prefix is not None:
            return self._prefix.list_names()
        files = (path for path in self._path.rglob("*") if path.is_file())
        return sorted(path.relative_to(self._path).as_posix() for path in files)

    def read(self, name: str) -> bytes | None:
        """Return a file's content, or None if it does not exist."""
        if self._prefix is not None:
            return self._prefix.read(name)
        with contextlib.suppress(*ABSENT):
            return (self._path / name).read_bytes()
        return None

    def updated(self, name: str) -> datetime | None:
        """Return when a file was written, or None if it does not exist."""
        if self._prefix is not None:
            return self._prefix.updated(name)
        path = self._path / name
        with contextlib.suppress(*ABSENT):
            return datetime.fromtimestamp(path.stat().st_mtime, UTC) if path.is_file() else None
        return None

    def delete(self, name: str) -> None:
        """Delete a file, if it exists."""
        if self._prefix is not None:
            self._prefix.delete(name)
        else:
            (self._path / name).unlink(missing_ok=True)


class GcsPrefix:
    """The objects below `gs://bucket/prefix`, by their names relative to it.

    `preprocessing.storage.gcs` says what is retried. Each write is conditional on the generation that was seen
    last, so an abandoned attempt that arrives late changes nothing. The last writer wins: a write that finds a
    newer generation replaces it, since a lease keeps other writers away.

    Attributes:
        before_write: Called before each attempt at a write; prevents it by raising.
        last_error: Error of the last failed attempt; empty if there was none.
    """

    def __init__(self, uri: str) -> None:
        bucket, _, prefix = uri.removeprefix("gs://").partition("/")
        if not bucket:
            raise UsageError(f"{uri} names no bucket: write gs://bucket/prefix")
        self.uri = uri
        self.before_write: Callable[[], None] = lambda: None
        self.last_error = ""
        self._generations: dict[str, int] = {}  # last known ones; a name that is missing does not exist
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        with storage_errors(uri):
            self._bucket = connect().bucket(bucket)

    def list_names(self) -> list[str]:
        """Return the names of all objects, sorted."""
        with storage_errors(self.uri):
            per_page = {**single_attempt(), "retry": self._policy()}  # one deadline for each of many pages
            blobs = self._bucket.client.list_blobs(self._bucket, prefix=self._prefix, **per_page)
            self._generations = {blob.name.removeprefix(self._prefix): blob.generation for blob in blobs}
        # The web console creates an empty object whose name ends with "/" for each folder.
        return sorted(name for name in self._generations if name and not name.endswith("/"))

    def read(self, name: str) -> bytes | None:
        """Return an object's content, or None if it does not exist."""

        def attempt() -> bytes:
            return self._blob(name).download_as_bytes(checksum="crc32c", **single_attempt())

        with storage_errors(self.uri), contextlib.suppress(NotFound):
            return self._retry(attempt)
        return None

    def updated(self, name: str) -> datetime | None:
        """Return when an object was written, or None if it does not exist."""
        with storage_errors(self.uri):
            blob = self._retry(lambda: self._metadata(name))
            return blob.updated if blob else None

    def write(self, name: str, data: bytes) -> None:
        """Replace an object."""
        with storage_errors(self.uri):
            self._retry(lambda: self._upload_once(name, io.BytesIO(data)))

    def delete(self, name: str) -> None:
        """Delete an object, if it exists."""

        def attempt() -> None:
            def request() -> int:
                blob = self._blob(name)
                blob.delete(if_generation_match=self._generations.get(name), **single_attempt())
                return 0

            self._change_once(name, request)

        with storage_errors(self.uri), contextlib.suppress(NotFound):
            self._retry(attempt)
        self._generations.pop(name, None)

    def upload(self, names: list[str], folder: Path) -> None:
        """Upload files of a local folder, several at once."""

        def attempt(name: str) -> None:
            with (folder / name).open("rb") as file:
                self._upload_once(name, file)

        with storage_errors(self.uri):
            _for_each_in_parallel(lambda name: self._retry(lambda: attempt(name)), names)

    def download(self, names: list[str], folder: Path) -> None:
        """Download objects into a local folder, several at once."""
        folder.mkdir(parents=True, exist_ok=True)

        def attempt(name: str) -> None:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            # Restarts at 0, since the client does not verify a resumed download.
            with _Download(io.FileIO(path, "wb")) as file:
                self._blob(name).download_to_file(file, checksum="crc32c", **single_attempt())

        with storage_errors(self.uri):
            _for_each_in_parallel(lambda name: self._retry(lambda: attempt(name)), names)

    def _upload_once(self, name: str, file: BinaryIO) -> None:
        """Make one attempt; the server compares the checksum before the object becomes visible."""
        size = file.seek(0, os.SEEK_END)  # fixed now, since the file may grow
        checksum = _crc32c(file, size)

        def request() -> int:
            file.seek(0)
            blob = self._bucket.blob(self._prefix + name, chunk_size=PART_BYTES)
            blob.crc32c = checksum
            args = {
                "size": size,
                "if_generation_match": self._generations.get(name, 0),
                **single_attempt(),
            }
            if size <= SINGLE_REQUEST_BYTES:
                blob.upload_from_file(file, **args)
                return blob.generation
            try:  # the client retries single parts
                blob.upload_from_file(file, **{**args, "retry": self._policy()})
            except (GoogleAPICallError, InvalidResponse) as error:
                if isinstance(error, GoogleAPICallError) and error.code not in UPLOAD_IS_USELESS:
                    raise
                raise TransientError(str(error)) from error
            return blob.generation

        self._generations[name] = self._change_once(name, request, checksum)

    def _change_once(self, name: str, request: Callable[[], int], checksum: str | None = None) -> int:
        """Make one attempt at a conditional request, and return the object's generation.

        If the object already has `checksum`, an earlier attempt succeeded and its response was lost. After any other
        change, the next attempt is conditional on the new generation.
        """

        def current() -> tuple[int, bool]:
            blob = self._metadata(name)
            return (blob.generation, blob.crc32c == checksum) if blob else (0, False)

        self.before_write()
        try:
            return compare_and_swap(request, current)
        except GenerationMismatchError as error:
            self._generations[name] = error.generation
            raise TransientError(f"{name} was changed by another writer") from error

    def _metadata(self, name: str) -> storage.Blob | None:
        return self._bucket.get_blob(self._prefix + name, **single_attempt())

    def _blob(self, name: str) -> storage.Blob:
        return self._bucket.blob(self._prefix + name)

    def _retry(self, attempt: Callable[[], Result]) -> Result:
        return self._policy()(attempt)()

    def _policy(self) -> Retry:
        return retry_policy(on_error=self._note_error)

    def _note_error(self, error: Exception) -> None:
        self.last_error = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


class _Download(io.BufferedWriter):
    """A file whose every arriving part is progress."""

    def write(self, data: Buffer) -> int:
        progress_file.touch()
        return super().write(data)


def _for_each_in_parallel(call: Callable[[str], None], names: list[str]) -> None:
    """Call `call` with every name in several threads; after the last call has ended, raise the first error.

    The threads are daemons, so that a second signal ends the program at once, whatever they wait for.
    """
    remaining, errors = deque(names), list[Exception]()

    def work() -> None:
        with contextlib.suppress(IndexError):  # no name remains
            while not errors:
                name = remaining.popleft()
                try:
                    call(name)
                except Exception as error:
                    errors.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(THREADS, len(names)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _crc32c(file: BinaryIO, size: int) -> str:
    """Compute the checksum of the first `size` bytes, in the encoding of object metadata."""
    file.seek(0)
    checksum = google_crc32c.Checksum()
    while size and (part := file.read(min(size, 1 << 20))):
        checksum.update(part)
        size -= len(part)
    return base64.b64encode(checksum.digest()).decode()
