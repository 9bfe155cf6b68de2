"""Local files that appear whole or not at all. Standard library only."""

from __future__ import annotations

import os
import threading
from pathlib import Path


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replace a local file: a reader, or a process that is killed, sees the old content or the new.

    Args:
        path: The file, in a folder that exists.
        content: What it shall hold; text is written as UTF-8.

    Raises:
        OSError: The folder is missing, read-only or full; the old file stays as it was.
    """
    data = content.encode() if isinstance(content, str) else content
    # In the same folder, since a rename is atomic within one file system only; hidden, and unique per writer.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
