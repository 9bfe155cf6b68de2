"""`dataset.json`: the description of a dataset directory, and the names of the files in it.

It is written last, so a directory without it holds no finished dataset. Standard library only: the functions
here convert between bytes and objects, and the caller does the I/O.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from preprocessing.errors import DataError, UsageError

MANIFEST_NAME = "dataset.json"
LATEST_NAME = "LATEST"  # beside the versions of a dataset: the digest, and so the folder, of the newest one
SCHEMA_VERSION = 6
MAX_EMPIRICAL_CONDITIONS = 128  # enough to represent the joint distribution of genres, attributes and keys


@dataclass(frozen=True)
class Shard:
    """One TFRecord file.

    `inputs_sha256` covers the track ids and the contents of the source files. `listing_sha256` covers the
    paths, sizes and modification times of the source files: it shows, before any audio is read, whether the
    shard can be reused. It is empty where recordings moved to fill a split, which cannot be reused.
    """

    name: str
    split: str
    records: int
    bytes: int
    sha256: str
    inputs_sha256: str
    listing_sha256: str


@dataclass(frozen=True)
class Statistics:
    """Summary of one attribute over the training split; `std` is never 0, so that it can be a divisor."""

    mean: float
    std: float
    low: float
    high: float


def compute_statistics(values: Iterable[float]) -> Statistics | None:
    """Return the statistics of the finite values, or None if there are none."""
    finite = sorted(value for value in values if math.isfinite(value))
    if not finite:
        return None
    mean = math.fsum(finite) / len(finite)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in finite) / len(finite))
    return Statistics(mean, std or 1.0, finite[0], finite[-1])


@dataclass(frozen=True)
class Manifest:
    """The content of `dataset.json`.

    `digest` identifies the dataset by its options and source files, wherever these are stored.
    """

    sample_rate_hz: int
    clip_secs: float
    clip_samples: int
    options: dict[str, Any]  # those that determine the content; see `preprocessing.options.Options`
    genres: list[str]
    shards: list[Shard]
    counts: dict[str, dict[str, int]]  # split -> genre -> clips
    recordings: dict[str, int]  # split -> recordings that the clips were cut from
    quarantined: dict[str, int]  # reason -> files
    attributes: dict[str, Statistics]  # name -> over the training split, or over all clips if it is empty
    keys: dict[str, int]
    """Key -> clips of the same split, in the order of `keys.KEYS`; without the keys of no clip."""
    empirical_conditions: list[dict[str, str | float | None]]
    """Genre, attributes and key of up to `MAX_EMPIRICAL_CONDITIONS` training clips, spaced evenly by track id."""
    records_sha256: str  # of records.jsonl
    inputs_fingerprint: str  # of the input listing (paths, sizes, times): a cheap test for any change
    schema_version: int = SCHEMA_VERSION
    digest: str = field(default="")

    def with_digest(self) -> Manifest:
        """Return a copy with `digest` filled in: SHA-256 of the schema, the options and the shards' inputs."""
        covered = [
            self.schema_version,
            self.options,
            sorted((shard.name, shard.inputs_sha256) for shard in self.shards),
        ]
        text = json.dumps(covered, sort_keys=True, separators=(",", ":"))
        return replace(self, digest=hashlib.sha256(text.encode()).hexdigest())

    def split_shards(self, split: str) -> list[Shard]:
        """Return the shards of one split, sorted by name."""
        return sorted((shard for shard in self.shards if shard.split == split), key=lambda shard: shard.name)

    def clip_count(self, split: str) -> int:
        """Return the number of clips in one split."""
        return sum(shard.records for shard in self.split_shards(split))

    def to_json(self) -> bytes:
        """Serialize to indented JSON; equal manifests give equal bytes."""
        return (json.dumps(asdict(self), indent=2, sort_keys=True, ensure_ascii=True) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes, uri: str) -> Manifest:
        """Parse `dataset.json`; `uri` appears only in error messages.

        Raises:
            CommandError: The schema version is another one (exit code 2), or the content is corrupt (3).
        """
        try:
            fields = json.loads(data)
            version = fields["schema_version"]
            if version != SCHEMA_VERSION:
                raise UsageError(
                    f"{uri} has schema version {version}, this program reads {SCHEMA_VERSION}: "
                    "preprocess again",
                )
            shards = [Shard(**shard) for shard in fields.pop("shards")]
            attributes = {name: Statistics(**values) for name, values in fields.pop("attributes").items()}
            return cls(shards=shards, attributes=attributes, **fields)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"{uri} is corrupt ({error}): preprocess again") from error


def parse_latest(content: bytes) -> str | None:
    """Return the folder name that a `LATEST` file contains, or None if it is not a digest."""
    name = content.decode("ascii", "replace").strip()
    return name if re.fullmatch(r"[0-9a-f]{64}", name) else None


def shard_name(split: str, index: int, count: int) -> str:
    """Return the file name of a shard, e.g. `train-00000-of-00008.tfrecord`."""
    return f"{split}-{index:05d}-of-{count:05d}.tfrecord"
