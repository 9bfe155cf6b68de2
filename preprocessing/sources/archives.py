"""Archives: list their members and open them in place, without unpacking to disk.

A zip has a directory that leads to each member. A tar is listed by one pass over it. For a gzip-compressed tar,
that pass also builds an index of points from which decompression can resume (indexed_gzip), so that every worker
can seek. Other compressed tars cannot be sought in: `decompress` gives the tar, which the job stages.
"""

from __future__ import annotations

import bz2
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from typing import BinaryIO, NamedTuple, cast

import indexed_gzip
import zstandard

from preprocessing.sources import tar_members, zip_members
from preprocessing.sources.archive_kinds import ArchiveKind
from preprocessing.sources.member_tree import Member, unpack

INDEX_SPACING_BYTES = 4 << 20  # decompressed at most to reach a member
COPY_BYTES = 1 << 20
MAX_WINDOW_BYTES = 1 << 31  # of Zstandard, the largest that its program writes
MEMBER_SEPARATOR = "!/"  # between the URI of an archive and a member's name, as in Java's jar: URIs
# What reading raises where the bytes of an archive are wrong. indexed_gzip's errors are also OSErrors.
CORRUPT_ARCHIVE_ERRORS = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    zstandard.ZstdError,
    EOFError,
    indexed_gzip.ZranError,
    indexed_gzip.NotCoveredError,
    struct.error,
)
_BROKEN_STREAM_ERRORS = (*CORRUPT_ARCHIVE_ERRORS, OSError)  # bz2 raises OSError


class ArchiveListing(NamedTuple):
    """The members of an archive."""

    members: list[Member]
    seek_index: bytes = b""  # for `Archive`; only of gzip-compressed tars
    error: str = ""  # why listing it broke off, or empty
    is_archive: bool = True  # False: compressed data, but not of a tar


def list_members(stream: BinaryIO, kind: ArchiveKind) -> ArchiveListing:
    """List the files of an archive; a corrupt one is listed as far as it can be read."""
    if kind is ArchiveKind.ZIP:
        entries, error = zip_members.list_zip(stream)
        return ArchiveListing(list(unpack(entries)), b"", error)
    try:
        tar_stream = decompress(stream, kind)
        entries, error = tar_members.list_tar(tar_stream)
    except tarfile.ReadError as error:
        return ArchiveListing([], b"", str(error), is_archive=False)
    except _BROKEN_STREAM_ERRORS as error:
        return ArchiveListing([], b"", str(error) or type(error).__name__)
    seek_index = io.BytesIO()
    if isinstance(tar_stream, indexed_gzip.IndexedGzipFile):
        tar_stream.export_index(fileobj=seek_index)
    return ArchiveListing(list(unpack(entries)), seek_index.getvalue(), error)


def decompress(stream: BinaryIO, kind: ArchiveKind) -> BinaryIO:
    """Return a stream over the tar in `stream`, to be read forward; only of gzip it can be sought in quickly."""
    if kind is ArchiveKind.TAR_GZ:
        return cast(BinaryIO, _open_gzip(stream))
    if kind is ArchiveKind.TAR_BZ2:
        return cast(BinaryIO, bz2.BZ2File(stream))
    if kind is ArchiveKind.TAR_XZ:
        return cast(BinaryIO, lzma.LZMAFile(stream))
    if kind is ArchiveKind.TAR_ZST:
        decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
        reader = decompressor.stream_reader(stream, read_across_frames=True, closefd=False)
        return cast(BinaryIO, reader)
    return stream


def copy_decompressed(stream: BinaryIO, kind: ArchiveKind, target: BinaryIO) -> None:
    """Write the tar in `stream` to `target`, as far as it can be decompressed."""
    source = decompress(stream, kind)
    try:
        while block := source.read(COPY_BYTES):
            target.write(block)
    except CORRUPT_ARCHIVE_ERRORS:
        return  # the listing says so


class Archive:
    """An open archive. Opening a member invalidates the stream of the one before."""

    def __init__(self, stream: BinaryIO, kind: ArchiveKind, seek_index: bytes = b"") -> None:
        """Open an archive of a kind that can be sought in: a zip, a tar, or a gzip-compressed tar."""
        self._zip = zipfile.ZipFile(stream) if kind is ArchiveKind.ZIP else None
        self._zip_members = {info.header_offset: info for info in self._zip.infolist()} if self._zip else {}
        self._tar_stream = stream
        if kind is ArchiveKind.TAR_GZ:
            decompressed = _open_gzip(stream)
            if seek_index:
                decompressed.import_index(fileobj=io.BytesIO(seek_index))
            self._tar_stream = cast(BinaryIO, decompressed)

    def open_member(self, offset: int) -> BinaryIO:
        """Return a seekable stream over the member whose header is at `offset`.

        Raises:
            Exception: One of `CORRUPT_ARCHIVE_ERRORS`, now or while the stream is read.
        """
        if self._zip is None:
            return tar_members.open_member(self._tar_stream, offset)
        if offset not in self._zip_members:
            raise zipfile.BadZipFile("no such member")
        return zip_members.open_member(self._zip, self._zip_members[offset])

    def close(self) -> None:
        """Close the archive."""
        (self._zip or self._tar_stream).close()


def _open_gzip(stream: BinaryIO) -> indexed_gzip.IndexedGzipFile:
    return indexed_gzip.IndexedGzipFile(fileobj=stream, spacing=INDEX_SPACING_BYTES)
