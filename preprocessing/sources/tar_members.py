"""The members of a tar archive, of every type that GNU tar and Python know."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from preprocessing.sources.member_tree import Entry, EntryKind

ERRORS = "surrogateescape"  # bytes of names that are not UTF-8 survive
GNU_FOLDER, GNU_CONTINUATION, GNU_VOLUME_LABEL = b"D", b"M", b"V"
MAX_SPARSE_BYTES = 1 << 36  # a few bytes can declare any number of zeros
SEARCHED_BYTES = 1 << 20  # after the end of an archive
BLOCK_BYTES = tarfile.BLOCKSIZE
CHECKSUM = slice(148, 156)  # of a header: octal digits


def list_tar(stream: BinaryIO) -> tuple[list[Entry], str]:
    """Return the entries of a tar archive, as far as it can be read, and what cannot be read of it, or "".

    After a corrupt header, listing goes on with the next one that is found, as GNU tar does.

    Raises:
        tarfile.ReadError: The content does not begin as a tar.
    """
    entries: list[Entry] = []
    faults: list[str] = []
    archive = _Headers(stream)
    offset: int | None = 0
    while offset is not None:
        try:
            for info in archive.read_from(offset):
                if info.type != GNU_VOLUME_LABEL:
                    entries.append(_to_entry(info))
            faults.append(_check_end(stream))
            offset = None
        except (tarfile.TarError, EOFError, ValueError) as error:
            if archive.is_at_start:
                raise tarfile.ReadError(str(error)) from error
            faults.append(f"{str(error) or type(error).__name__} at byte {archive.offset}")
            offset = archive.find_header(archive.offset + BLOCK_BYTES)
    return entries, "; ".join(filter(None, faults))


def open_member(stream: BinaryIO, offset: int) -> BinaryIO:
    """Return a seekable stream over the member whose first header is at `offset`.

    Raises:
        tarfile.TarError: There is no member.
    """
    stream.seek(offset)
    archive = tarfile.TarFile(fileobj=stream, encoding="utf-8", errors=ERRORS)
    info = archive.next()
    content = archive.extractfile(info) if info else None
    if content is None:
        raise tarfile.ReadError("no such member")
    return content  # type: ignore[return-value]  # a BufferedReader


class _Headers(tarfile.TarFile):
    """A tar archive that reports a corrupt header, which `tarfile` takes for the end.

    Attributes:
        offset: Of the header that is read next, or could not be read.
        is_at_start: Whether there was none before it.
    """

    is_at_start = True

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(fileobj=stream, encoding="utf-8", errors=ERRORS)
        self._stream = stream

    def next(self) -> None:
        """Read nothing when the archive is opened."""

    def read_from(self, offset: int) -> Iterator[tarfile.TarInfo]:
        """Yield the members from the header at `offset` on, up to the end mark, a block of zeros.

        Raises:
            tarfile.HeaderError: A header is corrupt.
            EOFError: The archive ends before the mark.
        """
        self.offset = offset
        while any(self._read_block(offset)):
            self._stream.seek(offset)
            info = tarfile.TarInfo.fromtarfile(self)  # moves the offset
            if self.offset <= offset:
                self.offset = offset
                raise tarfile.HeaderError("negative size")
            offset = self.offset
            self.is_at_start = False
            yield info

    def _read_block(self, offset: int) -> bytes:
        self._stream.seek(offset)
        block = self._stream.read(BLOCK_BYTES)
        if len(block) < BLOCK_BYTES:
            raise EOFError("the archive is cut off: its end mark is missing")
        return block

    def find_header(self, offset: int) -> int | None:
        """Return the offset of the next block that is a header, by its checksum; None if there is none."""
        self._stream.seek(offset)
        while len(block := self._stream.read(BLOCK_BYTES)) == BLOCK_BYTES:
            if block[CHECKSUM].strip(b" \0").isdigit():
                try:
                    tarfile.TarInfo.frombuf(block, "utf-8", ERRORS)
                except (tarfile.TarError, ValueError):
                    pass
                else:
                    return offset
            offset += BLOCK_BYTES
        return None


def _to_entry(info: tarfile.TarInfo) -> Entry:
    entry = Entry(info.name, EntryKind.FILE, info.offset, info.size, f"{info.mtime} {info.chksum}")
    if info.isdir() or info.type == GNU_FOLDER:
        return entry._replace(kind=EntryKind.FOLDER)
    if info.issym():
        return entry._replace(kind=EntryKind.SYMLINK, target=info.linkname)
    if info.islnk():
        return entry._replace(kind=EntryKind.HARD_LINK, target=info.linkname)
    if info.type == GNU_CONTINUATION:
        return entry._replace(problem="corrupt_archive", detail="the rest of a file of another volume")
    if info.isdev():
        return entry._replace(problem="not_a_file", detail="a device, pipe or socket")
    if info.issparse() and info.size > MAX_SPARSE_BYTES:
        return entry._replace(problem="corrupt_archive", detail=f"a sparse file of {info.size} bytes")
    return entry  # as GNU tar does with types that it does not know


def _check_end(stream: BinaryIO) -> str:
    """Say whether another archive follows the end that was read: tar would not read it, either."""
    rest = stream.read(SEARCHED_BYTES).lstrip(b"\0")
    return "another tar archive follows and is not read" if rest[257:262] == b"ustar" else ""
