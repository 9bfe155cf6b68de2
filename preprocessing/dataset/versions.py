"""Versions of a dataset side by side: `<root>/<digest>/`, and `<root>/LATEST`, which names one of them."""

from __future__ import annotations

from google.api_core.exceptions import PreconditionFailed

from preprocessing.dataset.manifest import LATEST_NAME, named_version
from preprocessing.errors import STORAGE_FAILED, CommandError
from preprocessing.storage import beam_files
from preprocessing.storage.gcs import Object, failures


def latest(root: str) -> str | None:
    """The folder that `LATEST` names, or None where there is none."""
    uri = beam_files.join(root, LATEST_NAME)
    version = named_version(beam_files.read(uri)) if beam_files.exists(uri) else None
    return beam_files.join(root, version) if version else None


def move_latest(root: str, digest: str) -> None:
    """Lets `LATEST` name a version; a reader sees the one before or this one, never anything else.

    Raises:
        CommandError: Another job moved it at the same time (exit code 4).
    """
    uri = beam_files.join(root, LATEST_NAME)
    content = f"{digest}\n".encode()
    if not uri.startswith("gs://"):
        beam_files.write(f"{uri}.tmp", content)
        beam_files.move(f"{uri}.tmp", uri)
        return
    with failures(uri):
        pointer = Object(uri)
        _, generation = pointer.read() or (b"", 0)
        try:
            pointer.write(content, generation)
        except PreconditionFailed as error:
            there, _ = pointer.read() or (b"", 0)
            if there != content:  # else an answer got lost, and this is what was written
                message = f"{uri} was moved by another job: run this one again"
                raise CommandError(message, STORAGE_FAILED) from error
