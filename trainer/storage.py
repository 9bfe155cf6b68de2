"""Object storage, through google-cloud-storage: the objects below a prefix, and datasets pulled into a cache.

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
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, TypeVar

import google_crc32c
from google.api_core.exceptions import BadRequest, NotFound, PreconditionFailed
from google.api_core.retry import Retry
from google.cloud import storage
from google.resumable_media.common import InvalidResponse

from preprocessing import manifest as manifests
from preprocessing.bucket import TryLaterError, failures, once, policy
from preprocessing.errors import BAD_DATA, USAGE, CommandError
from trainer import verified

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


def open_dataset(uri: str, cache: Path) -> tuple[Path, manifests.Manifest]:
    """A local folder with the dataset's shards, and its manifest; remote shards are fetched once a digest.

    A folder of versions stands for the one that its `LATEST` names.

    Raises:
        CommandError: It is of another schema (2), there is none, or a shard is missing or damaged (3);
            storage failed (4).
    """
    if not is_remote(uri):
        folder = Path(uri)
        latest = folder / manifests.LATEST_NAME
        if latest.is_file() and (version := manifests.named_version(latest.read_bytes())):
            folder /= version
        path = folder / manifests.NAME
        if not path.is_file():
            raise CommandError(_no_dataset(uri), BAD_DATA)
        manifest = manifests.from_json(path.read_bytes(), str(path))
        source = str(folder)
    else:
        bucket = Prefix(uri)
        if (latest := bucket.read(manifests.LATEST_NAME)) and (version := manifests.named_version(latest)):
            bucket = Prefix(f"{bucket.uri.rstrip('/')}/{version}")
        data = bucket.read(manifests.NAME)
        if data is None:
            raise CommandError(_no_dataset(uri), BAD_DATA)
        manifest = manifests.from_json(data, uri)
        folder, source = cache / "datasets" / manifest.digest, bucket.uri.rstrip("/")
        _fetch(bucket, verified.damaged(folder, manifest.shards, cache), folder)
    if damaged := verified.damaged(folder, manifest.shards, cache):
        named = f"{source}/{damaged[0].name}"
        raise CommandError(
            f"{named} is missing, or not what {manifests.NAME} says: preprocess again", BAD_DATA
        )
    return folder, manifest


def _fetch(prefix: Prefix, shards: list[manifests.Shard], folder: Path) -> None:
    """Through a folder of this process: another one that shares the cache never sees half a shard."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        prefix.download([shard.name for shard in shards], Path(temporary))
        for shard in shards:
            (Path(temporary) / shard.name).replace(folder / shard.name)


class Prefix:
    """The objects below `gs://bucket/prefix`, by their names relative to it.

    What fails is tried again as `preprocessing.bucket` says. Each write replaces the generation that it knows
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


def _no_dataset(uri: str) -> str:
    return (
        f"--data {uri} has no {manifests.NAME}, so there is no finished dataset: "
        f"run python -m preprocessing --input ... --output {uri}"
    )
