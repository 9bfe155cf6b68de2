"""`quarantine.jsonl`: one line for each file that was left out, and what the reasons mean."""

from __future__ import annotations

import json
from typing import NamedTuple

from preprocessing.options import HIGHEST_RATE_HZ, LOWEST_RATE_HZ

REASONS = {
    "empty_file": "The file has no bytes.",
    "not_audio": "Its content is no audio that anyone knows.",
    "unsupported_codec": "It is audio or a media container, but of a kind that cannot be decoded here.",
    "damaged": "It is of a known kind, but cannot be decoded, or not as far as the shortest clip.",
    "no_samples": "It has a header and no samples.",
    "zero_channels": "Its header says that it has no channels.",
    "absurd_rate": f"Its sample rate is below {LOWEST_RATE_HZ:,} Hz or above {HIGHEST_RATE_HZ:,} Hz.",
    "too_short": "It is whole, and shorter than the shortest clip.",
    "truncated": "Its header promises more than there is, and that is shorter than the shortest clip.",
    "false_header": "Its header promises more than the longest recording, and its bytes cannot hold that.",
    "too_long": "It is longer than the longest recording.",
    "non_finite": "There are NaN or infinite samples in what would be taken of it.",
    "silent": "All that would be taken of it is silence.",
    "duplicate": "It is the same recording as another file, which was kept: the first by name.",
    "other_file": "It is no audio and does not claim to be, or it is hidden.",
    "no_class": "It lies in no folder whose name would be its class.",
    "is_folder": "It is a folder that is named like an audio file.",
    "not_a_file": "It is a device, a pipe or a link in an archive.",
    "broken_link": "It is a link to what is not there.",
    "looping_link": "It is a link to a folder that it lies in.",
    "missing": "It is in the list, but not there.",
    "no_permission": "It may not be read.",
    "unreadable": "The file system or the storage failed when it was read; the next run tries again.",
    "damaged_archive": "The archive breaks off or is none; what comes before the damage is taken.",
    "unsafe_path": "Its name in the archive climbs out of it.",
}
NOT_BAD = ("duplicate", "other_file")  # nothing is wrong with them: there is only nothing to take


class Rejected(NamedTuple):
    """One line."""

    uri: str
    reason: str  # a key of `REASONS`
    detail: str

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(self._asdict())


def bad_fraction(recordings: int, reasons: dict[str, int]) -> float:
    """The part of all files that should have become records and did not."""
    bad = sum(count for reason, count in reasons.items() if reason not in NOT_BAD)
    return bad / (bad + recordings) if bad else 0.0
