"""`quarantine.jsonl`: one line for each file that was left out, and what the reasons mean."""

from __future__ import annotations

import json
from typing import NamedTuple

from preprocessing.audio import decode

REASONS = {
    **decode.REASONS,
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
