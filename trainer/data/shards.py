"""The verified shards of a dataset: in its local folder, or in a bucket and fetched into a cache on disk."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from google.api_core.exceptions import NotFound

from preprocessing.dataset.manifest import MANIFEST_NAME, Shard
from preprocessing.errors import DataError, StorageError
from trainer.data.disk_cache import ROOT_NAME, DiskCache, PinnedFile
from trainer.data.integrity import VerifiedShards
from trainer.runs.storage import GcsPrefix

LOCAL_WINDOW_BYTES = 1 << 30  # verified ahead of a reader: seconds of work, however fast it is
WINDOW_FRACTION = 4  # of a full cache, a fourth holds what is read next, the rest what a later pass will need


class Shards(Protocol):
    """Makes shards ready to be read. All methods but `fetch` are called under one lock, and are fast."""

    threads: int  # that may call `fetch` at once

    def is_ready(self, shard: Shard) -> bool:
        """Tell whether a shard was ready when it was last looked at."""

    def reserve(self, shard: Shard, evicts: Callable[[str], float | None], ahead_bytes: int) -> bool:
        """Reserve room for a shard, which `fetch` follows; return whether there is some.

        Args:
            shard: To fetch.
            evicts: Returns when a shard is needed next, or None if it must not make room for this one.
            ahead_bytes: Of the shards that are needed before this one, from now on; 0: a reader waits for this one.
        """

    def fetch(self, shard: Shard) -> None:
        """Fetch a shard, unless it is there, and verify it.

        Raises:
            CommandError: It is missing or differs from the manifest (exit code 3), or storage failed (4).
        """

    def settle(self, shard: Shard, is_ready: bool) -> None:
        """Note how `fetch` ended."""

    def pin(self, shard: Shard) -> Path | None:
        """Return the path of a shard that is ready and unchanged, which stays until `unpin`; None: fetch it again."""

    def unpin(self, shard: Shard) -> None:
        """End a `pin`."""


class LocalShards:
    """The shards of a local dataset, which are verified before they are read."""

    threads = 2

    def __init__(self, folder: Path, cache: Path) -> None:
        self._folder, self._verified = folder, VerifiedShards(folder, cache)
        self._ready: set[str] = set()

    def is_ready(self, shard: Shard) -> bool:
        """See `Shards`."""
        return shard.name in self._ready

    def reserve(self, shard: Shard, evicts: Callable[[str], float | None], ahead_bytes: int) -> bool:
        """See `Shards`; there is always room, but no shard is verified long before it is needed."""
        return ahead_bytes < LOCAL_WINDOW_BYTES

    def fetch(self, shard: Shard) -> None:
        """See `Shards`."""
        with disk_errors(self._folder):
            if not self._verified.verify(shard):
                raise _corrupt(f"{self._folder}/{shard.name}")

    def settle(self, shard: Shard, is_ready: bool) -> None:
        """See `Shards`."""
        if is_ready:
            self._ready.add(shard.name)

    def pin(self, shard: Shard) -> Path | None:
        """See `Shards`."""
        if shard.name in self._ready and self._verified.is_current(shard):
            return self._folder / shard.name
        self._ready.discard(shard.name)
        return None

    def unpin(self, shard: Shard) -> None:
        """See `Shards`."""


class RemoteShards:
    """The shards of a dataset in a bucket, fetched into a cache of limited size."""

    threads = 4

    def __init__(self, uri: str, digest: str, cache: Path, limit_bytes: int) -> None:
        """Open the cache of the dataset `uri`.

        Raises:
            CommandError: The cache cannot be written (exit code 4).
        """
        self._prefix, self._uri = GcsPrefix(uri), uri.rstrip("/")
        root = cache / ROOT_NAME
        self._folder = root / digest
        with disk_errors(self._folder):
            self._cache = DiskCache(root, limit_bytes)
            self._folder.mkdir(parents=True, exist_ok=True)
            names = [path.name for path in self._folder.iterdir()]
            self._verified = VerifiedShards(self._folder, cache)
        self._present = set(names)  # not yet looked at
        self._ready: set[str] = set()
        self._pins: dict[str, list[PinnedFile]] = {}

    def is_ready(self, shard: Shard) -> bool:
        """See `Shards`."""
        if shard.name in self._present:
            self._present.discard(shard.name)
            if self._verified.is_current(shard):
                self._ready.add(shard.name)
        return shard.name in self._ready and self._cache.holds(self._folder / shard.name)

    def reserve(self, shard: Shard, evicts: Callable[[str], float | None], ahead_bytes: int) -> bool:
        """See `Shards`; shards make room only for those that are read soon, so that most are kept for a later pass."""
        is_soon = ahead_bytes < self._cache.limit_bytes // WINDOW_FRACTION

        def evicts_path(path: Path) -> float | None:
            if not is_soon:
                return None
            return evicts(path.name if path.parent == self._folder else "")

        with disk_errors(self._folder):
            return self._cache.reserve(self._folder / shard.name, shard.bytes, evicts_path)

    def fetch(self, shard: Shard) -> None:
        """See `Shards`."""
        uri = f"{self._uri}/{shard.name}"
        with disk_errors(self._folder):
            if self._verified.verify(shard):
                return
            with self._cache.unfinished_folder() as folder:
                try:
                    self._prefix.download([shard.name], folder)
                except StorageError as error:
                    if isinstance(error.__cause__, NotFound):
                        raise _corrupt(uri) from error
                    raise
                self._folder.mkdir(parents=True, exist_ok=True)
                (folder / shard.name).replace(self._folder / shard.name)
            if not self._verified.verify(shard):
                (self._folder / shard.name).unlink(missing_ok=True)
                raise _corrupt(uri)

    def settle(self, shard: Shard, is_ready: bool) -> None:
        """See `Shards`."""
        self._cache.settle(self._folder / shard.name)
        if is_ready:
            self._ready.add(shard.name)

    def pin(self, shard: Shard) -> Path | None:
        """See `Shards`."""
        path = self._folder / shard.name
        if self.is_ready(shard):
            with contextlib.suppress(FileNotFoundError):
                pin = PinnedFile(path)
                if self._verified.is_current(shard):
                    self._pins.setdefault(shard.name, []).append(pin)
                    return path
                pin.close()
            self._cache.forget(path)
        self._ready.discard(shard.name)
        return None

    def unpin(self, shard: Shard) -> None:
        """See `Shards`."""
        self._pins[shard.name].pop().close()


def _corrupt(uri: str) -> DataError:
    return DataError(f"{uri} is missing or differs from {MANIFEST_NAME}: preprocess again")


@contextlib.contextmanager
def disk_errors(folder: Path, limit: str = "cache_disk_gb") -> Iterator[None]:
    """Turn an error of the disk into one that says what to do (exit code 4); `limit` is the setting that uses less."""
    try:
        yield
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = f"free some space, lower `{limit}`" if is_full else "check its permissions"
        raise StorageError(
            f"{error.filename or folder} failed: {error.strerror or error}; {remedy} or choose another `cache_dir`"
        ) from error
