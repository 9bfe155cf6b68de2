"""The list of `--exclude`: recordings that are left out on purpose."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import NamedTuple

from preprocessing.dataset.quarantine import Rejected
from preprocessing.errors import DataError, UsageError
from preprocessing.sources.input_file import InputFile
from preprocessing.sources.lists import local_path, read_lines
from preprocessing.storage import beam_files

SHA256 = re.compile(r"[0-9a-f]{64}")


class Exclusions(NamedTuple):
    """What to leave out: files by their names, and by the SHA-256 of their content."""

    names: frozenset[str]  # URIs, paths below the input, folders, and recording ids
    sha256: frozenset[str]

    def match(self, file: InputFile, recording_id: str) -> str:
        """Return the name by which a file is left out; empty if it is not.

        Args:
            file: The file.
            recording_id: Its id, or any other name that also stands for it.
        """
        folders = [*_folders(file.uri), *_folders(file.relative_path)]
        candidates = (file.uri, file.relative_path, recording_id, *folders)
        return next((name for name in candidates if unicodedata.normalize("NFC", name) in self.names), "")


def read_exclusions(uri: str) -> tuple[str, ...]:
    """Read the entries of a list, sorted, each once.

    A line is a URI, a path or folder as below the input, a recording id or a SHA-256, or a line of `quarantine.jsonl`
    or `records.jsonl`, of which the URI counts. A line that begins with # is a comment.

    Raises:
        CommandError: The file does not exist (exit code 3), or is not text (2).
    """
    if not beam_files.exists(local_path(uri)):
        raise DataError(f"`exclude` {uri} does not exist: check the path")
    lines = read_lines(beam_files.read(local_path(uri)))
    if lines is None:
        raise UsageError(f"`exclude` {uri} is not a text file: write one recording or folder per line")
    entries = {_entry(line.strip()) for line in lines if line.strip() and not line.startswith("#")}
    return tuple(sorted(entries))


def parse_exclusions(entries: tuple[str, ...]) -> Exclusions:
    """Sort entries into names and digests."""
    digests = frozenset(entry.lower() for entry in entries if SHA256.fullmatch(entry.lower()))
    names = frozenset(
        unicodedata.normalize("NFC", entry) for entry in entries if entry.lower() not in digests
    )
    return Exclusions(names, digests)


def excluded(file: InputFile, name: str) -> Rejected:
    """Return the line of the quarantine for a file that is left out by a name."""
    return Rejected(file.uri, "excluded", f"--exclude lists {name}")


def _entry(line: str) -> str:
    """Return what a line names."""
    if line.startswith("{"):
        try:
            fields = json.loads(line)
        except ValueError:
            return line
        line = str(fields.get("uri") or fields.get("source_uri") or line)
    entry = local_path(line)
    return entry.rstrip("/") or entry


def _folders(path: str) -> list[str]:
    """Return the folders above a file."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]
