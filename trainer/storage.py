"""Object storage, through google-cloud-storage: the objects below a prefix, and datasets pulled into a cache.

TensorFlow's own `gs://` file system cannot be pointed at an emulator, so nothing in the trainer uses it.
"""

from __future__ import annotations

import hashlib
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from google.api_core.exceptions import NotFound
from google.cloud import storage
from google.cloud.storage import transfer_manager
from google.cloud.storage.retry import DEFAULT_RETRY

from preprocessing import manifest as manifests
from preprocessing.bucket import failures
from preprocessing.errors import BAD_DATA, USAGE, CommandError


def is_remote(uri: str) -> bool:
    """Whether `uri` is on object storage."""
    return uri.startswith("gs://")


def default_cache() -> Path:
    """Where shards and the working copies of remote runs lie."""
    return Path(tempfile.gettempdir()) / "gtzan-cvae"


def find_dataset(uri: str) -> tuple[str, manifests.Manifest]:
    """Where a dataset lies, and its manifest; no shard is fetched.

    A folder of versions stands for the one that its `LATEST` names.

    Raises:
        CommandError: There is no dataset (3); storage failed (4).
    """
    latest = Folder(uri).read(manifests.LATEST_NAME)
    if latest and (version := manifests.named_version(latest)):
        uri = f"{uri.rstrip('/')}/{version}"
    data = Folder(uri).read(manifests.NAME)
    if data is None:
        raise CommandError(_no_dataset(uri), BAD_DATA)
    return uri, manifests.from_json(data, f"{uri}/{manifests.NAME}")


def open_dataset(uri: str, cache: Path, split: str | None = None) -> tuple[Path, manifests.Manifest]:
    """A local folder with the dataset's shards, and its manifest; remote shards are fetched once a digest.

    With `split`, only the shards of that split need be there.

    Raises:
        CommandError: There is no dataset, or a shard is missing or damaged (3); storage failed (4).
    """
    home, manifest = find_dataset(uri)
    folder = cache / "datasets" / manifest.digest if is_remote(home) else Path(home)
    shards = manifest.shards if split is None else manifest.split_shards(split)
    if is_remote(home):
        missing = [shard for shard in shards if _size(folder / shard.name) != shard.bytes]
        _fetch_shards(Prefix(home), missing, folder)
    for shard in shards:
        if _size(folder / shard.name) != shard.bytes:
            raise CommandError(f"{folder / shard.name} is missing or cut: preprocess again", BAD_DATA)
    return folder, manifest


def _fetch_shards(prefix: Prefix, shards: list[manifests.Shard], folder: Path) -> None:
    """Through a folder of this process: another one that shares the cache never sees half a shard."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        prefix.download([shard.name for shard in shards], Path(temporary))
        for shard in shards:
            path = Path(temporary) / shard.name
            if hashlib.sha256(path.read_bytes()).hexdigest() != shard.sha256:
                raise CommandError(f"{prefix.uri}/{shard.name} is not what {manifests.NAME} says", BAD_DATA)
            path.replace(folder / shard.name)


class Prefix:
    """The objects below `gs://bucket/prefix`, by their names relative to it.

    Writes name `DEFAULT_RETRY` themselves: without a generation to match, the client would not try twice. All
    of them put a whole object, so trying again is safe.
    """

    def __init__(self, uri: str) -> None:
        bucket, _, prefix = uri.removeprefix("gs://").partition("/")
        if not bucket:
            raise CommandError(f"{uri} names no bucket: write gs://bucket/prefix", USAGE)
        self.uri = uri
        self._start = prefix.strip("/") + "/" if prefix.strip("/") else ""
        with failures(uri):
            self._bucket = storage.Client().bucket(bucket)

    def list(self) -> list[str]:
        """The names of all objects, sorted."""
        with failures(self.uri):
            blobs = self._bucket.client.list_blobs(self._bucket, prefix=self._start)
            names = sorted(blob.name.removeprefix(self._start) for blob in blobs)
            return [name for name in names if name and not name.endswith("/")]  # folders of the web console

    def read(self, name: str) -> bytes | None:
        """One object, or None if there is none."""
        with failures(self.uri):
            try:
                return self._bucket.blob(self._start + name).download_as_bytes(checksum="crc32c")
            except NotFound:
                return None

    def updated(self, name: str) -> datetime | None:
        """When an object was written, or None if there is none."""
        with failures(self.uri):
            blob = self._bucket.get_blob(self._start + name)
            return blob.updated if blob else None

    def write(self, name: str, data: bytes) -> None:
        """One object, replaced as a whole."""
        with failures(self.uri):
            self._bucket.blob(self._start + name).upload_from_string(
                data, checksum="crc32c", retry=DEFAULT_RETRY
            )

    def delete(self, name: str) -> None:
        """One object, if it is there."""
        with failures(self.uri):
            try:
                self._bucket.blob(self._start + name).delete(retry=DEFAULT_RETRY)
            except NotFound:
                return

    def upload(self, names: list[str], folder: Path) -> None:
        """Many files at once."""
        with failures(self.uri):
            _raise_first(
                transfer_manager.upload_many_from_filenames(
                    self._bucket,
                    names,
                    source_directory=str(folder),
                    blob_name_prefix=self._start,
                    worker_type=transfer_manager.THREAD,
                    upload_kwargs={"checksum": "crc32c", "retry": DEFAULT_RETRY},
                )
            )

    def download(self, names: list[str], folder: Path) -> None:
        """Many objects at once."""
        folder.mkdir(parents=True, exist_ok=True)
        with failures(self.uri):
            _raise_first(
                transfer_manager.download_many_to_path(
                    self._bucket,
                    names,
                    destination_directory=str(folder),
                    blob_name_prefix=self._start,
                    worker_type=transfer_manager.THREAD,
                    download_kwargs={"checksum": "crc32c"},
                )
            )


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


def _raise_first(results: list[object]) -> None:
    for result in results:
        if isinstance(result, Exception):
            raise result


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _no_dataset(uri: str) -> str:
    return (
        f"{uri} has no {manifests.NAME}, so there is no finished dataset: "
        f"run python -m preprocessing --input ... --output {uri}"
    )
