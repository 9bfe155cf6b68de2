"""Archives: list their members and open them in place, without unpacking to disk.

A zip has a directory that leads to each member. A tar is listed by one pass over it. For a compressed tar,
that pass also builds an index of points from which decompression can resume (indexed_gzip), so that every
worker can seek; the index is part of the job's plan.
"""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

import indexed_gzip

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

HEAD_BYTES = 512  # of an archive, enough to recognize its kind
ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz")
MAGIC = {b"PK\x03\x04": ".zip", b"PK\x05\x06": ".zip", b"\x1f\x8b": ".tar.gz"}
TAR_MAGIC, TAR_MAGIC_OFFSET = b"ustar", 257
INDEX_SPACING_BYTES = 4 << 20  # decompressed at most to reach a member
MEMBER_SEPARATOR = "!/"  # between the URI of an archive and a member's name, as in Java's jar: URIs
CORRUPT_ARCHIVE_ERRORS = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    indexed_gzip.ZranError,
)


class Member(NamedTuple):
    """A file in an archive."""

    name: str
    size: int
    offset: int  # in the decompressed tar; 0 in a zip, whose directory has it
    stamp: str  # changes with the content, as far as the archive shows
    problem: str  # why it cannot be read, a key of `REASONS`, or empty


class ArchiveListing(NamedTuple):
    """The members of an archive."""

    members: list[Member]
    seek_index: bytes  # for `Archive`; empty unless the archive is compressed as a whole
    error: str  # why listing it broke off, or empty


def archive_kind(name: str, head: bytes = b"") -> str:
    """Return `.zip`, `.tar` or `.tar.gz`, by the ending of the name or else by the first bytes; else ""."""
    lower = name.lower()
    for ending in ENDINGS:
        if lower.endswith(ending):
            return ".tar.gz" if ending == ".tgz" else ending
    for magic, kind in MAGIC.items():
        if head.startswith(magic):
            return kind
    return ".tar" if head[TAR_MAGIC_OFFSET:].startswith(TAR_MAGIC) else ""


def list_members(stream: BinaryIO, kind: str) -> ArchiveListing:
    """List the files of an archive; a corrupt one is listed as far as it can be read."""
    return _list_zip(stream) if kind == ".zip" else _list_tar(stream, kind)


class Archive:
    """An open archive. Opening a member invalidates the stream of the one before."""

    def __init__(self, stream: BinaryIO, kind: str, seek_index: bytes) -> None:
        self._zip: zipfile.ZipFile | None = None
        self._tar_stream = stream
        if kind == ".zip":
            self._zip = zipfile.ZipFile(stream)
        elif kind == ".tar.gz":
            decompressed = _decompress(stream)
            if seek_index:
                decompressed.import_index(fileobj=io.BytesIO(seek_index))
            self._tar_stream = decompressed

    def open_member(self, name: str, offset: int, size: int) -> BinaryIO:
        """Return a seekable stream over one member.

        Raises:
            OSError: The member cannot be reached, or is encrypted.
        """
        if self._zip is None:
            return io.BufferedReader(_Window(self._tar_stream, offset, size))
        try:
            return cast(BinaryIO, self._zip.open(name))
        except (RuntimeError, NotImplementedError, KeyError, zipfile.BadZipFile) as error:
            raise OSError(str(error)) from error

    def close(self) -> None:
        """Close the archive."""
        (self._zip or self._tar_stream).close()


def _list_zip(stream: BinaryIO) -> ArchiveListing:
    members: list[Member] = []
    error_text = ""
    try:
        with zipfile.ZipFile(stream) as archive:
            members.extend(_zip_member(info) for info in archive.infolist() if not info.is_dir())
    except CORRUPT_ARCHIVE_ERRORS as error:
        error_text = str(error)
    return ArchiveListing(members, b"", error_text)


def _list_tar(stream: BinaryIO, kind: str) -> ArchiveListing:
    members: list[Member] = []
    seek_index = io.BytesIO()
    error_text = ""
    try:
        with _decompress(stream) if kind == ".tar.gz" else stream as tar_stream:
            try:
                with tarfile.open(fileobj=tar_stream, mode="r:") as archive:
                    # One by one, so that the members before a corrupt one are kept.
                    members.extend(_tar_member(info) for info in archive if not info.isdir())
            except CORRUPT_ARCHIVE_ERRORS as error:
                error_text = str(error)
            if isinstance(tar_stream, indexed_gzip.IndexedGzipFile):
                tar_stream.export_index(fileobj=seek_index)
    except CORRUPT_ARCHIVE_ERRORS as error:
        error_text = error_text or str(error)
    return ArchiveListing(members, seek_index.getvalue(), error_text)


def _decompress(stream: BinaryIO) -> indexed_gzip.IndexedGzipFile:
    return indexed_gzip.IndexedGzipFile(fileobj=stream, spacing=INDEX_SPACING_BYTES)


def _zip_member(info: zipfile.ZipInfo) -> Member:
    is_link = stat.S_ISLNK(info.external_attr >> 16)
    problem = _path_problem(info.filename) or ("not_a_file" if is_link else "")
    return Member(info.filename, info.file_size, 0, f"{info.CRC:08x}", problem)


def _tar_member(info: tarfile.TarInfo) -> Member:
    problem = _path_problem(info.name) or ("" if info.isreg() else "not_a_file")
    return Member(info.name, info.size, info.offset_data, str(info.mtime), problem)


def _path_problem(name: str) -> str:
    """Return `unsafe_path` for a name that leads outside of the archive.

    Nothing is unpacked, so it could do no harm; but a well-meant archive has no such name.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    return "unsafe_path" if path.is_absolute() or ".." in path.parts else ""


class _Window(io.RawIOBase):
    """The `size` bytes of a stream from `start` on, as a stream."""

    def __init__(self, stream: BinaryIO, start: int, size: int) -> None:
        super().__init__()
        self._stream, self._start, self._size, self._position = stream, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        count = max(0, min(len(view), self._size - self._position))
        self._stream.seek(self._start + self._position)
        data = self._stream.read(count)
        view[: len(data)] = data
        self._position += len(data)
        return len(data)
