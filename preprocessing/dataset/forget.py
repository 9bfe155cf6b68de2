"""Forget recordings: delete every version of a dataset and every run that holds or was trained on them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sized
from typing import NamedTuple

from preprocessing.dataset.dependents import Run, find_runs
from preprocessing.dataset.forgotten import FORGOTTEN_NAME, Forgotten
from preprocessing.dataset.manifest import LATEST_NAME, MANIFEST_NAME, Manifest, parse_latest
from preprocessing.dataset.records import RECORDS_NAME, RecordEntry
from preprocessing.dataset.run_files import CONFIG_NAME
from preprocessing.dataset.versions import files_of_version
from preprocessing.errors import DataError
from preprocessing.storage import beam_files, lease
from preprocessing.storage.local_folders import delete_empty_folders

# The files and folders of a run: what may hold audio of its test clips, and what depends on its training clips alone.
WITH_TEST_CLIPS = ("samples/", "generated/", "evaluation/", "events/", "report.html", "comparison.html")
OF_TRAINING = (CONFIG_NAME, "metrics.jsonl", "rollbacks.jsonl", "promotion.json", "checkpoints/")


class Version(NamedTuple):
    """A version of a dataset that holds recordings to forget."""

    folder: str
    digest: str
    splits: frozenset[str]  # that hold them

    @property
    def is_trained_on(self) -> bool:
        """Whether weights of a model depend on them."""
        return bool(self.splits - {"test"})


class Findings(NamedTuple):
    """What holds or was trained on recordings."""

    recordings: dict[str, str]  # SHA-256 -> URI
    versions: list[Version]
    trained: list[Run]  # their weights depend on the recordings
    tested: list[Run]  # they only have them among their test clips
    unknown: list[Run]  # trained on a dataset whose records are not known


def forget(root: str, runs: list[str], names: list[str], delete: bool) -> str:
    """Delete what holds or was trained on recordings, or only list it; return the list.

    What is deleted, and the recordings, are noted in `forgotten.json`: later jobs leave these files out, and retraining
    starts from no weights that were trained on them.

    Args:
        root: A dataset or the folder of its versions, local or `gs://`.
        runs: Folders with runs or models at any depth.
        names: Of recordings or folders: paths as below the input, URIs, recording ids or SHA-256.
        delete: Whether to delete.

    Raises:
        CommandError: A job or a training is writing to one of the folders (exit code 2), or no version holds a name
            (3).
    """
    with lease.acquire(root):
        findings = _find(root, runs, names)
        if delete:
            _note(root, findings)
            for run in findings.trained:
                _delete_of_run(run.folder, (*WITH_TEST_CLIPS, *OF_TRAINING))
            for run in findings.tested:
                _delete_of_run(run.folder, WITH_TEST_CLIPS)
            _delete_versions(root, findings.versions)
    return "\n".join(_describe(findings, delete))


def read_forgotten(root: str) -> Forgotten:
    """Read the `forgotten.json` of a folder; it may not exist.

    Raises:
        CommandError: It is corrupt (exit code 3).
    """
    uri = beam_files.join(root, FORGOTTEN_NAME)
    return Forgotten.from_json(beam_files.read(uri) if beam_files.exists(uri) else None, uri)


def _find(root: str, runs: list[str], names: list[str]) -> Findings:
    records = {folder: _read_records(folder) for folder in _folders_with_records(root)}
    recordings = _match((entry for entries in records.values() for entry in entries), names, root)
    digests = {folder: _digest(folder) for folder in records}
    versions = []
    for folder, entries in records.items():
        splits = frozenset(entry.split for entry in entries if entry.source_sha256 in recordings)
        if splits:
            versions.append(Version(folder, digests[folder], splits))
    noted = read_forgotten(root).datasets
    trained_on = {version.digest for version in versions if version.is_trained_on} | noted
    holding = {version.digest for version in versions} | noted
    findings = Findings(recordings, versions, [], [], [])
    for run in find_runs(runs):
        datasets = {run.dataset, *run.ancestor_datasets}
        if datasets & trained_on:
            findings.trained.append(run)
        elif run.dataset in holding:
            findings.tested.append(run)
        elif not datasets <= set(digests.values()):
            findings.unknown.append(run)
    return findings


def _folders_with_records(root: str) -> list[str]:
    """Return the dataset itself or its versions, also those of which only the list of records is left."""
    found = (
        [beam_files.join(root, RECORDS_NAME)]
        if beam_files.exists(beam_files.join(root, RECORDS_NAME))
        else []
    )
    found += [
        file.path for file in beam_files.find(beam_files.join(beam_files.literal(root), "*", RECORDS_NAME))
    ]
    if not found:
        raise DataError(f"{root} has no dataset: give the `output` of a job")
    return sorted(path.rpartition("/")[0] for path in found)


def _read_records(folder: str) -> list[RecordEntry]:
    uri = beam_files.join(folder, RECORDS_NAME)
    try:
        return [RecordEntry.from_json(line) for line in beam_files.read(uri).decode().splitlines()]
    except (ValueError, TypeError) as error:
        raise DataError(f"{uri} is corrupt ({error}): delete its folder, or preprocess again") from error


def _digest(folder: str) -> str:
    uri = beam_files.join(folder, MANIFEST_NAME)
    if beam_files.exists(uri):
        return Manifest.from_json(beam_files.read(uri), uri).digest
    return folder.rpartition("/")[2]


def _match(entries: Iterable[RecordEntry], names: list[str], root: str) -> dict[str, str]:
    """Return the SHA-256 of the recordings that names stand for, with their URIs."""
    unmatched = {unicodedata.normalize("NFC", name.strip().rstrip("/")): name for name in names}
    wanted = dict(unmatched)
    recordings = {}
    for entry in entries:
        uri = unicodedata.normalize("NFC", entry.source_uri)
        for name in wanted:
            if name in (entry.recording_id, entry.source_sha256, uri) or f"/{name}/" in f"/{uri}/":
                recordings[entry.source_sha256] = entry.source_uri
                unmatched.pop(name, None)
    for name in unmatched.values():
        raise DataError(
            f"`recording` {name}: no version of {root} holds it; records.jsonl has the names of all"
        )
    return recordings


def _note(root: str, findings: Findings) -> None:
    noted = read_forgotten(root)
    datasets = noted.datasets | {version.digest for version in findings.versions if version.is_trained_on}
    content = Forgotten(datasets, noted.recordings | findings.recordings.keys()).to_json()
    beam_files.write(beam_files.join(root, FORGOTTEN_NAME), content)


def _delete_of_run(folder: str, names: tuple[str, ...]) -> None:
    """Delete the files of a run whose names begin with one of `names`; what a user has put there stays."""
    with lease.acquire(folder):
        paths = [file.path for file in beam_files.find(folder)]
        beam_files.delete([path for path in paths if path.removeprefix(f"{folder}/").startswith(names)])
    delete_empty_folders(folder)


def _delete_versions(root: str, versions: list[Version]) -> None:
    """Delete versions, the current one included; the lists of records last, so that a repetition finds them."""
    latest = beam_files.join(root, LATEST_NAME)
    digests = {version.digest for version in versions}
    if beam_files.exists(latest) and parse_latest(beam_files.read(latest)) in digests:
        beam_files.delete([latest])
    for version in versions:
        # The manifest first: a folder without one is no dataset.
        beam_files.delete(files_of_version(version.folder))
        beam_files.delete([beam_files.join(version.folder, RECORDS_NAME)])
        if version.folder != root.rstrip("/"):
            delete_empty_folders(version.folder)


def _describe(findings: Findings, delete: bool) -> list[str]:
    deleted = "deleted" if delete else "would be deleted"
    lines = [
        f"recording  {uri}  {sha256}"
        for sha256, uri in sorted(findings.recordings.items(), key=lambda item: item[1])
    ]
    lines += [
        f"dataset    {version.folder}  holds them in {', '.join(sorted(version.splits))}: {deleted}"
        for version in findings.versions
    ]
    runs = [(run, f"was trained on them: {deleted}") for run in findings.trained]
    runs += [
        (run, f"has them among its test clips: all but its checkpoints and metrics {deleted}")
        for run in findings.tested
    ]
    runs += [
        (run, "kept, but it was trained on a dataset that is not here, which may hold them")
        for run in findings.unknown
    ]
    lines += [
        f"run        {run.folder}{' (a champion)' if run.is_champion else ''}  {text}" for run, text in runs
    ]
    hint = "; preprocess and train again" if delete else "; --yes deletes them"
    lines.append(
        f"{_count(findings.recordings, 'recording')}, {_count(findings.versions, 'dataset')}, "
        f"{_count(findings.trained + findings.tested, 'run')} {deleted}{hint}"
    )
    return lines


def _count(things: Sized, noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"
