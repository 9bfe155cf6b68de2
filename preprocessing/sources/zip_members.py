"""The members of a zip archive, with the names that its maker meant."""

from __future__ import annotations

import lzma
import stat
import struct
import zipfile
import zlib
from typing import BinaryIO, cast

from preprocessing.sources.member_tree import Entry, EntryKind

UTF8_FLAG, ENCRYPTED_FLAG = 0x800, 0x1
MADE_ON_UNIX = (3, 19)  # Unix and macOS
UNICODE_PATH_FIELD = 0x7075  # of Info-ZIP
READABLE_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
MEMBER_MAGIC = b"PK\x03\x04"
MAX_LINK_BYTES = 4_096  # of a link's target
# Of `zipfile`: RuntimeError, and NotImplementedError below it, for what a newer or an encrypting program wrote.
BROKEN_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    struct.error,
    ValueError,
    RuntimeError,
)


def list_zip(stream: BinaryIO) -> tuple[list[Entry], str]:
    """Return the entries of a zip archive, and why listing broke off, or ""."""
    try:
        with zipfile.ZipFile(stream) as archive:
            entries = [_to_entry(archive, info) for info in archive.infolist()]
            return entries, _check_beginning(stream, entries)
    except BROKEN_ZIP_ERRORS as error:
        return [], str(error)


def _check_beginning(stream: BinaryIO, entries: list[Entry]) -> str:
    """Say whether another archive comes before the members, which the directory at the end does not list."""
    stream.seek(0)
    is_listed = any(entry.offset == 0 for entry in entries)
    starts_with_member = stream.read(len(MEMBER_MAGIC)) == MEMBER_MAGIC
    return "another zip archive precedes and is not read" if starts_with_member and not is_listed else ""


def open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> BinaryIO:
    """Return a seekable stream over a member.

    Raises:
        zipfile.BadZipFile: It cannot be read.
    """
    try:
        return cast(BinaryIO, archive.open(info))
    except BROKEN_ZIP_ERRORS as error:
        raise zipfile.BadZipFile(str(error)) from error


def decode_name(info: zipfile.ZipInfo) -> str:
    """Return the name of a member, with `/` between folders.

    Without the UTF-8 flag the standard means code page 437, but Unix, macOS and Info-ZIP write UTF-8. Bytes of
    Unix that are not UTF-8 are kept as surrogates, as in the names of a folder.
    """
    name = info.orig_filename.partition("\0")[0]
    if not info.flag_bits & UTF8_FLAG:
        raw = name.encode("cp437")
        name = _unicode_path(info.extra, raw) or _decode_bytes(raw, info.create_system in MADE_ON_UNIX)
    # Some Windows programs write their own separator; Info-ZIP's unzip applies the same rule.
    return name if "/" in name else name.replace("\\", "/")


def _unicode_path(extra: bytes, raw_name: bytes) -> str:
    """Return the name in an Info-ZIP Unicode Path field that belongs to `raw_name`, or ""."""
    while len(extra) >= 4:
        field, size = struct.unpack("<HH", extra[:4])
        content, extra = extra[4 : 4 + size], extra[4 + size :]
        if field == UNICODE_PATH_FIELD and len(content) > 5 and content[0] == 1:
            (checksum,) = struct.unpack("<I", content[1:5])
            if checksum == zlib.crc32(raw_name):
                return content[5:].decode("utf-8", "replace")
    return ""


def _decode_bytes(raw: bytes, is_unix: bool) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("utf-8", "surrogateescape") if is_unix else raw.decode("cp437")


def _to_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Entry:
    name = decode_name(info)
    entry = Entry(name, EntryKind.FILE, info.header_offset, info.file_size, f"{info.CRC:08x}")
    file_type = stat.S_IFMT(info.external_attr >> 16) if info.create_system in MADE_ON_UNIX else 0
    if name.endswith("/"):
        return entry._replace(kind=EntryKind.FOLDER)
    if info.flag_bits & ENCRYPTED_FLAG:
        return entry._replace(problem="encrypted", detail="the archive needs a password")
    if info.compress_type not in READABLE_METHODS:
        detail = f"zip with compression method {info.compress_type}"
        return entry._replace(problem="unsupported_archive", detail=detail)
    if file_type == stat.S_IFLNK:
        try:
            with open_member(archive, info) as member:
                target = member.read(MAX_LINK_BYTES).decode("utf-8", "surrogateescape")
        except BROKEN_ZIP_ERRORS as error:
            return entry._replace(problem="corrupt_archive", detail=str(error))
        return entry._replace(kind=EntryKind.SYMLINK, target=target)
    if file_type not in (0, stat.S_IFREG):
        return entry._replace(problem="not_a_file", detail="a device, pipe or socket")
    return entry
