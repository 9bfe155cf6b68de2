"""Recognize archives: by their content, since names mislead; names only tell which files are worth a look."""

from __future__ import annotations

import tarfile
import zipfile
from enum import Enum
from typing import BinaryIO

HEAD_BYTES = 512  # of a file, enough to recognize it


class ArchiveKind(Enum):
    """An archive that can be listed and read; the value is for messages."""

    ZIP = "zip"
    TAR = "tar"
    TAR_GZ = "gzip-compressed tar"
    TAR_BZ2 = "bzip2-compressed tar"
    TAR_XZ = "xz-compressed tar"
    TAR_ZST = "Zstandard-compressed tar"


SUPPORTED_ENDINGS = (
    *(".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz"),
    *(".tar.zst", ".tzst"),
)
# Files with these endings hold other files, or one that is compressed.
OTHER_ENDINGS = (
    *(".rar", ".7z", ".gz", ".bz2", ".xz", ".zst", ".lz", ".lz4", ".lzma", ".z", ".iso", ".dmg", ".cab"),
    *(".ace", ".arj", ".lzh", ".lha", ".sit", ".sitx", ".cpio", ".ar"),
)
MAGIC = {
    b"PK\x03\x04": ArchiveKind.ZIP,
    b"PK\x05\x06": ArchiveKind.ZIP,
    b"\x1f\x8b": ArchiveKind.TAR_GZ,
    b"BZh": ArchiveKind.TAR_BZ2,
    b"\xfd7zXZ\x00": ArchiveKind.TAR_XZ,
    b"\x28\xb5\x2f\xfd": ArchiveKind.TAR_ZST,
}
# (offset, magic number) -> what the file is, with its article.
OTHER_MAGIC = {
    (0, b"Rar!\x1a\x07"): "a RAR archive",
    (0, b"7z\xbc\xaf\x27\x1c"): "a 7z archive",
    (0, b"LZIP"): "an lzip archive",
    (0, b"\x04\x22\x4d\x18"): "an LZ4 archive",
    (0, b"\x1f\x9d"): "a compress (.Z) archive",
    (0, b"PK\x07\x08"): "one part of a split zip archive",
    (0, b"MSCF"): "a cabinet archive",
    (0, b"StuffIt"): "a StuffIt archive",
    (0, b"SIT!"): "a StuffIt archive",
    (2, b"-lh"): "an LHA archive",
    (7, b"**ACE**"): "an ACE archive",
    (0, b"070701"): "a cpio archive",
    (0, b"!<arch>\n"): "an ar archive",
}
HTML_HEADS = (b"<!doctype html", b"<html", b"<head", b"<?xml")


def has_archive_name(name: str) -> bool:
    """Return whether a name ends like that of an archive or of a compressed file."""
    return name.lower().endswith((*SUPPORTED_ENDINGS, *OTHER_ENDINGS))


def recognize_archive(stream: BinaryIO, is_named_archive: bool = False) -> ArchiveKind | None:
    """Return the kind of archive that `stream`, a whole file, is by its content; its position is undefined.

    A zip is recognized by its end, behind whatever there is, if it begins with a program or is named like an archive.
    """
    stream.seek(0)
    head = stream.read(HEAD_BYTES)
    for magic, kind in MAGIC.items():
        if head.startswith(magic):
            return kind
    if _is_tar(head):
        return ArchiveKind.TAR
    if is_other_archive(head) or not (is_named_archive or head.startswith(b"MZ")):
        return None
    return ArchiveKind.ZIP if zipfile.is_zipfile(stream) else None


def describe_content(head: bytes) -> str:
    """Say in a few words what a file that begins with `head` is, if it is no archive that can be read."""
    if not head:
        return "an empty file"
    for (offset, magic), description in OTHER_MAGIC.items():
        if head[offset:].startswith(magic):
            return description
    if head.lstrip().lower().startswith(HTML_HEADS):
        return "a web page"
    return "no archive"


def is_other_archive(head: bytes) -> bool:
    """Return whether a file that begins with `head` is an archive of a kind that cannot be read."""
    return any(head[offset:].startswith(magic) for offset, magic in OTHER_MAGIC)


def _is_tar(head: bytes) -> bool:
    """Return whether `head` is a tar header, by its checksum: the oldest ones have no magic number."""
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError):
        return False
    return True
