"""What may be replaced in an output folder: only files that a job has written, which their content shows."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable

from google.protobuf.message import DecodeError

from preprocessing.dataset import example, tfrecord
from preprocessing.dataset.manifest import LATEST_NAME, MANIFEST_NAME, parse_latest
from preprocessing.dataset.quarantine import QUARANTINE_NAME, Rejected
from preprocessing.dataset.records import RECORDS_NAME, RecordEntry
from preprocessing.dataset.splits import SPLITS
from preprocessing.errors import CommandError, UsageError
from preprocessing.storage import beam_files

SHARD_PATTERNS = tuple(f"{split}-?????-of-?????.tfrecord" for split in SPLITS)


def check_output(output: str) -> None:
    """Raise if a job would replace or delete a file in the folder that no job has written.

    A corrupt file counts as written by a job if `dataset.json` or `records.jsonl` are.

    Raises:
        CommandError: There is such a file (exit code 2).
    """
    contents = {
        name: beam_files.read(uri)
        for name in _RECOGNIZERS
        if beam_files.exists(uri := beam_files.join(output, name))
    }
    own = {name for name, content in contents.items() if _is_own(name, content)}
    if not own & {MANIFEST_NAME, RECORDS_NAME}:
        for name in sorted(contents.keys() - own):
            raise foreign_file_error("output", beam_files.join(output, name))
    listed = _listed_shards(contents.get(MANIFEST_NAME, b""))
    for uri in find_shards(output):
        if uri.rpartition("/")[2] not in listed and not _is_own_shard(uri):
            raise foreign_file_error("output", uri)


def find_shards(folder: str) -> list[str]:
    """Return the files whose names are those of shards."""
    patterns = (f"{split}-?????-of-?????.tfrecord" for split in SPLITS)
    found = (beam_files.find(beam_files.join(beam_files.literal(folder), pattern)) for pattern in patterns)
    return [file.path for files in found for file in files]


def foreign_file_error(argument: str, uri: str) -> CommandError:
    """Return the error for a file that would be replaced, although this program has not written it (exit code 2)."""
    return UsageError(
        f"`{argument}`: {uri} is not a file that this command has written: move it away, or choose another place"
    )


def _is_own(name: str, content: bytes) -> bool:
    try:
        return bool(_RECOGNIZERS[name](content))
    except (ValueError, TypeError, KeyError, AttributeError):
        return False


def _is_own_shard(uri: str) -> bool:
    try:
        with beam_files.open_stream(uri) as stream:
            for payload in itertools.islice(tfrecord.read_frames(stream), 1):
                example.decode(payload)
    except (tfrecord.CorruptRecordError, DecodeError, LookupError, ValueError):
        return False
    return True


def _listed_shards(manifest: bytes) -> set[str]:
    try:
        return {shard["name"] for shard in json.loads(manifest)["shards"]}
    except (ValueError, TypeError, KeyError):
        return set()


def _lines_of(parse: Callable[[str], object]) -> Callable[[bytes], bool]:
    def is_own(content: bytes) -> bool:
        lines = content.decode().splitlines()
        return not lines or parse(lines[0]) is not None

    return is_own


_RECOGNIZERS: dict[str, Callable[[bytes], object]] = {
    MANIFEST_NAME: lambda content: "schema_version" in json.loads(content),
    RECORDS_NAME: _lines_of(RecordEntry.from_json),
    QUARANTINE_NAME: _lines_of(Rejected.from_json),
    LATEST_NAME: lambda content: parse_latest(content),
}
