"""Find a dataset, fetch its shards and verify their checksums."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from preprocessing.dataset.manifest import LATEST_NAME, MANIFEST_NAME, Manifest, Shard, parse_latest
from preprocessing.errors import DataError
from trainer.data import integrity
from trainer.runs.storage import GcsPrefix, StorageFolder, is_remote


def find_dataset(uri: str) -> tuple[str, Manifest]:
    """Find a dataset and read its manifest, without its shards.

    Args:
        uri: A dataset, local or `gs://`, or a folder of versions, of which the one that `LATEST` names is used.

    Returns:
        The dataset's URI and its manifest.

    Raises:
        CommandError: The dataset has another schema version (2) or does not exist (3), or storage failed (4).
    """
    latest = StorageFolder(uri).read(LATEST_NAME)
    if latest and (version := parse_latest(latest)):
        uri = f"{uri.rstrip('/')}/{version}"
    data = StorageFolder(uri).read(MANIFEST_NAME)
    if data is None:
        raise DataError(
            f"{uri} has no {MANIFEST_NAME}, so there is no finished dataset: "
            f"run python -m preprocessing --input ... --output {uri}",
        )
    return uri, Manifest.from_json(data, f"{uri}/{MANIFEST_NAME}")


def open_dataset(uri: str, cache: Path, split: str | None = None) -> tuple[Path, Manifest]:
    """Find a dataset and make its shards, or those of one split, available locally.

    Returns:
        A local folder with the shards, and the manifest.

    Raises:
        CommandError: As in `find_dataset` and `fetch_shards`.
    """
    dataset_uri, manifest = find_dataset(uri)
    shards = manifest.shards if split is None else manifest.split_shards(split)
    return fetch_shards(dataset_uri, manifest, shards, cache), manifest


def fetch_shards(dataset_uri: str, manifest: Manifest, shards: Sequence[Shard], cache: Path) -> Path:
    """Make shards of the dataset in `dataset_uri` available locally; remote ones are fetched once per dataset digest.

    Returns:
        A local folder with the shards: `dataset_uri` itself, or a folder in `cache`.

    Raises:
        CommandError: A shard is missing or differs from the manifest (3), or storage failed (4).
    """
    folder = cache / "datasets" / manifest.digest if is_remote(dataset_uri) else Path(dataset_uri)
    corrupt = integrity.corrupt_shards(folder, shards, cache)
    if corrupt and is_remote(dataset_uri):
        _fetch(GcsPrefix(dataset_uri), corrupt, folder)
        corrupt = integrity.corrupt_shards(folder, shards, cache)
    if corrupt:
        uri = f"{dataset_uri.rstrip('/')}/{corrupt[0].name}"
        raise DataError(f"{uri} is missing or differs from {MANIFEST_NAME}: preprocess again")
    return folder


def _fetch(prefix: GcsPrefix, shards: Sequence[Shard], folder: Path) -> None:
    """Download into a temporary folder first, so that a process that shares the cache sees only whole shards."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        prefix.download([shard.name for shard in shards], Path(temporary))
        for shard in shards:
            (Path(temporary) / shard.name).replace(folder / shard.name)
