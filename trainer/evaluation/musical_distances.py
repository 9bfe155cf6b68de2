"""Compare the distributions of musical statistics over real and over other clips."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from trainer.evaluation import metrics
from trainer.evaluation.musical_statistics import MusicalStatistics, measure

FLOOR = "halves of real clips"
STATISTICS = MusicalStatistics._fields


def measure_clips(clips: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Measure `[clips, samples]`: `[clips, statistics]` float64, NaN where a statistic cannot be measured."""
    return np.array([measure(clip, sample_rate_hz) for clip in clips], np.float64)


def mean_distance(real: np.ndarray, other: np.ndarray) -> float:
    """Compute the mean of the distances of all statistics that the real clips have.

    Args:
        real: `[clips, statistics]`.
        other: `[m, statistics]`.

    Returns:
        The mean in standard deviations of the real clips: infinite where the other clips are silent, and 0 where the
        real ones are, which then say nothing of others.
    """
    mean = _mean_without_nan(_distances(real, other))
    return 0.0 if math.isnan(mean) else mean


def comparison_row(name: str, real: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """Return the distance of every statistic, their mean, and the medians of the other clips; None where unknown."""
    return _row(name, _distances(real, other), other)


def floor_row(real: np.ndarray, seed: int) -> dict[str, Any]:
    """Return the row of two halves of the real clips: the distances that chance alone gives."""
    return _row(FLOOR, [metrics.spread_distance_floor(column, seed) for column in real.T], real)


def _distances(real: np.ndarray, other: np.ndarray) -> list[float]:
    return [metrics.spread_distance(*columns) for columns in zip(real.T, other.T, strict=True)]


def _row(name: str, distances: list[float], values: np.ndarray) -> dict[str, Any]:
    row: dict[str, Any] = {"mean_distance": _mean_without_nan(distances)}
    row |= {f"distance_of_{statistic}": value for statistic, value in zip(STATISTICS, distances, strict=True)}
    row |= {
        f"median_{statistic}": _median(column) for statistic, column in zip(STATISTICS, values.T, strict=True)
    }
    return {"name": name, **{figure: None if math.isnan(value) else value for figure, value in row.items()}}


def _mean_without_nan(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _median(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else math.nan
