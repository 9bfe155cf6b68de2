"""File operations through Beam's file systems, local or `gs://`, for the launcher and the workers.

They raise `BeamIOError`, a subclass of `OSError`, when storage fails.
"""

from __future__ import annotations

import re
from typing import BinaryIO

from apache_beam.io.filesystem import CompressionTypes, FileMetadata
from apache_beam.io.filesystems import FileSystems

join = FileSystems.join
exists = FileSystems.exists


def find(directory_or_pattern: str) -> list[FileMetadata]:
    """Return the files of a directory at any depth, or those that a glob (`*`, `**`, `?`, `[...]`) matches.

    The name of an existing directory is taken literally, even if it contains glob characters.
    """
    is_pattern = re.search(r"[*?[]", directory_or_pattern) and not exists(directory_or_pattern)
    pattern = directory_or_pattern if is_pattern else join(literal(directory_or_pattern.rstrip("/")), "**")
    return FileSystems.match([pattern])[0].metadata_list


def literal(path: str) -> str:
    """Escape the glob characters of `path`, so that it matches only itself."""
    return re.sub(r"([*?[])", r"[\1]", path)


def open_stream(uri: str) -> BinaryIO:
    """Open a file as a seekable binary stream; a `.gz` file is not decompressed."""
    return FileSystems.open(uri, compression_type=CompressionTypes.UNCOMPRESSED)


def read(uri: str) -> bytes:
    """Return the content of a file; a `.gz` file is not decompressed."""
    with open_stream(uri) as stream:
        return stream.read()


def create(uri: str) -> BinaryIO:
    """Open a new file for writing; on object storage it exists once the stream is closed."""
    return FileSystems.create(uri, compression_type=CompressionTypes.UNCOMPRESSED)


def write(uri: str, data: bytes) -> None:
    """Write a file, replacing any content."""
    with create(uri) as stream:
        stream.write(data)


def move(source: str, target: str) -> None:
    """Move a file, replacing `target`; do nothing if `source` is gone, so that a move can be repeated."""
    if exists(source):
        FileSystems.rename([source], [target])


def copy(source: str, target: str) -> None:
    """Copy a file; a copy within a bucket is made by the storage service."""
    FileSystems.copy([source], [target])


def size(uri: str) -> int | None:
    """Return the size of a file in bytes, or None if it does not exist."""
    matches = FileSystems.match([literal(uri)])[0].metadata_list
    return next((file.size_in_bytes for file in matches if file.path == uri), None)


def make_folder(uri: str) -> None:
    """Create a folder and its parents, unless it exists; a no-op on object storage, which has no folders."""
    if not exists(uri):
        FileSystems.mkdirs(uri)


def delete_folder(uri: str) -> None:
    """Delete a folder with everything below it, if it exists."""
    delete([file.path for file in FileSystems.match([join(literal(uri), "**")])[0].metadata_list])
    delete([uri])


def delete(uris: list[str]) -> None:
    """Delete those of the files or folders that exist."""
    if existing := [uri for uri in uris if exists(uri)]:
        FileSystems.delete(existing)
