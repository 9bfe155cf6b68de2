"""`dataset.json`: what a dataset directory holds. Written last, so without it there is no dataset.

Standard library only: bytes in, bytes out; where the file lives is the caller's business.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

from preprocessing.errors import BAD_DATA, USAGE, CommandError

NAME = "dataset.json"
QUARANTINE_NAME = "quarantine.jsonl"
LATEST_NAME = "LATEST"  # beside versions of a dataset: the digest of the newest, which is its folder's name
SCHEMA_VERSION = 4
MAX_EMPIRICAL_CONDITIONS = 128  # enough to draw what a clip usually is


@dataclass(frozen=True)
class Shard:
    """One TFRecord file.

    `inputs_sha256` covers its clips' track ids and source files, not where they lie; `listing_sha256` covers
    where they lie, their sizes and times, and tells before anything is read whether the file can be kept.
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
    """Of one attribute over the training split; `std` is never 0, so that one may divide by it."""

    mean: float
    std: float
    low: float
    high: float


def statistics(values: Iterable[float]) -> Statistics | None:
    """Mean, standard deviation, smallest and largest of the finite values; None if there are none."""
    finite = sorted(value for value in values if math.isfinite(value))
    if not finite:
        return None
    mean = math.fsum(finite) / len(finite)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in finite) / len(finite))
    return Statistics(mean, std or 1.0, finite[0], finite[-1])


@dataclass(frozen=True)
class Manifest:
    """The dataset's description; `digest` identifies its inputs and options, wherever they were read from."""

    sample_rate_hz: int
    clip_secs: float
    clip_samples: int
    options: dict
    genres: list[str]
    shards: list[Shard]
    counts: dict[str, dict[str, int]]  # split -> genre -> clips
    quarantined: dict[str, int]  # reason -> files
    attributes: dict[str, Statistics]  # name -> over the training split, or over all if it has none
    empirical_conditions: list[
        dict[str, str | float | None]
    ]  # genre and attributes of training clips, at most USUAL_CLIPS
    records_sha256: str  # of records.jsonl
    inputs_fingerprint: str  # of the listing (paths, sizes, times): tells cheaply whether anything changed
    schema_version: int = SCHEMA_VERSION
    digest: str = field(default="")

    def with_digest(self) -> Manifest:
        """The same manifest with `digest` filled in: SHA-256 over schema, options and the shards' inputs."""
        covered = [
            self.schema_version,
            self.options,
            sorted((shard.name, shard.inputs_sha256) for shard in self.shards),
        ]
        text = json.dumps(covered, sort_keys=True, separators=(",", ":"))
        return Manifest(**{**self.__dict__, "digest": hashlib.sha256(text.encode()).hexdigest()})

    def split_shards(self, split: str) -> list[Shard]:
        """The shards of one split, in the order of their names."""
        return sorted((shard for shard in self.shards if shard.split == split), key=lambda shard: shard.name)

    def split_records(self, split: str) -> int:
        """How many clips the split has."""
        return sum(shard.records for shard in self.split_shards(split))

    def to_json(self) -> bytes:
        """Stable, indented JSON: the same manifest gives the same bytes."""
        return (json.dumps(asdict(self), indent=2, sort_keys=True, ensure_ascii=True) + "\n").encode()


def from_json(data: bytes, uri: str) -> Manifest:
    """Parses `dataset.json`; `uri` is only for the sentence.

    Raises:
        CommandError: It is of another schema version (exit code 2), or not a manifest (3).
    """
    try:
        fields = json.loads(data)
        version = fields["schema_version"]
        if version != SCHEMA_VERSION:
            raise CommandError(
                f"{uri} has schema version {version}, this program reads {SCHEMA_VERSION}: preprocess again",
                USAGE,
            )
        shards = [Shard(**shard) for shard in fields.pop("shards")]
        attributes = {name: Statistics(**of) for name, of in fields.pop("attributes").items()}
        return Manifest(shards=shards, attributes=attributes, **fields)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CommandError(f"{uri} is damaged ({error}): preprocess again", BAD_DATA) from error


def named_version(latest: bytes) -> str | None:
    """The folder that the content of a `LATEST` names, or None if it is no digest."""
    name = latest.decode("ascii", "replace").strip()
    return name if re.fullmatch(r"[0-9a-f]{64}", name) else None


def shard_name(split: str, index: int, count: int) -> str:
    """E.g. `train-00000-of-00008.tfrecord`."""
    return f"{split}-{index:05d}-of-{count:05d}.tfrecord"
