"""`champion.json` as a pointer: a folder of models stands for the candidate that it names.

It moves only from what its mover has read, so that of two movers one learns that it came second: by
generation-match on `gs://`, by comparison under a lock of the kernel's and a rename where it is local.
"""

from __future__ import annotations

import fcntl
import json
import re
from pathlib import Path

from google.api_core.exceptions import PreconditionFailed

from preprocessing.errors import BAD_DATA, STORAGE_FAILED, CommandError
from preprocessing.storage.gcs import Object, failures
from trainer.runs.storage import Folder, is_remote

NAME = "champion.json"
CANDIDATES = "candidates"
CANDIDATE_NAME = re.compile(r"[0-9a-f]{12}-[0-9a-f]{12}")  # of the dataset, and of all that it depends on
_LOCK = ".champion.lock"

Generation = int | bytes  # of what was read: its generation in a bucket, its content in a file


class MovedError(CommandError):
    """Another process has moved the pointer since it was read (exit code 4)."""

    def __init__(self, models: str) -> None:
        super().__init__(
            f"{join(models, NAME)} was moved by another process: run this command again", STORAGE_FAILED
        )


def join(folder: str, *names: str) -> str:
    """A file or folder below a folder, local or `gs://`."""
    return "/".join((folder.rstrip("/"), *names))


def candidate_uri(models: str, name: str) -> str:
    """The run directory of a candidate."""
    return join(models, CANDIDATES, name)


def resolve(run: str) -> str:
    """The run that is meant: of a folder of models its champion's, any other is itself.

    Raises:
        CommandError: `champion.json` is damaged (3).
    """
    content = Folder(run).read(NAME)
    return candidate_uri(run, parse(content, run)["candidate"]) if content is not None else run


def parse(content: bytes, models: str) -> dict:
    """The content of `champion.json`.

    Raises:
        CommandError: It is damaged (3).
    """
    try:
        fields = json.loads(content)
        if CANDIDATE_NAME.fullmatch(fields["candidate"]):
            return fields
    except (ValueError, TypeError, KeyError) as error:
        raise damaged(models) from error
    raise damaged(models)


def damaged(models: str) -> CommandError:
    """What there is to say of a pointer that cannot be read (exit code 3)."""
    return CommandError(f"{join(models, NAME)} is damaged: restore it, or delete it to begin anew", BAD_DATA)


def read(models: str) -> tuple[bytes | None, Generation]:
    """What the pointer holds, None where there is none yet, and the token with which it can be moved."""
    if not is_remote(models):
        path = Path(models) / NAME
        content = path.read_bytes() if path.is_file() else None
        return content, content or b""
    uri = join(models, NAME)
    with failures(uri):
        return Object(uri).read() or (None, 0)


def move(models: str, content: bytes, token: Generation) -> None:
    """Lets the pointer hold `content`.

    Raises:
        MovedError: It holds something else than what `token` was read with.
    """
    if not is_remote(models):
        _move_local(Path(models), content, token)
        return
    uri = join(models, NAME)
    with failures(uri):
        try:
            Object(uri).write(content, token)
        except PreconditionFailed as error:
            # An answer that got lost is asked for again, and finds its own writing there.
            if read(models)[0] != content:
                raise MovedError(models) from error


def _move_local(folder: Path, content: bytes, token: Generation) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if read(str(folder))[1] != token:
            raise MovedError(str(folder))
        temporary = folder / f"{NAME}.tmp"
        temporary.write_bytes(content)
        temporary.replace(folder / NAME)
