"""What a preprocessing job can be told: one frozen dataclass, checked when it is made."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from preprocessing.errors import USAGE, CommandError

GTZAN_RATE_HZ = 22_050
MAX_CLIP_SECS = 3_600
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
    """The one shape every record of a dataset has: mono, `clip_samples` values at `sample_rate_hz`."""

    sample_rate_hz: int = 3_000
    clip_secs: float = 30.0
    clip_samples: int = 90_001

    def __post_init__(self) -> None:
        if not 100 <= self.sample_rate_hz <= 192_000:
            raise CommandError(
                f"--sample-rate-hz must be between 100 and 192000, not {self.sample_rate_hz}", USAGE
            )
        if not 0 < self.clip_secs <= MAX_CLIP_SECS:
            raise CommandError(
                f"--clip-secs must be above 0 and at most {MAX_CLIP_SECS}, not {self.clip_secs}", USAGE
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

    def __post_init__(self) -> None:
        if not self.input or not self.output:
            raise CommandError("--input and --output must not be empty", USAGE)
        if self.shards < 1:
            raise CommandError(f"--shards must be at least 1, not {self.shards}", USAGE)

    def that_shape_the_data(self) -> dict:
        """The options that change what is in the dataset, and so belong to its digest."""
        return {
            "genres": sorted(set(self.genres)),
            "split": self.split,
            "shards": self.shards,
            **asdict(self.audio),
        }
