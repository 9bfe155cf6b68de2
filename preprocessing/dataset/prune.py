"""Delete old versions of a dataset: a new version is made for each new file, and they only grow in number."""

from __future__ import annotations

import re
from typing import NamedTuple

from preprocessing.dataset.dependents import read_champion
from preprocessing.dataset.manifest import MANIFEST_NAME
from preprocessing.dataset.output import SHARD_PATTERNS
from preprocessing.dataset.versions import files_of_version, latest_version
from preprocessing.errors import DataError
from preprocessing.storage import beam_files, lease

DIGEST = re.compile(r"[0-9a-f]{64}")
DIGITS = 12  # of a dataset's digest in the name of a candidate


class Version(NamedTuple):
    """A version of a dataset."""

    time: float  # when it was written, in seconds of the epoch
    folder: str
    size_bytes: int
    kept_because: str  # empty: it may be deleted


def list_versions(root: str, keep_versions: int, models: list[str]) -> list[Version]:
    """Return the versions below `root`, the newest first, with the reason for which each is kept.

    The newest `keep_versions` are kept, the current one, and those that a champion was trained on.

    Args:
        root: The folder of the versions, local or `gs://`.
        keep_versions: At least 1.
        models: Folders of models, whose champions are looked at.

    Raises:
        CommandError: There is no version below `root`, or no champion in one of `models` (exit code 3).
    """
    current = latest_version(root)
    if current is None:
        raise DataError(f"{root} has no versions: give the `output` of a job with `versioned`")
    champions = {models_folder: read_champion(models_folder) for models_folder in models}
    versions = []
    for number, (folder, time) in enumerate(_folders(root)):
        digest = folder.rpartition("/")[2]
        reason = f"one of the newest {keep_versions}" if number < keep_versions else ""
        if digest == current.rpartition("/")[2]:
            reason = "current"
        for models_folder, content in champions.items():
            if digest[:DIGITS] in content:
                reason = f"the champion of {models_folder} was trained on it"
        own = set(files_of_version(folder))
        size_bytes = sum(part.size_in_bytes for part in beam_files.find(folder) if part.path in own)
        versions.append(Version(time, folder, size_bytes, reason))
    return versions


def _folders(root: str) -> list[tuple[str, float]]:
    """Return the folders of versions and their times, the newest first; of some, only shards may be left."""
    times: dict[str, float] = {}
    for name in (MANIFEST_NAME, *SHARD_PATTERNS):
        for file in beam_files.find(beam_files.join(beam_files.literal(root), "*", name)):
            folder = file.path.rpartition("/")[0]
            if DIGEST.fullmatch(folder.rpartition("/")[2]):
                times.setdefault(folder, file.last_updated_in_seconds)
    return sorted(times.items(), key=lambda item: (-item[1], item[0]))


def prune(root: str, keep_versions: int, models: list[str], delete: bool) -> str:
    """Delete the versions that need not be kept, or only list them; return a table of all.

    Raises:
        CommandError: See `list_versions`; or a job is writing to `root` (exit code 2).
    """
    with lease.acquire(root):
        versions = list_versions(root, keep_versions, models)
        for version in versions:
            if delete and not version.kept_because:
                _delete(version.folder)
    unneeded = [version for version in versions if not version.kept_because]
    action = "deleted" if delete else "would be deleted"
    lines = [
        f"{version.folder}  {version.size_bytes / 1e6:.1f} MB  "
        + (f"kept: {version.kept_because}" if version.kept_because else action)
        for version in versions
    ]
    megabytes = sum(version.size_bytes for version in unneeded) / 1e6
    hint = "" if delete or not unneeded else "; --yes deletes them"
    lines.append(f"{len(unneeded)} of {len(versions)} versions, {megabytes:.1f} MB, {action}{hint}")
    return "\n".join(lines)


def _delete(folder: str) -> None:
    """Delete a version, but not its list of records, from which `forget` tells what a model was trained on.

    What a user has put there stays, too.
    """
    # The manifest first: a folder without one is no dataset.
    beam_files.delete(files_of_version(folder))
