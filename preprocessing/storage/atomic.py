"""Atomic writes of local files. Standard library only."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

_TEMPORARY_NAME = re.compile(r"\..+\.\d+\.\d+\.tmp")


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replace a local file: a reader sees the old content or the new, also if the writer is killed.

    Args:
        path: The file, in a folder that exists.
        content: The new content; text is written as UTF-8.

    Raises:
        OSError: The folder is missing, read-only or full; the old file is unchanged.
    """
    data = content.encode() if isinstance(content, str) else content
    # In the same folder, since a rename is atomic only within a file system; hidden, and unique per writer.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def is_temporary(path: Path) -> bool:
    """Tell whether a file is the unfinished content of an atomic write, which a killed writer leaves."""
    return _TEMPORARY_NAME.fullmatch(path.name) is not None
