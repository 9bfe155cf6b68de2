"""`records.jsonl`: one line for each record of a dataset, in the order of their tracks.

What a reader wants to know of the clips without reading the audio: where each came from, which shard holds it
and what it sounds like. Also what a later job needs to reuse a shard. Standard library only.
"""

from __future__ import annotations

import json
from typing import NamedTuple

NAME = "records.jsonl"


class Entry(NamedTuple):
    """One record; numbers that cannot be measured are None."""

    track_id: str  # of the clip, e.g. jazz.00018, or jazz.00018@60 for the one that starts at 60 s
    recording_id: str  # of what it was cut from; the split depends on it alone
    genre: str
    split: str
    shard: str
    start_secs: float
    valid_samples: int  # before padding
    loudness_db: float | None
    centroid_hz: float | None
    tempo_bpm: float | None
    source_uri: str
    source_sha256: str
    fingerprint: str  # hexadecimal, of a recording's first clip; see `preprocessing.features.fingerprint`

    def to_json(self) -> str:
        """One line."""
        return json.dumps(self._asdict(), sort_keys=True)


def from_json(line: str) -> Entry:
    """The inverse of `Entry.to_json`."""
    return Entry(**json.loads(line))
