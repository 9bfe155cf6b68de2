"""Licenses and attributions of recordings, as a `metadata.csv` or a LICENSE file beside the audio states them."""

from __future__ import annotations

import contextlib
import csv
import re
import tempfile
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

from preprocessing.sources.archives import CORRUPT_ARCHIVE_ERRORS
from preprocessing.sources.discovery import Discovery
from preprocessing.sources.input_file import InputFile
from preprocessing.sources.lists import MAX_LIST_BYTES, read_lines
from preprocessing.sources.opener import Opener, stage_archives

TABLE_NAME = "metadata.csv"
LICENSE_NAME = re.compile(r"(licen[cs]e|copying)(\.txt|\.md)?", re.IGNORECASE)
SPDX_TAG = re.compile(r"SPDX-License-Identifier:\s*(.+)")
FILE_COLUMNS = ("file_name", "filename", "file", "path")  # the first is that of Hugging Face's AudioFolder
LICENSE_COLUMNS = ("license", "licence")
ATTRIBUTION_COLUMNS = ("attribution", "artist", "creator")
DELIMITERS = ",;\t"
MAX_CHARACTERS = 500


class Rights(NamedTuple):
    """What is stated about a recording; empty where nothing is."""

    license: str = ""
    attribution: str = ""


class RightsIndex:
    """The statements of an input, by the folders that they are in."""

    def __init__(self) -> None:
        self._licenses: dict[
            str, str
        ] = {}  # folder, "" or with a slash at its end -> the license of its files
        self._rows: dict[str, Rights] = {}  # path of a file, or its name in the folder of a table

    def add(self, path: str, lines: list[str]) -> None:
        """Add a `metadata.csv` or a LICENSE file, given its path below the input and its lines."""
        folder, _, name = path.rpartition("/")
        folder += "/" if folder else ""
        if name.lower() == TABLE_NAME:
            self._rows |= {folder + file: rights for file, rights in _read_table(lines)}
        else:
            self._licenses[folder] = _name_of_license(lines)

    def find(self, path: str) -> Rights:
        """Return what is stated about the file of a path: by its row, or else by the nearest LICENSE above it."""
        if not (self._rows or self._licenses):
            return Rights()
        row = self._rows.get(unicodedata.normalize("NFC", path), Rights())
        if row.license:
            return row
        folders = [path[: end + 1] for end in range(len(path) - 1, -1, -1) if path[end] == "/"]
        return row._replace(
            license=next((self._licenses[name] for name in (*folders, "") if name in self._licenses), "")
        )


def read_rights(discovery: Discovery) -> RightsIndex:
    """Read the tables and LICENSE files among the files of an input, in archives or not.

    One that cannot be read states nothing; it is in the quarantine like all that is no audio.
    """
    index = RightsIndex()
    files = [file for file in discovery.files if _states_rights(file)]
    if not files:
        return index
    files.sort(
        key=lambda file: file.relative_path.count("/")
    )  # a near table replaces what one further up says
    archives = {file.archive_uri for file in files}
    with tempfile.TemporaryDirectory() as folder:
        compressed = {
            uri: seek_index for uri, seek_index in discovery.compressed_archives.items() if uri in archives
        }
        stage_archives(compressed, folder)
        opener = Opener(folder)
        for file in files:
            with contextlib.suppress(OSError, *CORRUPT_ARCHIVE_ERRORS):
                with opener.open(file.uri, file.archive_uri, file.offset) as stream:
                    lines = read_lines(stream.read())
                if lines:
                    index.add(unicodedata.normalize("NFC", file.relative_path), lines)
        opener.close()
    return index


def _states_rights(file: InputFile) -> bool:
    name = file.relative_path.rpartition("/")[2]
    is_wanted = name.lower() == TABLE_NAME or LICENSE_NAME.fullmatch(name) is not None
    return is_wanted and file.size <= MAX_LIST_BYTES


def _read_table(lines: list[str]) -> Iterable[tuple[str, Rights]]:
    """Yield the file and the rights of each row of a table that has a column for files."""
    delimiter = max(DELIMITERS, key=lines[0].count)
    reader = csv.reader((f"{line}\n" for line in lines), delimiter=delimiter)
    with contextlib.suppress(csv.Error):
        header = [name.strip().lower() for name in next(reader, [])]
        for values in reader:
            row = dict(zip(header, values, strict=False))
            file = unicodedata.normalize("NFC", _first(row, FILE_COLUMNS).replace("\\", "/"))
            if file:
                rights = Rights(_first(row, LICENSE_COLUMNS), _first(row, ATTRIBUTION_COLUMNS))
                yield file.removeprefix("./"), rights


def _first(row: dict[str, str], columns: Iterable[str]) -> str:
    """Return the first value that is not empty, on one line."""
    return next((text for name in columns if (text := _on_one_line(row.get(name, "")))), "")


def _name_of_license(lines: list[str]) -> str:
    """Return the SPDX identifier in a license's text, or else its first line."""
    for line in lines:
        if tag := SPDX_TAG.search(line):
            return _on_one_line(tag[1])
    return next((text for line in lines if (text := _on_one_line(line.strip(" \t#*=-")))), "")


def _on_one_line(text: str) -> str:
    return " ".join(text.encode("utf-8", "replace").decode().split())[:MAX_CHARACTERS]
