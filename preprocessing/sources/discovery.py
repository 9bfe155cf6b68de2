"""Find the input files: below a folder, by a pattern, from a list, or in archives; local or `gs://`.

Each path found becomes an `InputFile`, or a `Rejected` with the reason; none is skipped silently, except
hidden folders.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from apache_beam.io.filesystem import FileMetadata, FileSystem
from apache_beam.io.filesystems import FileSystems

from preprocessing.dataset.quarantine import Rejected
from preprocessing.dataset.splits import is_audio_name
from preprocessing.errors import BAD_DATA, CommandError
from preprocessing.sources import archives
from preprocessing.storage import beam_files

GLOB = re.compile(r"[*?[]")
MAX_LIST_BYTES = 256 << 20

FolderId = tuple[int, int]  # device and inode


class InputFile(NamedTuple):
    """A file that may be a recording: a file of its own, or a member of an archive."""

    uri: str
    relative_path: str  # below the input folder or in the archive; its folders name the genre
    size: int
    stamp: str  # changes when the content does
    archive_uri: str = ""
    offset: int = 0  # in the archive


class Discovery(NamedTuple):
    """The result of a search."""

    files: list[InputFile]
    rejected: list[Rejected]
    indexes: dict[str, bytes]  # URI of a compressed archive -> its seek index


def find_inputs(location: str) -> Discovery:
    """Find the files of a folder, pattern, list or archive; archives in a folder are searched, too.

    Raises:
        CommandError: The input is a single file, but neither an archive nor a list (exit code 3).
    """
    single_file = _find_file(location) if _is_file(location) else None
    kind = _archive_kind_by_content(single_file) if single_file else ""
    items: Iterator[InputFile | Rejected]
    if single_file is None:
        items = _list_location(location)
    elif kind:
        items = iter([single_file])
    else:
        items = _read_list(single_file)
    discovery = Discovery([], [], {})
    for item in items:
        if isinstance(item, Rejected):
            discovery.rejected.append(item)
        elif item_kind := kind or archives.archive_kind(item.uri):
            _add_members(discovery, item, item_kind)
        else:
            discovery.files.append(item)
    discovery.files.sort(key=lambda file: file.uri)
    return discovery


def _is_file(location: str) -> bool:
    return bool(FileSystems.exists(location)) if "://" in location else Path(location).is_file()


def _find_file(uri: str) -> InputFile | None:
    matches = FileSystems.match([beam_files.literal(uri)])[0].metadata_list
    return next((_to_input_file(match, uri) for match in matches if match.path == uri), None)


def _to_input_file(metadata: FileMetadata, relative_path: str) -> InputFile:
    stamp = str(metadata.last_updated_in_seconds)
    return InputFile(metadata.path, relative_path, metadata.size_in_bytes, stamp)


def _archive_kind_by_content(file: InputFile) -> str:
    with beam_files.open_stream(file.uri) as stream:
        return archives.archive_kind(file.uri, stream.read(archives.HEAD_BYTES))


def _list_location(location: str) -> Iterator[InputFile | Rejected]:
    """Yield the files of a folder or pattern; archives are not opened."""
    if "://" not in location and Path(location).is_dir():
        yield from _walk(Path(location), location.rstrip("/") + "/")
    elif "://" not in location and (glob := GLOB.search(location)):
        yield from _match(location, location[: glob.start()].rpartition("/")[0])
    else:
        root = "" if GLOB.search(location) else location.rstrip("/") + "/"
        for metadata in beam_files.find(location):
            if not metadata.path.endswith("/"):  # a folder's placeholder on object storage
                yield _to_input_file(metadata, metadata.path.removeprefix(root))


def _match(pattern: str, root: str) -> Iterator[InputFile | Rejected]:
    """Yield the local files below `root` that match a pattern, or that are in a folder that does."""
    expression = re.compile(FileSystem.translate_pattern(pattern.rstrip("/")))
    for item in _walk(Path(root or ("/" if pattern.startswith("/") else ".")), ""):
        path = item.uri
        while path and not expression.fullmatch(path):
            path = path.rpartition("/")[0]
        if path:
            yield item


def _walk(folder: Path, root: str, ancestors: tuple[FolderId, ...] = ()) -> Iterator[InputFile | Rejected]:
    """Yield a folder's files at any depth, following links and skipping hidden folders."""
    status = folder.stat()
    ancestors = (*ancestors, (status.st_dev, status.st_ino))
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except PermissionError as error:
        yield Rejected(str(folder), "no_permission", error.strerror or "no permission")
        return
    for entry in entries:
        path = Path(entry.path)
        if rejected := _check_path(path, ancestors):
            yield rejected
        elif not path.is_dir():
            status = path.stat()
            relative_path = str(path).removeprefix(root)
            yield InputFile(str(path), relative_path, status.st_size, str(status.st_mtime_ns))
        elif not entry.name.startswith("."):
            yield from _walk(path, root, ancestors)


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
        if is_audio_name(path.name):
            return Rejected(str(path), "is_folder", "a folder named like an audio file")
    elif not stat.S_ISREG(status.st_mode):
        return Rejected(str(path), "not_a_file", "a device, pipe or socket")
    return None


def _read_list(list_file: InputFile) -> Iterator[InputFile | Rejected]:
    """Yield the files named in a text file, one per line: URIs, or paths relative to the list's folder."""
    data = beam_files.read(list_file.uri) if list_file.size <= MAX_LIST_BYTES else b"\0"
    try:
        text = "" if b"\0" in data else data.decode()
    except UnicodeDecodeError:
        text = ""
    if not text:
        raise CommandError(
            f"--input {list_file.uri} is a single file, but neither an archive (zip, tar, tar.gz) nor a "
            "list of files: give the folder that contains it",
            BAD_DATA,
        )
    folder = list_file.uri.rpartition("/")[0]
    for line in text.splitlines():
        path = line.strip()
        if path and not path.startswith("#"):
            is_absolute = "://" in path or path.startswith("/")
            yield _find_listed(path if is_absolute else beam_files.join(folder, path))


def _find_listed(uri: str) -> InputFile | Rejected:
    if "://" not in uri and (rejected := _check_path(Path(uri))):
        return rejected
    return _find_file(uri) or Rejected(uri, "missing", "it is in the list, but does not exist")


def _add_members(discovery: Discovery, archive: InputFile, kind: str) -> None:
    with beam_files.open_stream(archive.uri) as stream:
        listing = archives.list_members(stream, kind)
    if listing.seek_index:
        discovery.indexes[archive.uri] = listing.seek_index
    if listing.error:
        discovery.rejected.append(Rejected(archive.uri, "corrupt_archive", listing.error))
    for member in listing.members:
        uri = f"{archive.uri}{archives.MEMBER_SEPARATOR}{member.name}"
        if member.problem:
            is_unsafe = member.problem == "unsafe_path"
            detail = "its path leads outside of the archive" if is_unsafe else "not a regular file"
            discovery.rejected.append(Rejected(uri, member.problem, detail))
        else:
            stamp = f"{archive.stamp} {member.stamp}"
            file = InputFile(uri, member.name, member.size, stamp, archive.uri, member.offset)
            discovery.files.append(file)
