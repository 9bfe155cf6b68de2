"""A folder of fetched shards that keeps to a size, also if several processes share it.

A process that reads a shard holds a shared lock on its file, and deletes a file only under an exclusive lock. The
kernel releases the locks of a process that is killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

FETCHING = ".fetching-"  # start of the names of folders in which unfinished files are
# In the cache folder. Files in it are deleted, so it has a name that no user gives to datasets.
ROOT_NAME = ".gtzan-cvae-shards"
SCAN_SHARE = 0.05  # of the time, at most, in which to look at what other processes have added or deleted


class DiskCache:
    """The shards below a folder, of this dataset and others, and the room for more. Not safe in several threads.

    Attributes:
        limit_bytes: Of all files, the unfinished ones included.
    """

    def __init__(self, root: Path, limit_bytes: int) -> None:
        """Open the cache `root`, and delete what killed processes have left unfinished."""
        self._root, self.limit_bytes = root, limit_bytes
        self._reserved: dict[Path, int] = {}
        self._files: dict[Path, tuple[int, float]] = {}  # size and modification time
        self._foreign_bytes = 0  # of files that others are fetching
        self._next_scan = 0.0
        root.mkdir(parents=True, exist_ok=True)
        with self._root_lock():
            for folder in root.glob(f"{FETCHING}*"):
                with _locked(folder) as is_abandoned:
                    if is_abandoned:
                        shutil.rmtree(folder, ignore_errors=True)
        self._scan()

    @contextlib.contextmanager
    def unfinished_folder(self) -> Iterator[Path]:
        """Create a folder for unfinished files, which is deleted at the end of the block."""
        with self._root_lock():
            folder = Path(tempfile.mkdtemp(prefix=FETCHING, dir=self._root))
            descriptor = os.open(folder, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)

    def reserve(self, path: Path, size: int, evicts: Callable[[Path], float | None]) -> bool:
        """Reserve room for a file that will be fetched, if possible; release it with `settle`.

        Args:
            path: The file. If it is there already, it has its room.
            size: In bytes.
            evicts: Returns when a file is needed, or None if it must stay. The files that are needed last are deleted
                first, and among those that are never needed the oldest.

        Returns:
            Whether there is room.
        """
        self._scan()
        if path not in self._files:
            surplus = self._used_bytes() + size - self.limit_bytes
            if surplus > 0 and not self._evict(surplus, evicts):
                return False
        self._reserved[path] = size
        return True

    def settle(self, path: Path) -> None:
        """End the reservation of a file, whether it was fetched or not."""
        self._reserved.pop(path, None)
        with contextlib.suppress(OSError):
            stat = path.stat()
            self._files[path] = stat.st_size, stat.st_mtime

    def holds(self, path: Path) -> bool:
        """Tell whether a file was there when the folder was last looked at."""
        return path in self._files

    def forget(self, path: Path) -> None:
        """Note that a file is not there any more, or is to be replaced."""
        self._files.pop(path, None)

    def _evict(self, surplus: int, evicts: Callable[[Path], float | None]) -> bool:
        """Delete files of at least `surplus` bytes, or none if there are too few."""
        times = {path: evicts(path) for path in self._files if path not in self._reserved}
        candidates = [
            (-needed_at, self._files[path][1], path)
            for path, needed_at in times.items()
            if needed_at is not None
        ]
        if sum(self._files[path][0] for *_, path in candidates) < surplus:
            return False
        for *_, path in sorted(candidates):
            with _locked(path) as is_unused:
                if not is_unused:
                    continue
                path.unlink(missing_ok=True)
            surplus -= self._files.pop(path)[0]
            if surplus <= 0:
                return True
        return False

    def _used_bytes(self) -> int:
        present = sum(size for path, (size, _) in self._files.items() if path not in self._reserved)
        return present + sum(self._reserved.values()) + self._foreign_bytes

    def _scan(self) -> None:
        started = time.monotonic()
        if started < self._next_scan:
            return
        self._files, self._foreign_bytes = {}, 0
        for folder in self._root.iterdir():
            for path in _files_in(folder):
                with contextlib.suppress(OSError):  # deleted meanwhile
                    stat = path.stat()
                    if not folder.name.startswith(FETCHING):
                        self._files[path] = stat.st_size, stat.st_mtime
                    elif not any(path.name == reserved.name for reserved in self._reserved):
                        self._foreign_bytes += stat.st_size
        ended = time.monotonic()
        self._next_scan = ended + (ended - started) / SCAN_SHARE

    @contextlib.contextmanager
    def _root_lock(self) -> Iterator[None]:
        descriptor = os.open(self._root, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


class PinnedFile:
    """A file that no process deletes from a cache until `close`."""

    def __init__(self, path: Path) -> None:
        """Pin a file.

        Raises:
            FileNotFoundError: It is not there, or is being deleted.
        """
        self._descriptor = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            is_same = os.fstat(self._descriptor).st_ino == path.stat().st_ino
        except OSError as error:
            os.close(self._descriptor)
            raise FileNotFoundError(path) from error
        if not is_same:  # another process has fetched it again
            os.close(self._descriptor)
            raise FileNotFoundError(path)

    def close(self) -> None:
        """Unpin the file."""
        os.close(self._descriptor)


def _files_in(folder: Path) -> list[Path]:
    """List a folder; nothing if it is none, or deleted meanwhile."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Lock a file or folder exclusively inside the block; yield whether that succeeded, or the file is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield True
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
