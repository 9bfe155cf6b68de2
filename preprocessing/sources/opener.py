"""Open input files, in archives or not, on any worker."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

from preprocessing.sources import archives
from preprocessing.storage import beam_files


def stage_indexes(indexes: dict[str, bytes], folder: str) -> None:
    """Write the seek indexes of compressed archives, by archive URI, where every worker can read them."""
    for archive_uri, seek_index in indexes.items():
        beam_files.write(_index_path(folder, archive_uri), seek_index)


class Opener:
    """Opens input files, keeping the last archive open: consecutive files are mostly from the same one."""

    def __init__(self, index_folder: str) -> None:
        """Take the folder to which `stage_indexes` wrote the indexes."""
        self._index_folder = index_folder
        self._archive_uri = ""
        self._archive_stream: BinaryIO | None = None
        self._archive: archives.Archive | None = None

    def open(self, uri: str, archive_uri: str, offset: int, size: int) -> BinaryIO:
        """Return a seekable stream over a file, given the fields of its `InputFile`.

        Raises:
            OSError: The file cannot be read.
        """
        if not archive_uri:
            return beam_files.open_stream(uri)
        archive = self._open_archive(archive_uri)
        return archive.open_member(uri.partition(archive_uri + archives.MEMBER_SEPARATOR)[2], offset, size)

    def close(self) -> None:
        """Close the archive that is open, if any."""
        if self._archive:
            self._archive.close()
        if self._archive_stream:
            self._archive_stream.close()
        self._archive, self._archive_stream, self._archive_uri = None, None, ""

    def _open_archive(self, archive_uri: str) -> archives.Archive:
        if self._archive and archive_uri == self._archive_uri:
            return self._archive
        self.close()
        self._archive_stream = stream = beam_files.open_stream(archive_uri)
        kind = archives.archive_kind(archive_uri, stream.read(archives.HEAD_BYTES))
        stream.seek(0)
        seek_index = b""
        if kind == ".tar.gz":
            seek_index = beam_files.read(_index_path(self._index_folder, archive_uri))
        self._archive = archives.Archive(stream, kind, seek_index)
        self._archive_uri = archive_uri
        return self._archive


def _index_path(folder: str, archive_uri: str) -> str:
    digest = hashlib.sha256(archive_uri.encode("utf-8", "surrogateescape")).hexdigest()
    return beam_files.join(folder, f"{digest[:16]}.index")
