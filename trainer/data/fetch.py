"""Where a dataset lies: its manifest found, its shards fetched and checked."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from preprocessing.dataset.manifest import LATEST_NAME, MANIFEST_NAME, Manifest, Shard, parse_latest
from preprocessing.errors import BAD_DATA, CommandError
from trainer.data import integrity
from trainer.runs.storage import GcsPrefix, StorageFolder, is_remote


def find_dataset(uri: str) -> tuple[str, Manifest]:
    """Where a dataset lies, and its manifest; no shard is fetched.

    A folder of versions stands for the one that its `LATEST` names.

    Raises:
        CommandError: It is of another schema (2), there is none (3), or storage failed (4).
    """
    latest = StorageFolder(uri).read(LATEST_NAME)
    if latest and (version := parse_latest(latest)):
        uri = f"{uri.rstrip('/')}/{version}"
    data = StorageFolder(uri).read(MANIFEST_NAME)
    if data is None:
        raise CommandError(
            f"{uri} has no {MANIFEST_NAME}, so there is no finished dataset: "
            f"run python -m preprocessing --input ... --output {uri}",
            BAD_DATA,
        )
    return uri, Manifest.from_json(data, f"{uri}/{MANIFEST_NAME}")


def open_dataset(uri: str, cache: Path, split: str | None = None) -> tuple[Path, Manifest]:
    """A local folder with the dataset's shards, or with those of one split, and its manifest.

    Raises:
        CommandError: As `find_dataset` and `fetch_shards`.
    """
    home, manifest = find_dataset(uri)
    shards = manifest.shards if split is None else manifest.split_shards(split)
    return fetch_shards(home, manifest, shards, cache), manifest


def fetch_shards(home: str, manifest: Manifest, shards: Sequence[Shard], cache: Path) -> Path:
    """A local folder with `shards` of the dataset in `home`; remote ones are fetched once a digest.

    Raises:
        CommandError: One is missing or is not what the manifest says (3); storage failed (4).
    """
    folder = cache / "datasets" / manifest.digest if is_remote(home) else Path(home)
    damaged = integrity.corrupt_shards(folder, shards, cache)
    if damaged and is_remote(home):
        _fetch(GcsPrefix(home), damaged, folder)
        damaged = integrity.corrupt_shards(folder, shards, cache)
    if damaged:
        named = f"{home.rstrip('/')}/{damaged[0].name}"
        raise CommandError(
            f"{named} is missing, or not what {MANIFEST_NAME} says: preprocess again", BAD_DATA
        )
    return folder


def _fetch(prefix: GcsPrefix, shards: Sequence[Shard], folder: Path) -> None:
    """Through a folder of this process: another one that shares the cache never sees half a shard."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        prefix.download([shard.name for shard in shards], Path(temporary))
        for shard in shards:
            (Path(temporary) / shard.name).replace(folder / shard.name)
