"""The options of a preprocessing job: frozen dataclasses, validated when they are created."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass
from typing import Any

from preprocessing.errors import UsageError

GTZAN_RATE_HZ = 22_050
MIN_SOURCE_RATE_HZ, MAX_SOURCE_RATE_HZ = 1_000, 768_000  # of an input file
MIN_RATE_HZ, MAX_RATE_HZ = 100, 192_000  # of the records
MAX_CLIP_SECS = 3_600
MIN_HOP_SECS = 0.1  # a shorter hop would cut a long recording into hundreds of thousands of clips
MAX_CLIP_SAMPLES = 100_000_000  # 400 MB a record, within the 2 GB limit of a tf.train.Example


def default_clip_samples(sample_rate_hz: int, clip_secs: float) -> int:
    """Return the number of samples that `librosa.load` returns for `clip_secs` of a GTZAN file.

    librosa takes the ceiling of `samples * (target rate / source rate)`. In floating point, 30 s at GTZAN's
    22,050 Hz resampled to 3,000 Hz come to slightly more than 90,000, so the clip has 90,001 samples, the input
    width of the reference model.
    """
    return math.ceil(clip_secs * GTZAN_RATE_HZ * (sample_rate_hz / GTZAN_RATE_HZ))


@dataclass(frozen=True)
class AudioFormat:
    """The shape of every record of a dataset, and how recordings are cut into records.

    A record is mono, `clip_samples` values at `sample_rate_hz`, zero-padded. With `hop_secs` a recording
    gives a clip every `hop_secs`, without it only the first one. A clip shorter than `min_secs` is dropped,
    and a recording longer than `max_secs` is rejected.
    """

    sample_rate_hz: int = 3_000
    clip_secs: float = 30.0
    clip_samples: int = 90_001
    hop_secs: float | None = None
    min_secs: float = 1.0
    max_secs: float = 14_400.0

    def __post_init__(self) -> None:
        if not MIN_RATE_HZ <= self.sample_rate_hz <= MAX_RATE_HZ:
            raise UsageError(
                f"`sample_rate_hz` must be from {MIN_RATE_HZ} to {MAX_RATE_HZ}, not {self.sample_rate_hz}",
            )
        if not 0 < self.clip_secs <= MAX_CLIP_SECS:
            raise UsageError(f"`clip_secs` must be above 0 and at most {MAX_CLIP_SECS}, not {self.clip_secs}")
        if self.hop_secs is not None and not MIN_HOP_SECS <= self.hop_secs <= MAX_CLIP_SECS:
            raise UsageError(
                f"`hop_secs` must be from {MIN_HOP_SECS} to {MAX_CLIP_SECS}, not {self.hop_secs}"
            )
        if not 0 <= self.min_secs <= self.clip_secs <= self.max_secs < math.inf:
            raise UsageError(
                f"`min_secs` ({self.min_secs:g}), `clip_secs` ({self.clip_secs:g}) and `max_secs` "
                f"({self.max_secs:g}) must be in ascending order",
            )
        if not 1 <= self.clip_samples <= MAX_CLIP_SAMPLES:
            raise UsageError(f"`clip_samples` must be from 1 to {MAX_CLIP_SAMPLES}, not {self.clip_samples}")


@dataclass(frozen=True)
class Options:
    """A preprocessing job. `input` and `output` are local paths or `gs://bucket/prefix`."""

    input: str
    output: str
    genres: tuple[str, ...] = ()  # empty: all
    split: str = "hash"
    shards: int = 8  # of the training split; the others get an eighth each, at least one
    audio: AudioFormat = AudioFormat()
    versioned: bool = False  # write <output>/<digest>/ and point <output>/LATEST to it
    max_bad_fraction: float = 0.1  # of the recordings; above it, no dataset is written
    exclusions: tuple[str, ...] = ()  # see `preprocessing.sources.exclusions.read_exclusions`

    def __post_init__(self) -> None:
        if not self.input or not self.output:
            raise UsageError("`input` and `output` must not be empty")
        if self.shards < 1:
            raise UsageError(f"`shards` must be at least 1, not {self.shards}")
        if not 0 <= self.max_bad_fraction <= 1:
            raise UsageError(f"`max_bad_fraction` must be from 0 to 1, not {self.max_bad_fraction}")

    def content_options(self) -> dict[str, Any]:
        """Return the options that determine the dataset's content, and so are part of its digest."""
        return {
            "genres": sorted(set(self.genres)),
            "split": self.split,
            "shards": self.shards,
            "exclusions_sha256": self._exclusions_sha256(),
            **asdict(self.audio),
        }

    def _exclusions_sha256(self) -> str:
        """Return a digest of the exclusions, whose names a dataset need not tell; empty if there are none."""
        text = "\n".join(self.exclusions)
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest() if text else ""
