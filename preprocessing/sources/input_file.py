"""A file that was found."""

from __future__ import annotations

from typing import NamedTuple


class InputFile(NamedTuple):
    """A file that may be a recording: a file of its own, or a member of an archive."""

    uri: str
    relative_path: str  # below the input folder or in the archive; its folders name the genre
    size: int
    stamp: str  # changes when the content does
    archive_uri: str = ""
    offset: int = 0  # of a member: where its header begins
