"""Find a dataset, and open its shards."""

from __future__ import annotations

from pathlib import Path

from preprocessing.dataset.manifest import LATEST_NAME, MANIFEST_NAME, Manifest, parse_latest
from preprocessing.errors import DataError
from trainer.data.read_ahead import ReadAhead
from trainer.data.shards import LocalShards, RemoteShards
from trainer.runs.storage import StorageFolder, is_remote

READ_ONCE_BYTES = 2_000_000_000  # of shards on disk; who reads once gains nothing from keeping more


def find_dataset(uri: str, digest: str | None = None) -> tuple[str, Manifest]:
    """Find a dataset and read its manifest, without its shards.

    Args:
        uri: A dataset, local or `gs://`, or a folder of versions, of which the one that `LATEST` names is used.
        digest: Of the version that is used instead, if there is one.

    Returns:
        The dataset's URI and its manifest.

    Raises:
        CommandError: The dataset has another schema version (2) or does not exist (3), or storage failed (4).
    """
    latest = StorageFolder(uri).read(LATEST_NAME)
    if latest and (version := parse_latest(latest)):
        root = uri.rstrip("/")
        is_kept = digest is not None and StorageFolder(f"{root}/{digest}").read(MANIFEST_NAME) is not None
        uri = f"{root}/{digest if is_kept else version}"
    data = StorageFolder(uri).read(MANIFEST_NAME)
    if data is None:
        raise DataError(
            f"{uri} has no {MANIFEST_NAME}, so there is no finished dataset: "
            f"run python -m preprocessing --input ... --output {uri}",
        )
    return uri, Manifest.from_json(data, f"{uri}/{MANIFEST_NAME}")


def open_shards(dataset_uri: str, manifest: Manifest, cache: Path, limit_bytes: int) -> ReadAhead:
    """Open the shards of the dataset in `dataset_uri`, which are verified, and fetched if they are remote, when needed.

    Args:
        dataset_uri: As `find_dataset` returns it.
        manifest: Of the dataset.
        cache: Local folder for remote shards, and for what was verified.
        limit_bytes: Of all remote shards in the cache.

    Raises:
        CommandError: Storage failed (exit code 4).
    """
    if is_remote(dataset_uri):
        return ReadAhead(RemoteShards(dataset_uri, manifest.digest, cache, limit_bytes))
    return ReadAhead(LocalShards(Path(dataset_uri), cache))


def open_dataset(uri: str, cache: Path) -> tuple[ReadAhead, Manifest]:
    """Find a dataset whose splits will be read once; raises as `find_dataset` and `open_shards`."""
    dataset_uri, manifest = find_dataset(uri)
    largest = max((shard.bytes for shard in manifest.shards), default=0)
    return open_shards(dataset_uri, manifest, cache, max(READ_ONCE_BYTES, 2 * largest)), manifest


def verify_split(source: ReadAhead, manifest: Manifest, split: str) -> None:
    """Fetch and verify every shard of a split.

    Raises:
        CommandError: A shard is missing or differs from the manifest (exit code 3), or storage failed (4).
    """
    stream = source.add_stream(manifest.split_shards(split))
    for index in range(len(stream.shards) + 1):
        source.open(stream, index)
