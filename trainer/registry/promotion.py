"""Whether a candidate is better: the metrics, which way each is better, and what is gain and what is loss.

Every metric is turned into an error, which is at least 0 and of which less is better. A gain is the part of
the champion's error that the candidate is rid of: 0.02 is 2% less error, -0.05 is 5% more. So one number
serves for all metrics, whatever their unit. Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

NAME = "promotion.json"
PROMOTED, REFUSED, UNCHANGED = "promoted", "refused", "unchanged"

Figures = dict[str, float]  # one for each of `METRICS`


class Metric(NamedTuple):
    """A figure by which models are compared."""

    title: str
    unit: str
    error: Callable[[float], float]


METRICS = {
    # An amplitude: 1 dB of SNR is 11% of the error's.
    "snr_db": Metric("Reconstruction, signal-to-noise", "dB", lambda db: 10 ** (-db / 20)),
    "stft_distance": Metric("Reconstruction, STFT distance", "", lambda distance: distance),
    "log_mel_distance_db": Metric("Reconstruction, log-mel distance", "dB", lambda distance: distance),
    # The Fréchet distance is a square.
    "frechet_log_mel": Metric(
        "New music, Fr\u00e9chet log-mel distance", "", lambda square: math.sqrt(max(square, 0.0))
    ),
}
FLOOR_SNR_DB = 0.0  # of silence: a first candidate must reconstruct better than that


class Criteria(NamedTuple):
    """When a candidate is promoted."""

    metric: str = "snr_db"  # the one that must gain
    min_gain: float = 0.02  # at least so much, as a part of the champion's error
    max_loss: float = 0.1  # and no metric may lose more than this


class Compared(NamedTuple):
    """What was measured on one set of held-out clips."""

    what: str
    dataset: str  # its digest
    clips: int
    champion: Figures | None  # None: there is none yet
    candidate: Figures

    def gains(self) -> Figures:
        """Of each metric."""
        return {name: gain(name, self.champion[name], self.candidate[name]) for name in METRICS}

    def to_json(self) -> dict[str, Any]:
        """As `verdict.json` holds it."""
        return {**self._asdict(), "gains": self.gains() if self.champion else None}


def gain(name: str, champion: float, candidate: float) -> float:
    """The part of the champion's error in a metric that the candidate is rid of; below 0 it has more.

    What is no number is worse than any: a candidate's is a loss without end, a champion's alone a gain.
    """
    before, after = (_error(name, value) for value in (champion, candidate))
    if not math.isfinite(after):
        return -math.inf
    if not math.isfinite(before):
        return math.inf
    if before == 0:
        return 0.0 if after == 0 else -math.inf
    return 1 - after / before


def _error(name: str, value: float) -> float:
    return METRICS[name].error(value) if math.isfinite(value) else math.inf


def decide(sets: list[Compared], criteria: Criteria) -> tuple[bool, str]:
    """Whether the candidate is to be promoted, and why, in a sentence.

    The first set is the one that the chosen metric must gain on; on none may anything lose too much.
    """
    if sets[0].champion is None:
        return _above_the_floor(sets[0].candidate)
    name, least, most = criteria
    gained = sets[0].gains()[name]
    losses = [
        f"{said(value)} in {metric} on {one.what}"
        for one in sets
        for metric, value in one.gains().items()
        if value < -most
    ]
    enough = gained >= least
    reason = f"{said(gained)} in {name} on {sets[0].what}, where {least:.1%} less is needed"
    if losses:
        reason += f"; more is lost than the {most:.1%} allowed: {', '.join(losses)}"
    return enough and not losses, reason


def _above_the_floor(figures: Figures) -> tuple[bool, str]:
    broken = [name for name, value in figures.items() if not math.isfinite(value)]
    if broken:
        return False, f"there is no champion yet, but the candidate's {', '.join(broken)} is no number"
    snr_db = figures["snr_db"]
    compared = f"a reconstruction of {snr_db:.2f} dB, where silence has {FLOOR_SNR_DB:g} dB"
    return snr_db > FLOOR_SNR_DB, f"there is no champion yet, and the candidate has {compared}"


def said(value: float) -> str:
    """A gain or loss for a reader."""
    if not math.isfinite(value):
        return "no error that could be measured before" if value > 0 else "no error that can be measured"
    return f"{abs(value):.1%} {'less' if value >= 0 else 'more'} error"


def without_nan(value: Any) -> Any:
    """The same for strict JSON: what is no finite number is null."""
    if isinstance(value, dict):
        return {name: without_nan(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
