"""The options of `generate` and their defaults. Standard library only, so that the CLI can read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trainer.config import BEST, GUIDANCE

TEMPERATURE = 1.0  # samples the prior as it was trained
MAX_SECS = 3_600.0  # of new and continued clips: memory grows with it
NOISE_SCALE = 0.5  # of a variation, in standard deviations of the prior: the source stays recognizable
INTERPOLATION_STEPS = 5  # clips of an interpolation, both ends included


@dataclass(frozen=True)
class Options:
    """What to generate, and how.

    Conditions (`genre`, `to_genre`, `attributes`, `key`) that are None or missing stay unspecified.
    """

    modes: tuple[str, ...] = ()  # of trainer.config.MODES; empty: all modes of the model
    count: int = 4  # clips of each mode, except `interpolate`
    seed: int = 0  # of all random numbers
    genre: str | None = None  # of new clips and of source clips; None: the run's genres in turn
    to_genre: str | None = None  # of transferred clips; None: the genre after the source clip's
    attributes: Mapping[str, float] = field(default_factory=dict)  # of new and continued clips, name -> value
    key: str | None = None  # of new and continued clips, such as "A minor"
    secs: float | None = None  # length of new and continued clips; None: as in training
    temperature: float = TEMPERATURE
    guidance: float = GUIDANCE  # scale of the condition; 1 is as in training
    noise_scale: float = NOISE_SCALE
    steps: int = INTERPOLATION_STEPS
    checkpoint: str = BEST  # or `NEWEST`
    # Source clips: files, of the genre `genre`, and names of test clips; empty: `count` of the test clips.
    sources: tuple[str, ...] = ()
    data: str | None = None  # dataset of the test clips; None: the run's fixed ones
    output_rate_hz: int | None = None  # sample rate of the WAV files; None: the model's
