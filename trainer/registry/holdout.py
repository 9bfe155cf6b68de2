"""The clips that a candidate and a champion are compared on: test clips on which neither was trained.

A candidate that was trained on spoiled clips may well be the better one on spoiled clips. So there are two
sets: the test clips of the new dataset version, and those of the champion's, as long as that is there.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from preprocessing.dataset import records
from preprocessing.dataset.manifest import Manifest
from preprocessing.dataset.records import Entry
from preprocessing.errors import BAD_DATA, CommandError
from trainer.data.fetch import find_dataset, open_dataset
from trainer.runs.champion_pointer import join
from trainer.runs.storage import Folder

NEW, CHAMPIONS = "the new clips", "the champion's clips"
FEWEST = 2  # clips: a covariance needs so many


class HeldOut(NamedTuple):
    """A set of test clips of a dataset that lies in a local folder."""

    what: str
    folder: Path
    manifest: Manifest
    track_ids: frozenset[str]


def held_out(home: str, champion: dict | None, datasets: str, cache: Path) -> tuple[list[HeldOut], list[str]]:
    """The sets to compare on, the new dataset's first, and notes on what could not be had.

    Args:
        home: The new dataset version, local or `gs://`.
        champion: `dataset` of the champion (see `trainer.registry.champion`); None: there is no champion.
        datasets: Where versions lie; the champion's is looked for there too, if it has moved.
        cache: Where remote shards are kept.

    Raises:
        CommandError: The new dataset has too few clips to compare on (3); storage failed (4).
    """
    own = _open(NEW, home, cache)
    entries = _entries(home)
    if champion is None or champion["digest"] == own.manifest.digest:
        return [_without(own, entries, entries)], []
    earlier_home = _find(champion, datasets)
    earlier = _try_open(earlier_home, cache) if earlier_home else None
    if earlier is None:
        note = (
            f"the champion's dataset {champion['digest'][:12]} is gone: compared on the new one alone, and "
            "without knowing whether the champion was trained on its test clips"
        )
        return [_without(own, entries, entries)], [note]
    trained = [*entries, *(earlier_entries := _entries(earlier_home))]
    sets = [_without(own, entries, trained)]
    try:
        sets.append(_without(earlier, earlier_entries, trained))
    except CommandError as error:
        return sets, [f"compared on the new clips alone: {error}"]
    return sets, []


def _open(what: str, home: str, cache: Path) -> HeldOut:
    folder, manifest = open_dataset(home, cache, "test")
    return HeldOut(what, folder, manifest, frozenset())


def _find(champion: dict, datasets: str) -> str | None:
    """Where the champion's dataset lies now."""
    for uri in (champion["uri"], join(datasets, champion["digest"])):
        try:
            home, manifest = find_dataset(uri)
        except CommandError as error:
            if error.exit_code != BAD_DATA:
                raise
        else:
            if manifest.digest == champion["digest"]:
                return home
    return None


def _try_open(home: str, cache: Path) -> HeldOut | None:
    try:
        return _open(CHAMPIONS, home, cache)
    except CommandError as error:  # some of its shards are gone
        if error.exit_code != BAD_DATA:
            raise
        return None


def _entries(home: str) -> list[Entry]:
    content = Folder(home).read(records.NAME)
    if content is None:
        raise CommandError(f"{join(home, records.NAME)} is missing: preprocess again", BAD_DATA)
    return [records.from_json(line) for line in content.decode().splitlines()]


def _without(one: HeldOut, entries: list[Entry], trained: Iterable[Entry]) -> HeldOut:
    """The test clips of a dataset, without the recordings that are in a training split."""
    trained = [entry for entry in trained if entry.split == "train"]
    sources = {entry.source_sha256 for entry in trained}
    recordings = {entry.recording_id for entry in trained}
    left = frozenset(
        _as_read(entry.track_id)
        for entry in entries
        if entry.split == "test"
        and entry.source_sha256 not in sources
        and entry.recording_id not in recordings
    )
    if len(left) < FEWEST:
        raise CommandError(
            f"{one.folder} has {len(left)} test clips that neither model was trained on, and {FEWEST} are "
            "needed: preprocess more clips",
            BAD_DATA,
        )
    return one._replace(track_ids=left)


def _as_read(track_id: str) -> str:
    """A name that is no text is read back from a record with replacement characters."""
    return track_id.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
