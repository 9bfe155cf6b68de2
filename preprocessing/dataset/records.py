"""`records.jsonl`: one line per record of a dataset, sorted by track id.

It describes the clips without their audio: where each came from, which shard holds it, and its measured
attributes. A later job needs it to reuse a shard. Standard library only.
"""

from __future__ import annotations

import json
from typing import NamedTuple

RECORDS_NAME = "records.jsonl"


class RecordEntry(NamedTuple):
    """One line; attributes that cannot be measured, and a key that is not clear, are None."""

    track_id: str  # of the clip, e.g. jazz.00018, or jazz.00018@60 for the one that starts at 60 s
    recording_id: str  # of the recording that the clip was cut from; it alone determines the split
    genre: str
    split: str
    shard: str
    start_secs: float
    valid_samples: int  # before padding
    loudness_db: float | None
    centroid_hz: float | None
    tempo_bpm: float | None
    beat_clarity: float | None  # in [0, 1]
    key: str | None  # one of `keys.KEYS`
    key_clarity: float | None
    source_uri: str
    source_sha256: str
    fingerprint: str  # of a recording's first clip, else empty; see `preprocessing.features.fingerprint`
    license: str = ""  # as a `metadata.csv` or a LICENSE file beside the recording states it
    attribution: str = ""  # as a `metadata.csv` states it

    def to_json(self) -> str:
        """Serialize to one line of JSON, without the newline."""
        return json.dumps(self._asdict(), sort_keys=True)

    @classmethod
    def from_json(cls, line: str) -> RecordEntry:
        """Parse one line.

        Raises:
            ValueError: The line is not JSON.
            TypeError: It lacks a field or has an unknown one.
        """
        return cls(**json.loads(line))
