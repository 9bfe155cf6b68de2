"""The members of a tar archive, of every type that GNU tar and Python know."""

from __future__ import annotations

import tarfile
from typing import BinaryIO

from preprocessing.sources.member_tree import Entry, EntryKind

ERRORS = "surrogateescape"  # bytes of names that are not UTF-8 survive
GNU_FOLDER, GNU_CONTINUATION, GNU_VOLUME_LABEL = b"D", b"M", b"V"
MAX_SPARSE_BYTES = 1 << 36  # a few bytes can declare any number of zeros
SEARCHED_BYTES = 1 << 20  # after the end of an archive


def list_tar(stream: BinaryIO) -> tuple[list[Entry], str]:
    """Return the entries of a tar archive, as far as it can be read, and why listing broke off, or "".

    Raises:
        tarfile.ReadError: The content does not begin as a tar.
    """
    entries: list[Entry] = []
    with tarfile.open(fileobj=stream, mode="r:", encoding="utf-8", errors=ERRORS) as archive:
        try:
            for info in archive:  # one by one, so that the members before a corrupt one are kept
                if info.type != GNU_VOLUME_LABEL:
                    entries.append(_to_entry(info))
        except (tarfile.TarError, EOFError, OSError, ValueError) as error:
            return entries, str(error) or type(error).__name__
    return entries, _check_end(stream)


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
