"""What depends on a dataset: the runs that were trained on it, and champions, as the trainer's files state it."""

from __future__ import annotations

import json
from typing import NamedTuple

from preprocessing.dataset.manifest import MANIFEST_NAME
from preprocessing.dataset.run_files import CHAMPION_NAME, CONFIG_NAME
from preprocessing.errors import DataError
from preprocessing.storage import beam_files


class Run(NamedTuple):
    """A run of the trainer."""

    folder: str
    dataset: str  # digest; empty if its configuration cannot be read
    ancestor_datasets: tuple[str, ...]  # digests of those that its initial weights were trained on
    is_champion: bool


def find_runs(folders: list[str]) -> list[Run]:
    """Return the runs at any depth below folders, local or `gs://`, sorted.

    Raises:
        CommandError: One of the folders does not exist, or has no files (exit code 3).
    """
    runs = {}
    for folder in folders:
        files = {file.path for file in beam_files.find(folder)}
        if not files:
            raise DataError(f"`runs` {folder} has no files: check the path")
        champions = [
            beam_files.read(path).decode("utf-8", "replace")
            for path in files
            if path.endswith(f"/{CHAMPION_NAME}")
        ]
        for path in files:
            run = path.removesuffix(f"/{CONFIG_NAME}")
            # A synthesized corpus or another program may have a file of that name, too.
            if run != path and f"{run}/{MANIFEST_NAME}" not in files:
                name = run.rpartition("/")[2]
                runs[run] = _parse(run, beam_files.read(path), any(f'"{name}"' in text for text in champions))
    return [runs[folder] for folder in sorted(runs)]


def read_champion(models: str) -> str:
    """Return the content of a folder's `champion.json`.

    Raises:
        CommandError: There is none (exit code 3).
    """
    uri = beam_files.join(models, CHAMPION_NAME)
    if not beam_files.exists(uri):
        raise DataError(f"{uri} does not exist: check `models`")
    return beam_files.read(uri).decode("utf-8", "replace")


def _parse(folder: str, content: bytes, is_champion: bool) -> Run:
    try:
        fields = json.loads(content)
        ancestors = tuple(map(str, fields["ancestor_datasets"]))
        return Run(folder, str(fields["dataset"]["digest"]), ancestors, is_champion)
    except (ValueError, TypeError, KeyError):
        return Run(folder, "", (), is_champion)
