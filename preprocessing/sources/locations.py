"""Search folders, patterns and single paths, local or `gs://`."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from apache_beam.io.filesystem import FileMetadata, FileSystem
from apache_beam.io.filesystems import FileSystems

from preprocessing.dataset.quarantine import Rejected
from preprocessing.sources.hidden import first_hidden_part, hidden_part
from preprocessing.sources.input_file import InputFile
from preprocessing.sources.lists import DRIVE, spellings, unsupported_scheme
from preprocessing.storage import beam_files

GLOB = re.compile(r"[*?[]")

FolderId = tuple[int, int]  # device and inode


def is_file(location: str) -> bool:
    """Return whether a location is a single file."""
    return bool(FileSystems.exists(location)) if "://" in location else Path(location).is_file()


def find_file(uri: str) -> InputFile | None:
    """Return a single file; None if there is none."""
    if "://" not in uri:
        path = Path(uri)
        return _to_input_file(path, uri) if path.is_file() else None
    matches = FileSystems.match([beam_files.literal(uri)])[0].metadata_list
    return next((_from_metadata(match, uri) for match in matches if match.path == uri), None)


def unreadable(uri: str, error: OSError) -> Rejected:
    """Return the line of the quarantine for a file or folder that is there, but cannot be read."""
    if isinstance(error, FileNotFoundError):
        return Rejected(uri, "missing", "it was deleted while the input was searched")
    reason = "no_permission" if isinstance(error, PermissionError) else "unreadable"
    return Rejected(uri, reason, error.strerror or str(error))


def list_location(location: str) -> Iterator[InputFile | Rejected]:
    """Yield the files of a folder or pattern; archives are not opened."""
    if "://" not in location and Path(location).is_dir():
        yield from _walk(Path(location), location.rstrip("/") + "/")
    elif "://" not in location and (glob := GLOB.search(location)):
        yield from _match(location, location[: glob.start()].rpartition("/")[0])
    else:
        yield from _list_objects(location)


def find_listed(uri: str, line: str, folder: str) -> Iterator[InputFile | Rejected]:
    """Yield what a line of a list names: a file, or the files of a folder.

    Args:
        uri: The line without spaces at its ends, and without `file://`.
        line: The line.
        folder: Of the list, for relative paths.
    """
    if not uri:
        return
    for spelling in dict.fromkeys((uri, *spellings(line))):
        if scheme := unsupported_scheme(spelling):
            detail = f"{scheme} is not supported: copy the file to a folder or to gs://"
            yield Rejected(spelling, "unsupported_storage", detail)
            return
        path = _absolute(spelling, folder)
        if file := find_file(path):
            yield file
            return
        if "://" not in path and Path(path).is_dir():
            yield from _walk(Path(path), "")
            return
    if uri.startswith("#"):
        return  # a comment, unless a file has that name
    path = _absolute(uri, folder)
    if "://" not in path and (rejected := _check_path(Path(path))) and rejected.reason != "missing":
        yield rejected
    elif "://" in path and (found := list(_list_objects(path))):
        yield from found
    else:
        is_windows = DRIVE.match(uri) is not None
        detail = "a path of another system" if is_windows else "it is in the list, but does not exist"
        yield Rejected(path, "missing", detail)


def _absolute(path: str, folder: str) -> str:
    """Return a path that is relative to a list's folder in one spelling, whatever `.` and `//` it has."""
    if "://" in path:
        return path
    joined = path if path.startswith("/") else beam_files.join(folder, path)
    if "://" in joined:
        return joined
    normal = os.path.normpath(joined)
    # The folder that a file is in is its class, also where the list is named without it.
    return normal if "/" in normal else str(Path.cwd() / normal)


def _from_metadata(metadata: FileMetadata, relative_path: str) -> InputFile:
    stamp = str(metadata.last_updated_in_seconds)
    return InputFile(metadata.path, relative_path, metadata.size_in_bytes, stamp)


def _to_input_file(path: Path, relative_path: str) -> InputFile:
    status = path.stat()
    return InputFile(str(path), relative_path, status.st_size, str(status.st_mtime_ns))


def _list_objects(location: str) -> Iterator[InputFile | Rejected]:
    """Yield the files of a folder on object storage or of a pattern, each hidden folder with one line."""
    glob = GLOB.search(location)
    root = "" if glob else location.rstrip("/") + "/"
    base = (
        location[: glob.start()].rpartition("/")[0] + "/" if glob else root
    )  # named by the user, hidden or not
    hidden_parts = set()
    for metadata in beam_files.find(location):
        if metadata.path.endswith("/"):  # a folder's placeholder on object storage
            continue
        hidden = first_hidden_part(metadata.path.removeprefix(base))
        if hidden is None:
            yield _from_metadata(metadata, metadata.path.removeprefix(root))
        elif hidden[0] not in hidden_parts:
            hidden_parts.add(hidden[0])
            yield Rejected(base + hidden[0], "hidden", hidden[1])


def _match(pattern: str, root: str) -> Iterator[InputFile | Rejected]:
    """Yield the local files below `root` that match a pattern, or that are in a folder that does."""
    expression = re.compile(FileSystem.translate_pattern(pattern.rstrip("/")))
    folder = Path(root or ("/" if pattern.startswith("/") else "."))
    for item in _walk(folder, "") if folder.is_dir() else ():
        path = item.uri
        while path and not expression.fullmatch(path):
            path = path.rpartition("/")[0]
        if path:
            yield item


def _walk(folder: Path, root: str) -> Iterator[InputFile | Rejected]:
    """Yield a folder's files at any depth, following links, each hidden folder with one line."""
    stack: list[tuple[Path, tuple[FolderId, ...]]] = [(folder, ())]
    while stack:
        folder, ancestors = stack.pop()
        try:
            status = folder.stat()
            entries = list(os.scandir(folder))
        except OSError as error:
            yield unreadable(str(folder), error)
            continue
        ancestors = (*ancestors, (status.st_dev, status.st_ino))
        for entry in entries:
            path = Path(entry.path)
            if why := hidden_part(entry.name):
                yield Rejected(str(path), "hidden", why)
            elif rejected := _check_path(path, ancestors):
                yield rejected
            elif path.is_dir():
                stack.append((path, ancestors))
            else:
                try:
                    yield _to_input_file(path, str(path).removeprefix(root))
                except OSError as error:  # deleted meanwhile
                    yield unreadable(str(path), error)


def _check_path(path: Path, ancestors: tuple[FolderId, ...] = ()) -> Rejected | None:
    """Return why a path cannot be read as a file or folder, if so; `ancestors` are the folders it is in."""
    try:
        status = path.stat()
    except OSError as error:
        if isinstance(error, PermissionError):
            return Rejected(str(path), "no_permission", error.strerror or "no permission")
        if path.is_symlink():
            return Rejected(str(path), "broken_link", f"a link to {path.readlink()}, which does not exist")
        return Rejected(str(path), "missing", error.strerror or "it does not exist")
    if stat.S_ISDIR(status.st_mode):
        if (status.st_dev, status.st_ino) in ancestors:
            return Rejected(str(path), "looping_link", "a link to a folder that contains it")
    elif not stat.S_ISREG(status.st_mode):
        return Rejected(str(path), "not_a_file", "a device, pipe or socket")
    return None
