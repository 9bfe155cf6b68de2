"""`quarantine.jsonl`: one line per file that did not become a record, with the reason why."""

from __future__ import annotations

import json
from typing import NamedTuple

from preprocessing.options import MAX_SOURCE_RATE_HZ, MIN_SOURCE_RATE_HZ

QUARANTINE_NAME = "quarantine.jsonl"

REASONS = {
    "empty_file": "The file has no bytes.",
    "not_audio": "The content is not in any known audio format.",
    "unsupported_codec": "The file is audio or a media container, but its format or codec is not supported.",
    "corrupt": "The format is known, but decoding fails before the minimum clip length is reached.",
    "no_samples": "The file has a header but no samples.",
    "zero_channels": "The header declares zero channels.",
    "absurd_rate": f"The sample rate is below {MIN_SOURCE_RATE_HZ:,} Hz or above {MAX_SOURCE_RATE_HZ:,} Hz.",
    "too_short": "The file is complete, but shorter than the minimum clip length.",
    "truncated": "The file ends before the length its header declares, and before the minimum clip length.",
    "too_long": "The recording is longer than the maximum length.",
    "non_finite": "The part to be used has NaN or infinite samples.",
    "unknown_scale": "The float samples are so large that their full scale is unknown: write them as -1 to 1.",
    "silent": "The part to be used is silent, or constant, throughout.",
    "partly_read": "The file is a recording of the dataset, but a part of it cannot be decoded and is left out.",
    "excluded": "The list of --exclude names the file, its folder, its recording or its content.",
    "duplicate": "The recording is the same as that of another file; the first file by name is kept.",
    "other_file": "The file is not audio, and its name does not claim so.",
    "hidden": "The name of the file or folder begins with a dot, or it is metadata of macOS; rename it to use it.",
    "superseded": "A later member of the archive has the same name; as in tar and unzip, that one is used.",
    "no_class": "The file is not in a folder whose name would be its class.",
    "bad_class_name": "The folder's name is not valid UTF-8 text, so it cannot be a class; rename it.",
    "not_a_file": "The entry is a device, a pipe or a socket.",
    "broken_link": "The link has no target, or one outside of its archive.",
    "looping_link": "The symbolic link points to a folder that contains the link.",
    "missing": "The file is in the input list but does not exist.",
    "unsupported_storage": "The input list names a storage system that is not supported; use local paths or gs://.",
    "no_permission": "The file cannot be read for lack of permission.",
    "unreadable": "Reading failed in the file system or object storage; the next run tries again.",
    "corrupt_archive": "The archive, or this file in it, is corrupt or cut off; the files before the fault are used.",
    "not_archive": "The name is that of an archive, but the content is something else; obtain the file again.",
    "unsupported_archive": "The archive's format or compression is not supported, or it is in another one; unpack it.",
    "encrypted": "The file in the archive is encrypted; unpack the archive with its password.",
    "unsafe_path": "The path in the archive leads outside of the archive, or through another file.",
}
# They are no reason to doubt the input as a whole.
HARMLESS_REASONS = ("partly_read", "excluded", "duplicate", "other_file", "hidden", "superseded")


class Rejected(NamedTuple):
    """One line: a file that was left out."""

    uri: str
    reason: str  # a key of `REASONS`
    detail: str

    def to_json(self) -> str:
        """Serialize to one line of JSON, without the newline."""
        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, line: str) -> Rejected:
        """Parse one line.

        Raises:
            ValueError: The line is not JSON.
            TypeError: It lacks a field or has an unknown one.
        """
        return cls(**json.loads(line))


def bad_fraction(recordings: int, reasons: dict[str, int]) -> float:
    """Return the fraction of recordings that were rejected.

    Args:
        recordings: The number of recordings in the dataset.
        reasons: The number of rejected files by reason; `HARMLESS_REASONS` do not count.
    """
    bad = sum(count for reason, count in reasons.items() if reason not in HARMLESS_REASONS)
    return bad / (bad + recordings) if bad else 0.0
