import math

import numpy as np
import pytest

from trainer.evaluation import metrics
from trainer.evaluation.musical_distances import (
    FLOOR,
    STATISTICS,
    comparison_row,
    floor_row,
    mean_distance,
    measure_clips,
)


@pytest.fixture
def real():
    return np.random.default_rng(0).normal(size=(200, len(STATISTICS)))


def test_the_distance_of_a_shift_is_the_shift_in_standard_deviations():
    values = np.random.default_rng(0).normal(5, 3, 1_000)
    assert metrics.spread_distance(values, values) == 0
    assert metrics.spread_distance(values, values + 6) == pytest.approx(6 / np.std(values))
    assert metrics.spread_distance(10 * values, 10 * values + 60) == pytest.approx(6 / np.std(values))
    doubled = 2 * values - values.mean()
    # The mean absolute deviation of a normal distribution, in its standard deviations.
    assert metrics.spread_distance(values, doubled) == pytest.approx(math.sqrt(2 / math.pi), rel=0.05)


def test_values_that_cannot_be_measured_are_ignored():
    values = np.array([1.0, 2.0, 3.0, math.nan])
    assert metrics.spread_distance(values, np.array([math.nan, 3.0, 1.0, 2.0])) == 0
    assert metrics.spread_distance(values, np.array([math.nan])) == math.inf
    assert math.isnan(metrics.spread_distance(np.full(3, math.nan), values))
    assert math.isnan(metrics.spread_distance(np.ones(3), values))
    assert math.isnan(metrics.spread_distance_floor(np.ones(3), 0))


def test_the_floor_is_the_distance_of_halves_and_shrinks_with_their_size(real):
    few, many = (metrics.spread_distance_floor(np.resize(real, size), 0) for size in (20, 1_000))
    assert 0 < many < 0.15 < few < 0.8
    assert metrics.spread_distance_floor(real[:, 0], 0) == metrics.spread_distance_floor(real[:, 0], 0)


def test_rows_have_every_distance_the_mean_and_the_medians(real):
    row = comparison_row("moved", real, real + np.arange(len(STATISTICS)))
    distances = [row[f"distance_of_{name}"] for name in STATISTICS]
    assert distances == pytest.approx(np.arange(len(STATISTICS)) / real.std(axis=0))
    assert row["mean_distance"] == pytest.approx(np.mean(distances))
    assert mean_distance(real, real + np.arange(len(STATISTICS))) == pytest.approx(np.mean(distances))
    assert row[f"median_{STATISTICS[1]}"] == pytest.approx(np.median(real[:, 1]) + 1)
    floor = floor_row(real, 0)
    assert floor.keys() == row.keys()
    assert floor["name"] == FLOOR
    assert 0 < floor["mean_distance"] < row["mean_distance"]


def test_a_statistic_that_real_clips_do_not_have_does_not_count(real):
    real[:, 0] = math.nan
    assert mean_distance(real, real + 1) == pytest.approx(np.mean(1 / real[:, 1:].std(axis=0)))
    row = comparison_row("moved", real, real + 1)
    assert row[f"distance_of_{STATISTICS[0]}"] is None
    assert row[f"median_{STATISTICS[0]}"] is None


def test_real_clips_without_any_statistic_say_nothing_of_others(real):
    assert mean_distance(np.full_like(real, math.nan), real) == 0
    assert mean_distance(real[:1], real) == 0


def test_silent_clips_are_infinitely_far_from_music(real):
    silence = measure_clips(np.zeros([2, 3_000], np.float32), 3_000)
    assert silence.shape == (2, len(STATISTICS))
    assert mean_distance(real, silence) == math.inf
