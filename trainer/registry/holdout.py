"""The clips that candidate and champion are compared on: test clips on which neither was trained.

There are two sets: the test clips of the new dataset version and, as long as it exists, those of the champion's
dataset. On corrupt test clips alone, a candidate that was trained on corrupt clips might be the better one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from preprocessing.dataset.manifest import Manifest
from preprocessing.dataset.records import RECORDS_NAME, RecordEntry
from preprocessing.errors import DataError, UsageError
from trainer.data.fetch import find_dataset, open_dataset, verify_split
from trainer.data.read_ahead import ReadAhead
from trainer.runs.champion_pointer import join
from trainer.runs.storage import StorageFolder

NEW_CLIPS, CHAMPION_CLIPS = "the new clips", "the champion's clips"
MIN_CLIPS = 2  # for a covariance


class HeldOutSet(NamedTuple):
    """A set of test clips of a dataset."""

    name: str
    uri: str  # of the dataset
    source: ReadAhead  # hands out its files
    manifest: Manifest
    track_ids: frozenset[str]


def held_out_sets(
    uri: str, champion: dict[str, Any] | None, datasets: str, cache: Path
) -> tuple[list[HeldOutSet], list[str]]:
    """Return the sets to compare on, the new dataset's first, and notes on what is missing.

    Args:
        uri: The new dataset version, local or `gs://`.
        champion: `dataset` of the champion (see `trainer.registry.champion`); None: there is no champion.
        datasets: The folder of versions; the champion's dataset is searched there too, in case it has moved.
        cache: Local folder for remote shards.

    Raises:
        CommandError: The new dataset has too few clips to compare on (3); storage failed (4).
    """
    new = _open(NEW_CLIPS, uri, cache)
    entries = _read_entries(uri)
    if champion is None or champion["digest"] == new.manifest.digest:
        return [_select_untrained(new, entries, entries)], []
    champion_uri = _find_champion_dataset(champion, datasets)
    old = _open_if_complete(champion_uri, cache) if champion_uri else None
    if champion_uri is None or old is None:
        note = (
            f"the champion's dataset {champion['digest'][:12]} is gone: the models are compared on the new "
            "dataset alone, without knowing whether the champion was trained on its test clips"
        )
        return [_select_untrained(new, entries, entries)], [note]
    old_entries = _read_entries(champion_uri)
    all_entries = [*entries, *old_entries]
    sets = [_select_untrained(new, entries, all_entries)]
    try:
        sets.append(_select_untrained(old, old_entries, all_entries))
    except DataError as error:
        return sets, [f"the models are compared on the new clips alone: {error}"]
    return sets, []


def _open(name: str, uri: str, cache: Path) -> HeldOutSet:
    source, manifest = open_dataset(uri, cache)
    verify_split(source, manifest, "test")
    return HeldOutSet(name, uri, source, manifest, frozenset())


def _open_if_complete(uri: str, cache: Path) -> HeldOutSet | None:
    try:
        return _open(CHAMPION_CLIPS, uri, cache)
    except DataError:  # shards are missing
        return None


def _find_champion_dataset(champion: dict[str, Any], datasets: str) -> str | None:
    for uri in (champion["uri"], join(datasets, champion["digest"])):
        with contextlib.suppress(
            DataError, UsageError
        ):  # gone, or written by another version of this program
            version_uri, manifest = find_dataset(uri)
            if manifest.digest == champion["digest"]:
                return version_uri
    return None


def _read_entries(uri: str) -> list[RecordEntry]:
    content = StorageFolder(uri).read(RECORDS_NAME)
    if content is None:
        raise DataError(f"{join(uri, RECORDS_NAME)} is missing: preprocess again")
    return [RecordEntry.from_json(line) for line in content.decode().splitlines()]


def _select_untrained(
    dataset: HeldOutSet, entries: list[RecordEntry], all_entries: Iterable[RecordEntry]
) -> HeldOutSet:
    """Select the test clips of a dataset whose recordings are in no training split."""
    training = [entry for entry in all_entries if entry.split == "train"]
    sources = {entry.source_sha256 for entry in training}
    recordings = {entry.recording_id for entry in training}
    track_ids = frozenset(
        _as_decoded(entry.track_id)
        for entry in entries
        if entry.split == "test"
        and entry.source_sha256 not in sources
        and entry.recording_id not in recordings
    )
    if len(track_ids) < MIN_CLIPS:
        raise DataError(
            f"{dataset.uri} has {len(track_ids)} test clips that neither model was trained on, and "
            f"{MIN_CLIPS} are needed: preprocess more clips",
        )
    return dataset._replace(track_ids=track_ids)


def _as_decoded(track_id: str) -> str:
    """Return a track id as it is read from a record: bytes that are not UTF-8 become replacement characters."""
    return track_id.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
