"""Where audio comes from: a folder, a pattern, a list, or archives, local or `gs://`.

Everything that is found becomes a `Source`, or a `Rejected` with its reason; nothing is left out in silence.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from apache_beam.io.filesystem import FileMetadata, FileSystem
from apache_beam.io.filesystems import FileSystems

from preprocessing.dataset.quarantine import Rejected
from preprocessing.dataset.splits import is_audio_name
from preprocessing.errors import BAD_DATA, CommandError
from preprocessing.sources import archives
from preprocessing.storage import beam_files

MEMBER_SIGN = "!/"  # between an archive and what is in it, as Java's jar: URIs have it
GLOB = re.compile(r"[*?[]")
HEAD_BYTES = 512
LARGEST_LIST_BYTES = 256 << 20


class Source(NamedTuple):
    """A file that may hold a recording: on its own, or `offset` bytes into an archive."""

    uri: str
    name: str  # its path as far as it tells the class: below the input folder, or in the archive
    size: int
    stamp: str  # changes when the content does
    archive: str = ""  # the archive's uri
    offset: int = 0


class Found(NamedTuple):
    """All of an input; `indexes` are what its compressed archives need to be jumped into, by their uris."""

    sources: list[Source]
    rejected: list[Rejected]
    indexes: dict[str, bytes]


def find(given: str) -> Found:
    """Everything below a folder, that a pattern matches, that a list names, or in an archive.

    Raises:
        CommandError: One file that is neither an archive nor a list (exit code 3).
    """
    found = Found([], [], {})
    single = _single(given) if _is_file(given) else None
    kind = _kind_by_content(single) if single else ""
    for one in [single] if kind else _of_list(single) if single else _below(given):
        if isinstance(one, Rejected):
            found.rejected.append(one)
        elif its_kind := kind or archives.kind_of(one.uri):
            _add_members(found, one, its_kind)
        else:
            found.sources.append(one)
    found.sources.sort(key=lambda source: source.uri)
    return found


def _below(given: str) -> Iterator[Source | Rejected]:
    """The files of a folder or pattern, archives unopened."""
    if "://" not in given and Path(given).is_dir():
        yield from _walk(Path(given), given.rstrip("/") + "/")
    elif "://" not in given and GLOB.search(given):
        yield from _matching(given)
    else:
        root = "" if GLOB.search(given) else given.rstrip("/") + "/"
        for file in beam_files.find(given):
            if not file.path.endswith("/"):  # on object storage, a folder's placeholder
                yield Source(file.path, file.path.removeprefix(root), file.size_in_bytes, _stamp(file))


def _stamp(file: FileMetadata) -> str:
    return str(file.last_updated_in_seconds)


def _single(uri: str) -> Source | None:
    found = FileSystems.match([beam_files.literal(uri)])[0].metadata_list
    return next((Source(uri, uri, one.size_in_bytes, _stamp(one)) for one in found if one.path == uri), None)


def _is_file(given: str) -> bool:
    return Path(given).is_file() if "://" not in given else FileSystems.exists(given)


def _kind_by_content(one: Source) -> str:
    with beam_files.open_stream(one.uri) as stream:
        return archives.kind_of(one.uri, stream.read(HEAD_BYTES))


def _of_list(one: Source) -> Iterator[Source | Rejected]:
    """The files that a text file names, each on a line, as a URI or a path from where the list lies."""
    data = beam_files.read(one.uri) if one.size <= LARGEST_LIST_BYTES else b"\0"
    try:
        text = "" if b"\0" in data else data.decode()
    except UnicodeDecodeError:
        text = ""
    if not text:
        raise CommandError(
            f"--input {one.uri} is one file, and neither an archive (zip, tar, tar.gz) nor a list of files: "
            "give the folder that holds it",
            BAD_DATA,
        )
    folder = one.uri.rpartition("/")[0]
    for line in text.splitlines():
        uri = line.strip()
        if uri and not uri.startswith("#"):
            yield from _listed(uri if "://" in uri or uri.startswith("/") else beam_files.join(folder, uri))


def _listed(uri: str) -> Iterator[Source | Rejected]:
    if "://" not in uri and (refused := _refused(Path(uri))):
        yield refused
    elif one := _single(uri):
        yield one
    else:
        yield Rejected(uri, "missing", "it is in the list, but no such file is there")


def _matching(pattern: str) -> Iterator[Source | Rejected]:
    """Local files that a pattern matches, or that lie in a folder that it matches."""
    matches = re.compile(FileSystem.translate_pattern(pattern.rstrip("/")))
    root = pattern[: GLOB.search(pattern).start()].rpartition("/")[0]
    start = Path(root or ("/" if pattern.startswith("/") else "."))
    for one in _walk(start, ""):
        path = one.uri
        while path and not matches.fullmatch(path):
            path = path.rpartition("/")[0]
        if path:
            yield one


def _walk(folder: Path, root: str, above: tuple[tuple[int, int], ...] = ()) -> Iterator[Source | Rejected]:
    """A folder's files at any depth, links followed; hidden folders are left alone."""
    status = folder.stat()
    above = (*above, (status.st_dev, status.st_ino))
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except PermissionError as error:
        yield Rejected(str(folder), "no_permission", error.strerror)
        return
    for entry in entries:
        path = Path(entry.path)
        if refused := _refused(path, above):
            yield refused
        elif not path.is_dir():
            status = path.stat()
            name = str(path).removeprefix(root)
            yield Source(str(path), name, status.st_size, str(status.st_mtime_ns))
        elif not entry.name.startswith("."):
            yield from _walk(path, root, above)


def _refused(path: Path, above: tuple[tuple[int, int], ...] = ()) -> Rejected | None:
    """Why a path cannot be read as a file or folder, if so; `above` are the folders that it lies in."""
    try:
        status = path.stat()
    except OSError as error:
        if isinstance(error, PermissionError):
            return Rejected(str(path), "no_permission", error.strerror)
        if path.is_symlink():
            return Rejected(str(path), "broken_link", f"a link to {path.readlink()}, which is not there")
        return Rejected(str(path), "missing", error.strerror or "it is not there")
    if stat.S_ISDIR(status.st_mode):
        if (status.st_dev, status.st_ino) in above:
            return Rejected(str(path), "looping_link", "a link to a folder that it lies in")
        if is_audio_name(path.name):
            return Rejected(str(path), "is_folder", "a folder named like an audio file")
    elif not stat.S_ISREG(status.st_mode):
        return Rejected(str(path), "not_a_file", "a device, pipe or socket")
    return None


def _add_members(found: Found, archive: Source, kind: str) -> None:
    with beam_files.open_stream(archive.uri) as stream:
        contents = archives.contents(stream, kind)
    if contents.index:
        found.indexes[archive.uri] = contents.index
    if contents.damage:
        found.rejected.append(Rejected(archive.uri, "damaged_archive", contents.damage))
    for member in contents.members:
        uri = f"{archive.uri}{MEMBER_SIGN}{member.name}"
        if member.problem:
            detail = {"unsafe_path": "its name climbs out of the archive"}.get(
                member.problem, "no plain file"
            )
            found.rejected.append(Rejected(uri, member.problem, detail))
        else:
            stamp = f"{archive.stamp} {member.stamp}"
            found.sources.append(Source(uri, member.name, member.size, stamp, archive.uri, member.offset))


def stage_indexes(indexes: dict[str, bytes], folder: str) -> None:
    """Writes the indexes of compressed archives where every worker can read them."""
    for archive, index in indexes.items():
        beam_files.write(_index_file(folder, archive), index)


def _index_file(folder: str, archive: str) -> str:
    digest = hashlib.sha256(archive.encode("utf-8", "surrogateescape")).hexdigest()
    return beam_files.join(folder, f"{digest[:16]}.index")


class Opener:
    """Opens sources, keeping the archive of the last one open: neighbours are mostly of the same."""

    def __init__(self, indexes: str) -> None:
        """`indexes` is the folder with the indexes of compressed archives, as `stage_indexes` wrote them."""
        self._indexes = indexes
        self._uri = ""
        self._stream: BinaryIO | None = None
        self._archive: archives.Archive | None = None

    def open(self, uri: str, archive: str, offset: int, size: int) -> BinaryIO:
        """A seekable stream over one source.

        Raises:
            OSError: It cannot be read.
        """
        if not archive:
            return beam_files.open_stream(uri)
        if archive != self._uri:
            self.close()
            self._stream = beam_files.open_stream(archive)
            kind = archives.kind_of(archive, self._stream.read(HEAD_BYTES))
            self._stream.seek(0)
            known = beam_files.read(_index_file(self._indexes, archive)) if kind == ".tar.gz" else b""
            self._archive, self._uri = archives.Archive(self._stream, kind, known), archive
        return self._archive.open(uri.partition(archive + MEMBER_SIGN)[2], offset, size)

    def close(self) -> None:
        """Closes the archive that is open, if one is."""
        if self._archive:
            self._archive.close()
            self._stream.close()
        self._archive, self._stream, self._uri = None, None, ""
