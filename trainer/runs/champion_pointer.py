"""`champion.json` as an alias: a folder of models stands for the candidate that the file names.

It is replaced by compare-and-swap, so that of two concurrent writers one fails: by generation match on `gs://`,
and under a file lock locally.
"""

from __future__ import annotations

import fcntl
import json
import re
from pathlib import Path
from typing import Any

from google.api_core.exceptions import PreconditionFailed

from preprocessing.dataset.run_files import CHAMPION_NAME
from preprocessing.errors import DataError, StorageError
from preprocessing.storage.atomic import write_atomically
from preprocessing.storage.gcs import GcsObject, storage_errors
from trainer.runs.storage import StorageFolder, is_remote

CANDIDATES = "candidates"
CANDIDATE_NAME = re.compile(r"[0-9a-f]{12}-[0-9a-f]{12}")  # digests of the dataset and of all inputs
_LOCK_NAME = ".champion.lock"

Generation = int | bytes  # identifies what was read: an object's generation, or a local file's content


class MovedError(StorageError):
    """Another process has changed `champion.json` since it was read (exit code 4)."""

    def __init__(self, models: str) -> None:
        uri = join(models, CHAMPION_NAME)
        super().__init__(f"{uri} was changed by another process: run this command again")


def join(folder: str, *names: str) -> str:
    """Join a folder, local or `gs://`, with names below it."""
    return "/".join((folder.rstrip("/"), *names))


def candidate_uri(models: str, name: str) -> str:
    """Return the run directory of a candidate."""
    return join(models, CANDIDATES, name)


def resolve(run: str) -> str:
    """Return the champion's run if `run` is a folder of models, otherwise `run` itself.

    Raises:
        CommandError: `champion.json` is corrupt (3).
    """
    content = StorageFolder(run).read(CHAMPION_NAME)
    return candidate_uri(run, parse(content, run)["candidate"]) if content is not None else run


def parse(content: bytes, models: str) -> dict[str, Any]:
    """Parse the content of `champion.json`.

    Raises:
        CommandError: It is corrupt (3).
    """
    try:
        fields: dict[str, Any] = json.loads(content)
        is_valid = CANDIDATE_NAME.fullmatch(fields["candidate"])
    except (ValueError, TypeError, KeyError) as error:
        raise corrupt_error(models) from error
    if not is_valid:
        raise corrupt_error(models)
    return fields


def corrupt_error(models: str) -> DataError:
    """Return the error for a `champion.json` that cannot be read (exit code 3)."""
    uri = join(models, CHAMPION_NAME)
    return DataError(f"{uri} is corrupt: restore it, or delete it to start without a champion")


def read(models: str) -> tuple[bytes | None, Generation]:
    """Return the content of `champion.json`, None if there is none, and its generation for `move`."""
    if not is_remote(models):
        path = Path(models) / CHAMPION_NAME
        content = path.read_bytes() if path.is_file() else None
        return content, content or b""
    uri = join(models, CHAMPION_NAME)
    with storage_errors(uri):
        return GcsObject(uri).read() or (None, 0)


def move(models: str, content: bytes, generation: Generation) -> None:
    """Replace the content of `champion.json`.

    Args:
        models: The folder of models.
        content: The new content.
        generation: As returned by the `read` that the new content is based on.

    Raises:
        MovedError: Another process has changed the file since.
    """
    if not is_remote(models):
        _move_local(Path(models), content, generation)
        return
    assert isinstance(generation, int)
    uri = join(models, CHAMPION_NAME)
    with storage_errors(uri):
        try:
            GcsObject(uri).write(content, generation)
        except PreconditionFailed as error:
            raise MovedError(models) from error


def _move_local(folder: Path, content: bytes, generation: Generation) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK_NAME).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if read(str(folder))[1] != generation:
            raise MovedError(str(folder))
        write_atomically(folder / CHAMPION_NAME, content)
