"""What a preprocessing job can be told: one frozen dataclass, checked when it is made."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from preprocessing.errors import USAGE, CommandError

GTZAN_RATE_HZ = 22_050
LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1_000, 768_000  # of a source file
MAX_CLIP_SECS = 3_600
SMALLEST_HOP_SECS = 0.1  # of a long recording less would make a flood
MAX_CLIP_SAMPLES = 100_000_000  # 400 MB a record, within the 2 GB that a tf.train.Example may have


def default_clip_samples(sample_rate_hz: int, clip_secs: float) -> int:
    """Samples of a clip as `librosa.load` of a GTZAN file counts them.

    librosa takes the ceiling of `samples * (target rate / source rate)`. In floating point 30 s of GTZAN's
    22,050 Hz at 3,000 Hz come to a hair over 90,000, so the clip has 90,001 samples: the width of the
    reference model, kept for its sake.
    """
    return math.ceil(clip_secs * GTZAN_RATE_HZ * (sample_rate_hz / GTZAN_RATE_HZ))


@dataclass(frozen=True)
class AudioFormat:
    """The one shape every record of a dataset has, and what of a file becomes one.

    A record is mono, `clip_samples` values at `sample_rate_hz`. With `hop_secs` a recording gives a clip
    every so many seconds, else its first. Less than `min_secs` is no clip; more than `max_secs` is no
    recording.
    """

    sample_rate_hz: int = 3_000
    clip_secs: float = 30.0
    clip_samples: int = 90_001
    hop_secs: float | None = None
    min_secs: float = 1.0
    max_secs: float = 14_400.0

    def __post_init__(self) -> None:
        if not 100 <= self.sample_rate_hz <= 192_000:
            raise CommandError(
                f"--sample-rate-hz must be between 100 and 192000, not {self.sample_rate_hz}", USAGE
            )
        if not 0 < self.clip_secs <= MAX_CLIP_SECS:
            raise CommandError(
                f"--clip-secs must be above 0 and at most {MAX_CLIP_SECS}, not {self.clip_secs}", USAGE
            )
        if self.hop_secs is not None and not SMALLEST_HOP_SECS <= self.hop_secs <= MAX_CLIP_SECS:
            raise CommandError(
                f"--hop-secs must be {SMALLEST_HOP_SECS} to {MAX_CLIP_SECS}, not {self.hop_secs}", USAGE
            )
        if not 0 <= self.min_secs <= self.clip_secs <= self.max_secs < math.inf:
            raise CommandError(
                f"--min-secs {self.min_secs:g}, --clip-secs {self.clip_secs:g} and --max-secs "
                f"{self.max_secs:g} must be in this order",
                USAGE,
            )
        if not 1 <= self.clip_samples <= MAX_CLIP_SAMPLES:
            raise CommandError(
                f"--clip-samples must be 1 to {MAX_CLIP_SAMPLES}, not {self.clip_samples}", USAGE
            )


@dataclass(frozen=True)
class Options:
    """A job: `input` and `output` are a local path or `gs://bucket/prefix`; `genres` empty means all."""

    input: str
    output: str
    genres: tuple[str, ...] = ()
    split: str = "hash"
    shards: int = 8  # of the training split; the others get an eighth each, at least one
    audio: AudioFormat = AudioFormat()
    versioned: bool = False  # write <output>/<digest>/ and move <output>/LATEST to it
    max_bad_fraction: float = 0.1  # of the recordings; more bad ones, and there is no dataset

    def __post_init__(self) -> None:
        if not self.input or not self.output:
            raise CommandError("--input and --output must not be empty", USAGE)
        if self.shards < 1:
            raise CommandError(f"--shards must be at least 1, not {self.shards}", USAGE)
        if not 0 <= self.max_bad_fraction <= 1:
            raise CommandError(f"--max-bad-fraction must be 0 to 1, not {self.max_bad_fraction}", USAGE)

    def that_shape_the_data(self) -> dict:
        """The options that change what is in the dataset, and so belong to its digest."""
        return {
            "genres": sorted(set(self.genres)),
            "split": self.split,
            "shards": self.shards,
            **asdict(self.audio),
        }
