"""Archives as folders: members listed and opened where they lie, nothing unpacked to disk.

A zip has a directory, and a member is reached in one jump. A tar is listed by walking it once; a compressed
one is given an index of places from which the decompression can go on (indexed_gzip), so that every worker
jumps too. The index travels with the job's plan.
"""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import BinaryIO, NamedTuple

import indexed_gzip

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz")
MAGIC = {b"PK\x03\x04": ".zip", b"PK\x05\x06": ".zip", b"\x1f\x8b": ".tar.gz"}
TAR_MAGIC, TAR_MAGIC_AT = b"ustar", 257
INDEX_SPACING_BYTES = 4 << 20  # decompressed, at most, to reach a member
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, indexed_gzip.ZranError)


class Member(NamedTuple):
    """A file in an archive; `problem` is why it cannot be one (a reason code), or empty."""

    name: str
    size: int
    offset: int  # in the decompressed tar; in a zip the directory knows
    stamp: str  # changes with the content, as far as the archive tells
    problem: str


class Contents(NamedTuple):
    """What `contents` found: `index` is what `Archive` needs; `damage` is where it broke off, or empty."""

    members: list[Member]
    index: bytes
    damage: str


def kind_of(name: str, head: bytes = b"") -> str:
    """`.zip`, `.tar` or `.tar.gz`, by the name's ending or else by the first 512 bytes; empty if none."""
    lower = name.lower()
    for ending in ENDINGS:
        if lower.endswith(ending):
            return ".tar.gz" if ending == ".tgz" else ending
    for magic, kind in MAGIC.items():
        if head.startswith(magic):
            return kind
    return ".tar" if head[TAR_MAGIC_AT:].startswith(TAR_MAGIC) else ""


def contents(stream: BinaryIO, kind: str) -> Contents:
    """Lists the files of an archive; one that is damaged is listed as far as it can be read."""
    members: list[Member] = []
    if kind == ".zip":
        try:
            with zipfile.ZipFile(stream) as archive:
                members.extend(_zip_member(info) for info in archive.infolist() if not info.is_dir())
        except DAMAGED as error:
            return Contents(members, b"", str(error))
        return Contents(members, b"", "")
    index = io.BytesIO()
    damage = ""
    try:
        with _decompressed(stream, kind) as tar_stream:
            try:
                with tarfile.open(fileobj=tar_stream, mode="r:") as archive:
                    # One by one: what comes before a damage stays.
                    members.extend(_tar_member(info) for info in archive if not info.isdir())
            except DAMAGED as error:
                damage = str(error)
            if kind == ".tar.gz":
                tar_stream.export_index(fileobj=index)
    except DAMAGED as error:
        damage = damage or str(error)
    return Contents(members, index.getvalue(), damage)


class Archive:
    """An open archive; a member's stream is valid until the next one is opened."""

    def __init__(self, stream: BinaryIO, kind: str, index: bytes) -> None:
        self._zip = zipfile.ZipFile(stream) if kind == ".zip" else None
        self._tar = None if self._zip else _decompressed(stream, kind, index)

    def open(self, name: str, offset: int, size: int) -> BinaryIO:
        """A seekable stream over one member.

        Raises:
            OSError: It cannot be reached, or is encrypted.
        """
        if self._zip is None:
            return io.BufferedReader(_Window(self._tar, offset, size))
        try:
            return self._zip.open(name)
        except (RuntimeError, NotImplementedError, KeyError, zipfile.BadZipFile) as error:
            raise OSError(str(error)) from error

    def close(self) -> None:
        """Lets the archive go."""
        (self._zip or self._tar).close()


def _decompressed(stream: BinaryIO, kind: str, index: bytes = b"") -> BinaryIO:
    if kind == ".tar":
        return stream
    unpacked = indexed_gzip.IndexedGzipFile(fileobj=stream, spacing=INDEX_SPACING_BYTES)
    if index:
        unpacked.import_index(fileobj=io.BytesIO(index))
    return unpacked


def _zip_member(info: zipfile.ZipInfo) -> Member:
    is_link = stat.S_ISLNK(info.external_attr >> 16)
    problem = _unsafe(info.filename) or ("not_a_file" if is_link else "")
    return Member(info.filename, info.file_size, 0, f"{info.CRC:08x}", problem)


def _tar_member(info: tarfile.TarInfo) -> Member:
    problem = _unsafe(info.name) or ("" if info.isreg() else "not_a_file")
    return Member(info.name, info.size, info.offset_data, str(info.mtime), problem)


def _unsafe(name: str) -> str:
    """A name that climbs out of its archive; nothing is written here, but it is no honest name either."""
    path = PurePosixPath(name.replace("\\", "/"))
    return "unsafe_path" if path.is_absolute() or ".." in path.parts else ""


class _Window(io.RawIOBase):
    """A part of another stream."""

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

    def readinto(self, buffer: memoryview) -> int:
        wanted = max(0, min(len(buffer), self._size - self._position))
        self._stream.seek(self._start + self._position)
        data = self._stream.read(wanted)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
