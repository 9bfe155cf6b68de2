"""Files through Beam, local or `gs://`: a few calls that the launcher and the workers share."""

from __future__ import annotations

import re
from typing import BinaryIO

from apache_beam.io.filesystem import CompressionTypes, FileMetadata
from apache_beam.io.filesystems import FileSystems

join = FileSystems.join
exists = FileSystems.exists


def find(directory_or_pattern: str) -> list[FileMetadata]:
    """Every file of a directory at any depth, or every file that a glob (`*`, `**`, `?`, `[...]`) matches.

    An existing directory is taken literally, whatever signs its name has.
    """
    is_pattern = re.search(r"[*?[]", directory_or_pattern) and not exists(directory_or_pattern)
    pattern = directory_or_pattern if is_pattern else join(literal(directory_or_pattern.rstrip("/")), "**")
    return FileSystems.match([pattern])[0].metadata_list


def literal(path: str) -> str:
    """`path` as a pattern that matches only itself."""
    return re.sub(r"([*?[])", r"[\1]", path)


def open_stream(uri: str) -> BinaryIO:
    """A seekable binary stream over the file as it is: a `.gz` is not unpacked."""
    return FileSystems.open(uri, compression_type=CompressionTypes.UNCOMPRESSED)


def read(uri: str) -> bytes:
    """The whole file, as it is."""
    with open_stream(uri) as stream:
        return stream.read()


def create(uri: str) -> BinaryIO:
    """A binary stream to a new file; on object storage it appears when the stream is closed."""
    return FileSystems.create(uri, compression_type=CompressionTypes.UNCOMPRESSED)


def write(uri: str, data: bytes) -> None:
    """A whole file."""
    with create(uri) as stream:
        stream.write(data)


def move(source: str, target: str) -> None:
    """Moves a file over `target`; repeating a move that succeeded does nothing."""
    if exists(source):
        FileSystems.rename([source], [target])


def copy(source: str, target: str) -> None:
    """Copies a file; within a bucket, its bytes do not leave it."""
    FileSystems.copy([source], [target])


def size(uri: str) -> int | None:
    """Bytes of a file, or None if there is none."""
    found = FileSystems.match([literal(uri)])[0].metadata_list
    return next((file.size_in_bytes for file in found if file.path == uri), None)


def make_folder(uri: str) -> None:
    """Makes a folder and its parents; object storage needs none."""
    if not exists(uri):
        FileSystems.mkdirs(uri)


def delete_folder(uri: str) -> None:
    """Deletes all that is below `uri`; on object storage that is all there is of a folder."""
    delete([file.path for file in FileSystems.match([join(literal(uri), "**")])[0].metadata_list])
    delete([uri])


def delete(uris: list[str]) -> None:
    """Deletes the files or folders of `uris` that exist."""
    if existing := [uri for uri in uris if exists(uri)]:
        FileSystems.delete(existing)
