"""The options of `generate` and their defaults. It imports no TensorFlow, so that the CLI can read them."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from preprocessing.errors import UsageError
from trainer.config import BEST, GUIDANCE, MAX_GUIDANCE, MAX_SEED, MAX_TEMPERATURE

TEMPERATURE = 1.0  # samples the prior as it was trained
MAX_SECS = 3_600.0  # of new and continued clips: memory grows with it
NOISE_SCALE = 0.5  # of a variation, in standard deviations of the prior: the source stays recognizable
MAX_NOISE_SCALE = 10.0  # of a variation: nothing of the source is left
INTERPOLATION_STEPS = 5  # clips of an interpolation, both ends included
MAX_ABS_SAMPLE = 10.0  # of source clips: more is no overshoot, but another scale
OUTPUT_RATES_HZ = (1_000, 192_000)
INTEGERS = ("count", "seed", "steps", "output_rate_hz")
RANGES: dict[str, tuple[float, float]] = {
    "count": (1, math.inf),
    "seed": (0, MAX_SEED),
    "steps": (2, math.inf),
    "output_rate_hz": OUTPUT_RATES_HZ,
    "temperature": (0, MAX_TEMPERATURE),
    "guidance": (0, MAX_GUIDANCE),
    "noise_scale": (0, MAX_NOISE_SCALE),
    "secs": (0, MAX_SECS),
}


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

    def __post_init__(self) -> None:
        """Check numbers, which a recipe or a caller may have set to anything.

        Raises:
            UsageError: One of them has another type, or is out of range.
        """
        check_numbers(**{name: getattr(self, name) for name in RANGES})
        if not isinstance(self.attributes, Mapping):
            raise UsageError(f"`attributes` must be names with values, not {self.attributes!r}")
        for name in ("genre", "to_genre", "key", "data"):
            if not isinstance(getattr(self, name), str | None):
                raise UsageError(f"`{name}` must be text, not {getattr(self, name)!r}")


def check_numbers(**options: Any) -> None:
    """Raise `UsageError` if an option is no number, or is not in `RANGES`; None is accepted."""
    for name, value in options.items():
        low, high = RANGES[name]
        kind, described = (numbers.Integral, "an integer") if name in INTEGERS else (numbers.Real, "a number")
        is_number = isinstance(value, kind) and not isinstance(value, bool)
        if value is None or (is_number and low <= float(value) <= high):
            continue
        bounds = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:.10g}"
        raise UsageError(f"`{name}` must be {described} {bounds}, not {value!r}")
