import math

import numpy as np
import pytest

from trainer.dsp.distances import si_sdr_db
from trainer.evaluation.metrics import (
    active_units,
    diversity,
    frechet_distance,
    key_agreement,
    nearest_distances,
    onset_correlation,
    rank_correlation,
)

RATE_HZ = 3_000


def tones(*hz, secs=2.0):
    time_secs = np.arange(round(secs * RATE_HZ)) / RATE_HZ
    return np.stack([np.sin(2 * np.pi * frequency * time_secs) for frequency in hz]).astype(np.float32)


def bursts(onsets_secs, secs=6.0):
    time_secs = np.arange(round(secs * RATE_HZ)) / RATE_HZ
    elapsed_secs = time_secs - np.asarray(onsets_secs)[:, np.newaxis]
    decays = np.where(elapsed_secs >= 0, np.exp(-10 * np.maximum(elapsed_secs, 0)), 0).sum(axis=0)
    return (0.5 * np.sin(2 * np.pi * 300 * time_secs) * decays).astype(np.float32)


def with_variances(variances):
    """Rows whose mean is 0 and whose covariance is exactly diagonal."""
    dims = len(variances)
    rows = np.concatenate([np.diag(np.sqrt(variances)), -np.diag(np.sqrt(variances))])
    return rows * math.sqrt((2 * dims - 1) / 2)


def test_si_sdr_of_orthogonal_noise_is_its_negative_level():
    signal, noise = tones(100, 200)
    for level_db in (-20.0, -40.0, 10.0):
        reconstruction = signal + 10 ** (level_db / 20) * noise
        assert si_sdr_db(signal[None], reconstruction[None])[0] == pytest.approx(-level_db, abs=0.01)


def test_si_sdr_does_not_depend_on_the_scale_of_either_side():
    clips, others = tones(100, 150), tones(101, 150) + 0.1 * tones(300, 400)
    expected = si_sdr_db(clips, others)
    np.testing.assert_allclose(si_sdr_db(clips, 0.01 * others), expected, atol=1e-3)
    np.testing.assert_allclose(si_sdr_db(0.3 * clips, -5 * others), expected, atol=1e-3)


def test_si_sdr_is_finite_for_silence_and_for_a_perfect_reconstruction():
    silence, tone = np.zeros((1, 6_000), np.float32), tones(100)
    for audio, reconstruction in [(silence, silence), (silence, tone), (tone, silence)]:
        assert si_sdr_db(audio, reconstruction) == pytest.approx(-100)
    assert si_sdr_db(tone, tone) == pytest.approx(100, abs=0.01)


def test_frechet_distance_of_diagonal_gaussians_matches_the_closed_form():
    variances, other_variances = np.array([1.0, 4.0, 0.25]), np.array([9.0, 1.0, 0.25])
    shift = np.array([1.0, -1.0, 1.0])
    expected = 3.0 + np.sum((np.sqrt(variances) - np.sqrt(other_variances)) ** 2)
    assert frechet_distance(
        with_variances(variances), with_variances(other_variances) + shift
    ) == pytest.approx(expected)
    assert frechet_distance(
        with_variances(other_variances) + shift, with_variances(variances)
    ) == pytest.approx(expected)


@pytest.mark.parametrize("rows", [5, 200])  # fewer than dims and more
def test_frechet_distance_of_equal_sets_is_zero_and_of_a_shift_its_square(rows):
    embeddings = np.random.default_rng(1).normal(size=(rows, 20)).astype(np.float32)
    assert frechet_distance(embeddings, embeddings) == pytest.approx(0, abs=1e-5)
    assert frechet_distance(embeddings, embeddings + np.float32(0.5)) == pytest.approx(20 * 0.25, rel=1e-4)


def test_frechet_distance_needs_two_rows():
    with pytest.raises(ValueError, match="two rows"):
        frechet_distance(np.zeros((1, 3)), np.zeros((9, 3)))


def test_nearest_distances_on_a_grid():
    grid = np.stack(np.meshgrid([0, 3, 6], [0, 4]), axis=-1).reshape(-1, 2)
    np.testing.assert_allclose(nearest_distances(grid, grid), 0)
    np.testing.assert_allclose(nearest_distances(grid, grid, leave_out_self=True), 3)
    np.testing.assert_allclose(nearest_distances(grid[:1], grid[[4, 5]]), [5])
    with pytest.raises(ValueError, match="left out"):
        nearest_distances(grid, grid[:2], leave_out_self=True)


def test_a_duplicate_row_has_distance_zero_even_if_the_row_itself_is_left_out():
    rows = np.array([[0.0, 0.0], [0.0, 0.0], [5.0, 0.0]])
    np.testing.assert_allclose(nearest_distances(rows, rows, leave_out_self=True), [0, 0, 5])


def test_diversity_is_the_mean_distance_between_different_rows():
    assert diversity(np.array([[0.0, 0.0], [3.0, 4.0]])) == 5
    assert diversity(np.array([[0.0], [1.0], [3.0]])) == pytest.approx(2)
    assert diversity(np.ones((4, 2))) == 0
    assert math.isnan(diversity(np.ones((1, 2))))


def test_active_units_are_those_whose_posterior_means_vary():
    signs = np.resize([1.0, -1.0], 100)[:, np.newaxis]
    assert active_units(signs * [0.0, 0.09, 0.11, 2.0] + [9, 9, 9, 9]) == 2


def test_rank_correlation_of_a_monotone_map_is_one():
    conditions = np.linspace(-2, 2, 9)
    assert rank_correlation(conditions, np.exp(conditions)) == pytest.approx(1)
    assert rank_correlation(conditions, -(conditions**3)) == pytest.approx(-1)


def test_rank_correlation_ignores_pairs_with_nan():
    assert rank_correlation([1, 2, 3, 4, 5], [10, math.nan, 20, 30, math.nan]) == pytest.approx(1)
    assert math.isnan(rank_correlation([1, 2, math.nan], [1, 2, 3]))
    assert math.isnan(rank_correlation([1, 2, 3], [7, 7, 7]))


def test_onsets_correlate_with_those_of_a_noisy_clip_but_not_of_a_shifted_one():
    onsets_secs = np.array([0.3, 1.1, 1.7, 2.8, 3.2, 4.5])
    clip, shifted = bursts(onsets_secs), bursts(onsets_secs + 0.25)
    noisy = clip + np.random.default_rng(0).normal(scale=1e-3, size=clip.shape).astype(np.float32)
    clips = np.stack([clip] * 3)
    same, with_noise, late = onset_correlation(clips, np.stack([clip, noisy, shifted]), RATE_HZ)
    assert same == pytest.approx(1)
    assert late < 0.3 < with_noise


def test_the_onset_correlation_with_silence_is_zero():
    clips = np.stack([bursts([0.5, 2.0]), np.zeros(18_000, np.float32)])
    np.testing.assert_array_equal(onset_correlation(clips, 0 * clips, RATE_HZ), [0, 0])


def test_keys_agree_exactly_or_as_related_ones_and_chance_is_that_of_all_pairs():
    asked = ["C major", "G major", "A minor", "F# major"]
    shares = key_agreement(asked, ["C major", "E minor", "A major", ""])
    assert shares["key_exact"] == 0.25
    assert shares["key_exact_or_related"] == 0.75
    assert shares["key_exact_by_chance"] == 1 / 16
    # C major is related to G major and A minor; E minor to G major and A minor; A major to A minor.
    assert shares["key_exact_or_related_by_chance"] == 6 / 16
    constant = key_agreement(asked, ["C major"] * 4)
    assert constant["key_exact"] == constant["key_exact_by_chance"] == 0.25
