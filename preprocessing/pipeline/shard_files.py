"""The files of a shard in the staging folder: its records, what describes them, and lines for the commit.

Descriptions are files since they would be too large for one worker: the steps of the job exchange only their paths.
Each attempt writes files of its own, so a worker that dies or is retried leaves nothing behind that the commit would
use.
"""

from __future__ import annotations

import hashlib
import json
import time
import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from preprocessing.dataset.quarantine import Rejected
from preprocessing.dataset.records import RecordEntry
from preprocessing.dataset.splits import SPLITS
from preprocessing.errors import StoppedError
from preprocessing.storage import beam_files

DESCRIPTION_ENDING = ".description"  # of the staged files that describe a shard which is decoded


class StagedShard(NamedTuple):
    """A shard's file before recordings are dropped from it."""

    name: str
    path: str  # of the file: staged, or in the previous dataset before `ReuseShard` has copied it
    size_bytes: int
    sha256: str
    description: str  # path of a `ShardDescription`

    def to_json(self) -> str:
        """Serialize to one line."""
        return json.dumps(self)

    @classmethod
    def from_json(cls, line: str) -> StagedShard:
        """Parse one line."""
        return cls(*json.loads(line))

    @property
    def number(self) -> int:
        """The number of the shard, unique in its dataset."""
        split, index = self.name.split("-")[:2]
        return int(index) * len(SPLITS) + SPLITS.index(split)

    def keyed(self) -> tuple[int, StagedShard]:
        """Return the shard with its number, which is its key in the job."""
        return self.number, self

    def describe(self) -> ShardDescription:
        """Read the description."""
        return ShardDescription.read(self.description)


def take_shard(group: Iterable[Any]) -> tuple[StagedShard, list[Any]]:
    """Split the values that have one shard's number as their key into the shard and the others."""
    values = list(group)
    (shard,) = (value for value in values if isinstance(value, StagedShard))
    return shard, [value for value in values if not isinstance(value, StagedShard)]


class ShardDescription(NamedTuple):
    """The entries of a shard's records in the order of the file, and the source files that were rejected."""

    entries: list[RecordEntry]
    rejected: list[Rejected]
    invalid: frozenset[str] = frozenset()  # ids of recordings that failed after some records were written

    def write(self, staging: str, shard: str) -> str:
        """Write a staged file; return its path."""
        path = staged_path(staging, f"{shard}{DESCRIPTION_ENDING}")
        content = json.dumps((self.entries, self.rejected, sorted(self.invalid))).encode()
        beam_files.write(path, zlib.compress(content, 1))
        return path

    @classmethod
    def read(cls, path: str) -> ShardDescription:
        """Read a staged file."""
        entries, rejected, invalid = json.loads(zlib.decompress(beam_files.read(path)))
        return cls(
            [RecordEntry(*entry) for entry in entries],
            [Rejected(*file) for file in rejected],
            frozenset(invalid),
        )

    def recordings(self) -> dict[str, list[int]]:
        """Return the positions of each recording's records, by recording id in the order of the file.

        The place of a recording in this order is its row: with the shard, it identifies the recording in the job.
        """
        positions: dict[str, list[int]] = {}
        for position, entry in enumerate(self.entries):
            positions.setdefault(entry.recording_id, []).append(position)
        return positions


class FinalShard(NamedTuple):
    """A shard's file as it is committed, what the manifest states of it, and its lines for the dataset's lists."""

    name: str
    path: str
    size_bytes: int  # 0 if nothing is left of it
    sha256: str
    inputs_sha256: str  # see `preprocessing.dataset.manifest.Shard`
    is_reusable: bool  # by a later job: False if it lost or took recordings to fill an empty split
    genres: dict[str, int]  # genre -> records
    recordings: int
    records: str  # path of a staged file: the shard's lines of records.jsonl, sorted as there
    quarantine: str  # path of a staged file: the shard's lines of quarantine.jsonl, sorted as there

    @property
    def split(self) -> str:
        """The split of the shard."""
        return split_of(self.name)


def finish_shard(
    name: str, written: tuple[str, int, str], description: ShardDescription, staging: str, is_reusable: bool
) -> FinalShard:
    """Write the lines of a shard from which nothing is to be dropped any more.

    Args:
        name: The name of the shard.
        written: What `ShardWriter.close` returned.
        description: Its entries, in the order of the file, and the files that were rejected.
        staging: The staging folder.
        is_reusable: See `FinalShard`.
    """
    entries, rejected, _ = description
    genres: dict[str, int] = {}
    for entry in entries:
        genres[entry.genre] = genres.get(entry.genre, 0) + 1
    inputs = "".join(
        f"{entry.track_id} {entry.source_sha256} {entry.license} {entry.attribution}".rstrip() + "\n"
        for entry in entries
    )
    return FinalShard(
        name,
        *written,
        inputs_sha256=hashlib.sha256(inputs.encode("utf-8", "surrogateescape")).hexdigest(),
        is_reusable=is_reusable,
        genres=genres,
        recordings=len({entry.recording_id for entry in entries}),
        records=write_lines(staging, f"{name}.records", sorted(entries)),
        quarantine=write_lines(staging, f"{name}.quarantine", sorted(set(rejected))),
    )


def write_lines(staging: str, name: str, rows: Iterable[RecordEntry] | Iterable[Rejected]) -> str:
    """Write one line of JSON per row to a staged file; return its path."""
    path = staged_path(staging, name)
    beam_files.write(path, "".join(f"{row.to_json()}\n" for row in rows).encode())
    return path


class ShardWriter:
    """A staged shard file that records are appended to."""

    def __init__(self, staging: str, name: str) -> None:
        self.path = staged_path(staging, name)
        self.size_bytes = 0
        self._digest = hashlib.sha256()
        self._stream = beam_files.create(self.path)

    def append(self, framed: bytes) -> None:
        """Append one TFRecord."""
        self._stream.write(framed)
        self._digest.update(framed)
        self.size_bytes += len(framed)

    def close(self) -> tuple[str, int, str]:
        """Finish the file; return its path, size in bytes and SHA-256."""
        self._stream.close()
        return self.path, self.size_bytes, self._digest.hexdigest()


_closed: set[str] = set()


def close_staging(staging: str) -> None:
    """Let the threads of this process stage no more files: those of a stopped job go on until the process ends."""
    _closed.add(staging)


def staged_path(staging: str, name: str) -> str:
    """Return an unused path for a staged file.

    Raises:
        StoppedError: The job has ended (exit code 75).
    """
    if staging in _closed:
        raise StoppedError("the job has been stopped: run the same command again")
    # Unique: a retried or duplicated attempt writes a second file, and the commit takes exactly one of them.
    return beam_files.join(staging, f"{time.time_ns():x}-{name}")


def split_of(shard_name: str) -> str:
    """Return the split of a shard."""
    return shard_name.partition("-")[0]
