"""Find the input files: below a folder, by a pattern, from a list, or in archives; local or `gs://`.

Each path found becomes an `InputFile`, or a `Rejected` with the reason; none is skipped silently.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from preprocessing.dataset.quarantine import Rejected
from preprocessing.errors import DataError, UsageError
from preprocessing.sources import archives
from preprocessing.sources.archive_kinds import (
    HEAD_BYTES,
    ArchiveKind,
    describe_content,
    has_archive_name,
    is_other_archive,
    recognize_archive,
)
from preprocessing.sources.input_file import InputFile
from preprocessing.sources.lists import MAX_LIST_BYTES, local_path, read_lines, unsupported_scheme
from preprocessing.sources.locations import find_file, find_listed, is_file, list_location, unreadable
from preprocessing.sources.progress import show_progress
from preprocessing.storage import beam_files

ARCHIVE_NAMES = "zip, tar, or tar compressed with gzip, bzip2, xz or Zstandard"


class Discovery(NamedTuple):
    """The result of a search."""

    files: list[InputFile]
    rejected: list[Rejected]
    compressed_archives: dict[str, bytes]  # URI -> seek index, empty where there can be none


def find_inputs(location: str) -> Discovery:
    """Find the files of a folder, pattern, list or archive; archives in a folder are searched, too.

    Raises:
        CommandError: The input is on a storage system that is not supported (exit code 2), or it is a single
            file, but neither an archive nor a list (3).
    """
    if scheme := unsupported_scheme(location):
        raise UsageError(
            f"`input` {location}: {scheme} is not supported: copy the files to a folder or to gs://"
        )
    discovery = Discovery([], [], {})
    single_file = find_file(location) if is_file(location) else None
    if single_file is None:
        items = list_location(location)
    elif kind := _recognize(single_file):
        _add_members(discovery, single_file, kind, folder="")
        items = iter(())
    else:
        items = _read_list(single_file)
    for item in items:
        if isinstance(item, Rejected):
            discovery.rejected.append(item)
        elif has_archive_name(item.uri):
            try:
                _add_archive(discovery, item)
            except OSError as error:  # as of any other file, the next run tries again
                discovery.rejected.append(unreadable(item.uri, error))
        else:
            discovery.files.append(item)
    discovery.files.sort(key=lambda file: file.uri)
    return discovery


def _recognize(file: InputFile, is_named_archive: bool = False) -> ArchiveKind | None:
    with beam_files.open_stream(file.uri) as stream:
        return recognize_archive(stream, is_named_archive)


def _read_list(list_file: InputFile) -> Iterator[InputFile | Rejected]:
    """Yield the files named in a text file, each once: URIs, or paths relative to the list's folder."""
    lines = read_lines(beam_files.read(list_file.uri)) if list_file.size <= MAX_LIST_BYTES else None
    if lines is None or has_archive_name(list_file.uri):
        with beam_files.open_stream(list_file.uri) as stream:
            content = describe_content(stream.read(HEAD_BYTES))
        what = "" if content == "no archive" else f" but {content},"
        raise DataError(
            f"`input` {list_file.uri} is a single file,{what} and neither an archive ({ARCHIVE_NAMES}) nor a "
            "list of files: give the folder that contains it",
        )
    folder = list_file.uri.rpartition("/")[0]
    seen = set()
    for line in lines:
        for item in find_listed(local_path(line.strip()), line, folder):
            if item.uri not in seen:
                seen.add(item.uri)
                yield item


def _add_archive(discovery: Discovery, file: InputFile) -> None:
    """Add the members of a file that is named like an archive, or the reason why it has none."""
    with beam_files.open_stream(file.uri) as stream:
        head = stream.read(HEAD_BYTES)
    if kind := _recognize(file, is_named_archive=True):
        _add_members(discovery, file, kind, folder=file.relative_path.rpartition("/")[0])
    elif is_other_archive(head):
        detail = f"{describe_content(head)}: unpack it, or make it a {ARCHIVE_NAMES}"
        discovery.rejected.append(Rejected(file.uri, "unsupported_archive", detail))
    else:
        detail = f"named like an archive, but {describe_content(head)}"
        discovery.rejected.append(Rejected(file.uri, "not_archive", detail))


def _add_members(discovery: Discovery, archive: InputFile, kind: ArchiveKind, folder: str) -> None:
    """Add the members of an archive as if it was unpacked in `folder`."""
    with beam_files.open_stream(archive.uri) as stream:
        listing = archives.list_members(show_progress(stream, f"listing {archive.uri}"), kind)
    if not listing.is_archive:
        detail = f"{kind.value.partition(' ')[0]} data, but not of an archive: decompress it"
        discovery.rejected.append(Rejected(archive.uri, "unsupported_archive", detail))
        return
    if listing.members and kind not in (ArchiveKind.ZIP, ArchiveKind.TAR):
        discovery.compressed_archives[archive.uri] = listing.seek_index
    if listing.error:
        discovery.rejected.append(Rejected(archive.uri, "corrupt_archive", listing.error))
    for member in listing.members:
        uri = f"{archive.uri}{archives.MEMBER_SEPARATOR}{member.name}"
        if member.problem:
            discovery.rejected.append(Rejected(uri, member.problem, member.detail))
        elif has_archive_name(member.name):
            detail = "an archive or a compressed file inside of an archive: unpack it"
            discovery.rejected.append(Rejected(uri, "unsupported_archive", detail))
        else:
            path = beam_files.join(folder, member.name) if folder else member.name
            stamp = f"{archive.stamp} {member.stamp}"
            discovery.files.append(InputFile(uri, path, member.size, stamp, archive.uri, member.offset))
