"""Versions of a dataset side by side: `<root>/<digest>/`, and `<root>/LATEST`, which names the newest one.

Every job that succeeds writes `LATEST`, also if nothing has changed: an old one shows that jobs fail or do not run.
"""

from __future__ import annotations

from preprocessing.dataset.manifest import LATEST_NAME, MANIFEST_NAME, parse_latest
from preprocessing.dataset.output import find_shards
from preprocessing.dataset.quarantine import QUARANTINE_NAME
from preprocessing.errors import StorageError
from preprocessing.storage import beam_files
from preprocessing.storage.gcs import GcsObject, GenerationMismatchError, storage_errors


def latest_version(root: str) -> str | None:
    """Return the folder that `LATEST` names, or None if there is no valid `LATEST`."""
    uri = beam_files.join(root, LATEST_NAME)
    digest = parse_latest(beam_files.read(uri)) if beam_files.exists(uri) else None
    return beam_files.join(root, digest) if digest else None


def files_of_version(folder: str) -> list[str]:
    """Return the files that make a version a dataset, without its list of records: the manifest is first.

    They are found by their names: the manifest may be of another schema, or a deletion may have ended after it.
    """
    names = (MANIFEST_NAME, QUARANTINE_NAME)
    return [*(beam_files.join(folder, name) for name in names), *find_shards(folder)]


def confirm_latest(root: str) -> None:
    """Write `LATEST` again with its content: its time tells when a job last found the version up to date."""
    if (folder := latest_version(root)) is not None:
        set_latest(root, folder.rpartition("/")[2])


def set_latest(root: str, digest: str) -> None:
    """Point `LATEST` at a version, atomically: a reader sees either the old version or the new one.

    Raises:
        CommandError: Another job changed it at the same time (exit code 4).
    """
    uri = beam_files.join(root, LATEST_NAME)
    content = f"{digest}\n".encode()
    if not uri.startswith("gs://"):
        beam_files.write(f"{uri}.tmp", content)
        beam_files.move(f"{uri}.tmp", uri)
        return
    with storage_errors(uri):
        pointer = GcsObject(uri)
        _, generation = pointer.read() or (b"", 0)
        try:
            pointer.write(content, generation)
        except GenerationMismatchError as error:
            message = f"{uri} was changed by another job: run this one again"
            raise StorageError(message) from error
