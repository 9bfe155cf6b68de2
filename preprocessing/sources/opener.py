"""Open input files, in archives or not, on any worker."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

from preprocessing.sources.archive_kinds import ArchiveKind, recognize_archive
from preprocessing.sources.archives import Archive, copy_decompressed
from preprocessing.sources.progress import show_progress
from preprocessing.storage import beam_files


def stage_archives(compressed_archives: dict[str, bytes], folder: str) -> None:
    """Write what workers need to seek in compressed archives to a folder that they can read.

    Args:
        compressed_archives: Archive URI -> seek index; without one, the decompressed archive is written.
        folder: Local or `gs://`.
    """
    for archive_uri, seek_index in compressed_archives.items():
        path = _staged_path(folder, archive_uri)
        if seek_index:
            beam_files.write(path, seek_index)
            continue
        with beam_files.open_stream(archive_uri) as stream, beam_files.create(path) as target:
            kind = recognize_archive(stream) or ArchiveKind.TAR
            copy_decompressed(show_progress(stream, f"decompressing {archive_uri}"), kind, target)


class Opener:
    """Opens input files, keeping the last archive open: consecutive files are mostly from the same one."""

    def __init__(self, staging_folder: str) -> None:
        """Take the folder to which `stage_archives` wrote."""
        self._staging_folder = staging_folder
        self._archive_uri = ""
        self._archive_stream: BinaryIO | None = None
        self._archive: Archive | None = None

    def open(self, uri: str, archive_uri: str, offset: int) -> BinaryIO:
        """Return a seekable stream over a file, given the fields of its `InputFile`.

        Raises:
            OSError: The file cannot be read.
            Exception: One of `CORRUPT_ARCHIVE_ERRORS`, also later, while the stream is read.
        """
        if not archive_uri:
            return beam_files.open_stream(uri)
        return self._open_archive(archive_uri).open_member(offset)

    def close(self) -> None:
        """Close the archive that is open, if any."""
        if self._archive:
            self._archive.close()
        if self._archive_stream:
            self._archive_stream.close()
        self._archive, self._archive_stream, self._archive_uri = None, None, ""

    def _open_archive(self, archive_uri: str) -> Archive:
        if self._archive and archive_uri == self._archive_uri:
            return self._archive
        self.close()
        stream = beam_files.open_stream(archive_uri)
        kind = recognize_archive(stream) or ArchiveKind.ZIP
        seek_index = b""
        if kind not in (ArchiveKind.ZIP, ArchiveKind.TAR):
            staged = beam_files.open_stream(_staged_path(self._staging_folder, archive_uri))
            if kind is ArchiveKind.TAR_GZ and recognize_archive(staged) is not ArchiveKind.TAR:
                staged.seek(0)
                seek_index = staged.read()
                staged.close()
            else:  # decompressed
                stream.close()
                stream, kind = staged, ArchiveKind.TAR
        stream.seek(0)
        self._archive_stream = stream
        self._archive = Archive(stream, kind, seek_index)
        self._archive_uri = archive_uri
        return self._archive


def _staged_path(folder: str, archive_uri: str) -> str:
    digest = hashlib.sha256(archive_uri.encode("utf-8", "surrogateescape")).hexdigest()
    return beam_files.join(folder, f"archive-{digest[:16]}")
