"""Deletion of local folders that are empty. Standard library only."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def delete_empty_folders(uri: str) -> None:
    """Delete a local folder and those below it, as far as they are empty; object storage has no folders."""
    if "://" in uri:
        return
    for folder, _, _ in os.walk(uri, topdown=False):
        with contextlib.suppress(OSError):  # it has files
            Path(folder).rmdir()
