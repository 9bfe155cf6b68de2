"""Find runs: a run itself, the candidates of a folder of models, or all runs at any depth below a folder."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from preprocessing.dataset.manifest import MANIFEST_NAME
from preprocessing.dataset.run_files import CHAMPION_NAME, CONFIG_NAME
from preprocessing.errors import DataError
from trainer.runs import champion_pointer
from trainer.runs.champion_pointer import CANDIDATES, join
from trainer.runs.storage import StorageFolder


class FoundRun(NamedTuple):
    """A run, and whether it is the champion of the folder of models that it is a candidate of."""

    uri: str
    is_champion: bool = False


def find_runs(folders: Iterable[str]) -> list[FoundRun]:
    """Find the runs of several folders, each of them once, in the order of the folders and by name.

    Args:
        folders: Runs, folders of models or other folders, local or `gs://`.

    Raises:
        CommandError: A folder has no run, or a `champion.json` is corrupt (exit code 3), or storage failed (4).
    """
    runs: dict[str, FoundRun] = {}
    for folder in folders:
        for run in _runs_below(folder):
            runs.setdefault(run.uri, run)
    return list(runs.values())


def _runs_below(folder: str) -> list[FoundRun]:
    files = StorageFolder(folder)
    if files.read(CONFIG_NAME) is not None:
        return [FoundRun(folder.rstrip("/") or folder)]
    names = files.list_names()
    present, champions = set(names), set()
    for name in names:
        parent, _, file = name.rpartition("/")
        if file == CHAMPION_NAME:
            models = join(folder, parent) if parent else folder
            content = champion_pointer.parse(files.read(name) or b"", models)
            champions.add(f"{parent}/{CANDIDATES}/{content['candidate']}".lstrip("/"))
    runs = []
    for name in names:
        run = name.removesuffix(f"/{CONFIG_NAME}")
        # Another program may have a file of that name, too, as a synthesized corpus does.
        if (
            run != name
            and f"{run}/{MANIFEST_NAME}" not in present
            and b'"preset"' in (files.read(name) or b"")
        ):
            runs.append(FoundRun(join(folder, run), run in champions))
    if not runs:
        raise DataError(f"{folder} has no {CONFIG_NAME}, nor has any folder in it: nothing was trained there")
    return runs
