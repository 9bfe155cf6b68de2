"""Which files and folders are hidden, the same for folders, archives and object storage."""

from __future__ import annotations

import re

MACINTOSH_FOLDER = "__MACOSX"
# One dot: "...And Justice for All" and "..." are names that people give.
HIDDEN_NAME = re.compile(r"\.(?!\.)", re.DOTALL)


def hidden_part(name: str) -> str:
    """Return why a file or folder of this name, without its path, is not read, or ""."""
    if name == MACINTOSH_FOLDER:
        return "metadata that macOS puts into archives"
    return "its name begins with a dot" if HIDDEN_NAME.match(name) else ""


def first_hidden_part(relative_path: str) -> tuple[str, str] | None:
    """Return the path of the first part of a path that is hidden, and why, or None."""
    parts = relative_path.split("/")
    for count, part in enumerate(parts, 1):
        if why := hidden_part(part):
            return "/".join(parts[:count]), why
    return None
