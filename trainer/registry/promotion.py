"""Decide whether a candidate replaces the champion: metrics, gains and the criteria. Standard library only.

Every metric is converted to an error: at least 0, and lower is better. The gain of a candidate in a metric is
the part of the champion's error that it removes: 0.02 is 2% less error, -0.05 is 5% more. Gains of all metrics
can be compared with one threshold, whatever their units are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

PROMOTED, REFUSED, UNCHANGED = "promoted", "refused", "unchanged"
STALE = "stale"  # unchanged, but only because no preprocessing job has succeeded for too long
SILENCE_SNR_DB = 0.0  # a first candidate must reconstruct better than silence

Figures = dict[str, float]  # the value of each of `METRICS`


class Metric(NamedTuple):
    """A metric that models are compared by; `error` converts its value to an error."""

    title: str
    unit: str
    error: Callable[[float], float]


METRICS = {
    # An amplitude ratio: 1 dB of SNR is 11% of the error.
    "snr_db": Metric("Reconstruction, signal-to-noise ratio", "dB", lambda db: 10 ** (-db / 20)),
    "stft_distance": Metric("Reconstruction, STFT distance", "", lambda distance: distance),
    "log_mel_distance_db": Metric("Reconstruction, log-mel distance", "dB", lambda distance: distance),
    # The Fréchet distance is a squared distance.
    "frechet_log_mel": Metric(
        "Generation, Fr\u00e9chet log-mel distance", "", lambda square: math.sqrt(max(square, 0.0))
    ),
    "musical_distance": Metric("Generation, distance of musical statistics", "", lambda distance: distance),
}


class Criteria(NamedTuple):
    """When a candidate is promoted."""

    metric: str = "snr_db"  # the metric that must gain
    min_gain: float = 0.02  # smallest gain in it on the first set of clips
    max_loss: float = 0.1  # largest loss in any metric on any set of clips


@dataclass(frozen=True)
class SetComparison:
    """The metrics of champion and candidate on one set of held-out clips."""

    name: str
    dataset: str  # digest
    clips: int
    champion: Figures | None  # None: there is no champion yet
    candidate: Figures

    def gains(self) -> Figures:
        """Compute the gain in each metric; there must be a champion."""
        assert self.champion is not None
        return {name: gain(name, self.champion[name], self.candidate[name]) for name in METRICS}

    def to_json(self) -> dict[str, Any]:
        """Return the entry of `promotion.json`."""
        return {**asdict(self), "gains": self.gains() if self.champion else None}


def decide(comparisons: list[SetComparison], criteria: Criteria) -> tuple[bool, str]:
    """Return whether the candidate is promoted, and the reason as a sentence.

    The chosen metric must gain on the first set; no metric may lose too much on any set.
    """
    first = comparisons[0]
    if first.champion is None:
        return _decide_without_champion(first.candidate)
    metric, min_gain, max_loss = criteria
    achieved = first.gains()[metric]
    losses = [
        f"{describe_gain(value)} in {name} on {comparison.name}"
        for comparison in comparisons
        for name, value in comparison.gains().items()
        if value < -max_loss
    ]
    reason = (
        f"{describe_gain(achieved)} in {metric} on {first.name}; at least {min_gain:.1%} less is required"
    )
    if losses:
        reason += f"; losses above the allowed {max_loss:.1%}: {', '.join(losses)}"
    return achieved >= min_gain and not losses, reason


def gain(name: str, champion: float, candidate: float) -> float:
    """Return the part of the champion's error in a metric that the candidate removes; negative is a loss.

    NaN and infinite values count as an infinite error: of the candidate they are an infinite loss, of the
    champion alone an infinite gain.
    """
    before, after = (_error(name, value) for value in (champion, candidate))
    if not math.isfinite(after):
        return -math.inf
    if not math.isfinite(before):
        return math.inf
    if before == 0:
        return 0.0 if after == 0 else -math.inf
    return 1 - after / before


def describe_gain(value: float) -> str:
    """Describe a gain or a loss in words, for example "3.4% less error"."""
    if not math.isfinite(value):
        return "a finite error instead of none" if value > 0 else "no finite error"
    return f"{abs(value):.1%} {'less' if value >= 0 else 'more'} error"


def _error(name: str, value: float) -> float:
    return METRICS[name].error(value) if math.isfinite(value) else math.inf


def _decide_without_champion(figures: Figures) -> tuple[bool, str]:
    not_finite = [name for name, value in figures.items() if not math.isfinite(value)]
    if not_finite:
        return False, f"there is no champion yet, but the candidate's {', '.join(not_finite)} is not finite"
    snr_db = figures["snr_db"]
    comparison = f"{snr_db:.2f} dB of signal-to-noise ratio; silence has {SILENCE_SNR_DB:g} dB"
    return (
        snr_db > SILENCE_SNR_DB,
        f"there is no champion yet, and the candidate reconstructs with {comparison}",
    )
