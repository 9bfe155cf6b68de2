"""Archives: list their members and open them in place, without unpacking to disk.

A zip has a directory that leads to each member. A tar is listed by one pass over it. For a gzip-compressed tar, it also
builds an index of points from which decompression can resume (indexed_gzip), so that every worker can seek. Other
compressed tars, and those with a fault, cannot be sought in: `copy_decompressed` gives the tar, which the job stages.
"""

from __future__ import annotations

import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from typing import BinaryIO, NamedTuple, cast

import indexed_gzip
import zstandard

from preprocessing.sources import decompression, tar_members, zip_members
from preprocessing.sources.archive_kinds import ArchiveKind
from preprocessing.sources.decompression import DecompressedStream
from preprocessing.sources.member_tree import Member, unpack

INDEX_SPACING_BYTES = 4 << 20  # decompressed at most to reach a member
COPY_BYTES = 1 << 20
COMPRESSIONS = {
    ArchiveKind.TAR_GZ: decompression.GZIP,
    ArchiveKind.TAR_BZ2: decompression.BZIP2,
    ArchiveKind.TAR_XZ: decompression.XZ,
    ArchiveKind.TAR_ZST: decompression.ZSTANDARD,
}
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
    if kind is ArchiveKind.TAR_GZ and (listing := _list_flawless_gzip(stream)):
        return listing
    stream.seek(0, 2)  # indexed_gzip may have moved the file behind the stream's back
    stream.seek(0)
    decompressed = None if kind is ArchiveKind.TAR else DecompressedStream(stream, COMPRESSIONS[kind])
    try:
        entries, error = tar_members.list_tar(cast(BinaryIO, decompressed or stream))
    except tarfile.ReadError as error:
        fault = decompressed.error if decompressed else ""
        return ArchiveListing([], b"", fault or str(error), is_archive=bool(fault))
    fault = decompressed.error if decompressed else ""
    return ArchiveListing(list(unpack(entries)), b"", fault or error)


def _list_flawless_gzip(stream: BinaryIO) -> ArchiveListing | None:
    """List a gzip-compressed tar and build its index; None if it has any fault."""
    with _open_gzip(stream) as tar_stream:
        try:
            entries, error = tar_members.list_tar(cast(BinaryIO, tar_stream))
            while not error and tar_stream.read(COPY_BYTES):  # up to the checksum
                pass
        except (*CORRUPT_ARCHIVE_ERRORS, OSError):
            return None  # if reading the file fails, it fails again
        seek_index = io.BytesIO()
        tar_stream.export_index(fileobj=seek_index)
    return None if error else ArchiveListing(list(unpack(entries)), seek_index.getvalue())


def copy_decompressed(stream: BinaryIO, kind: ArchiveKind, target: BinaryIO) -> None:
    """Write the tar in `stream` to `target`, as far as it can be decompressed; the listing says if it is not whole."""
    stream.seek(0)
    source = DecompressedStream(stream, COMPRESSIONS[kind])
    while block := source.read(COPY_BYTES):
        target.write(block)


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
