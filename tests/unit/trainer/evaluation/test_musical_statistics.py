import math

import numpy as np
import pytest

from trainer.evaluation.musical_statistics import MusicalStatistics, measure

RATE_HZ = 3_000
SECS = 20.0
# Two chords and a scale of tones, in Hz.
C_MAJOR, F_SHARP_MAJOR = (261.6, 329.6, 392.0), (185.0, 233.1, 277.2)
SCALE = (220.0, 246.9, 277.2, 293.7, 329.6, 370.0, 415.3, 440.0)


def tone(hz, secs=SECS):
    """A tone with two overtones and an attack of 10 ms."""
    time_secs = np.arange(round(secs * RATE_HZ)) / RATE_HZ
    harmonics = sum(np.sin(2 * np.pi * hz * k * time_secs) / k for k in (1, 2, 3))
    return (0.1 * harmonics * np.minimum(1, time_secs / 0.01)).astype(np.float32)


def chord(notes, secs=SECS):
    return sum(tone(hz, secs) for hz in notes) / len(notes)


def noise(secs=SECS, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(round(secs * RATE_HZ))).astype(np.float32)


def clicks(periods_secs):
    """Noise bursts of 20 ms after each of the periods, on a quiet floor of noise."""
    audio = 0.02 * noise()
    for start in np.cumsum(periods_secs):
        first = round(start * RATE_HZ)
        burst = noise(0.02, seed=first)
        if first + len(burst) <= len(audio):
            audio[first : first + len(burst)] += burst
    return audio


def measured(audio):
    return measure(audio, RATE_HZ)


def test_noise_is_flat_and_tones_are_not():
    flat, tonal = measured(noise()), measured(chord(C_MAJOR))
    # The power of noise is exponentially distributed: the flatness is exp(-gamma), with Euler's constant gamma.
    assert flat.flatness_db == pytest.approx(-10 * np.euler_gamma / math.log(10), abs=0.1)
    assert tonal.flatness_db < -15
    assert tonal.strong_bin_share > 0.9
    assert flat.strong_bin_share < 0.25


def test_the_chroma_of_a_chord_is_more_concentrated_than_that_of_noise_and_less_than_of_one_tone():
    one, three, all_classes = (
        measured(audio).chroma_concentration for audio in (tone(220), chord(C_MAJOR), noise())
    )
    assert 1 >= one > three > all_classes >= 0
    assert three > 0.1
    assert all_classes < 0.02


@pytest.mark.parametrize("secs", [0.5, 1.0, 2.0])
def test_partials_last_as_long_as_their_tones(secs):
    melody = np.concatenate([tone(hz, secs) for _ in range(10) for hz in SCALE])[: round(SECS * RATE_HZ)]
    assert measured(melody).partial_duration_secs == pytest.approx(secs, rel=0.35)
    assert measured(noise()).partial_duration_secs < 0.3


def test_a_steady_pulse_is_strong_and_stable():
    steady = measured(clicks([0.5] * 40))
    assert steady.pulse_strength > 0.8
    assert steady.pulse_stability > 0.8
    random = measured(clicks(np.random.default_rng(0).uniform(0.1, 0.9, 60)))
    assert random.pulse_strength < 0.4
    # The period of the first half is not that of the second.
    changing = measured(clicks([0.5] * 20 + [0.39] * 26))
    assert random.pulse_stability < changing.pulse_stability < 0.7 * steady.pulse_stability


def test_what_returns_is_repetition_and_what_changes_is_novelty():
    verse, chorus = chord(C_MAJOR, 5), chord(F_SHARP_MAJOR, 5)
    song = measured(np.concatenate([verse, chorus, verse, chorus]))
    walk = measured(np.concatenate([tone(80 * 2 ** (second / 5), 1.0) for second in range(20)]))
    assert song.repetition > 0.95
    assert walk.repetition < 0.8 * song.repetition
    drifting = measured(np.concatenate([chord(C_MAJOR, 0.5), chord(F_SHARP_MAJOR, 0.5)] * 20))
    assert song.novelty > 1.5 * drifting.novelty


def test_the_loudness_range_is_that_of_the_level():
    halves = np.concatenate([tone(220, 10), 0.1 * tone(220, 10)])
    assert measured(halves).loudness_range_db == pytest.approx(20, abs=0.5)
    assert measured(tone(220)).loudness_range_db < 1


def test_levels_do_not_change_what_is_no_level():
    audio = clicks([0.5] * 40) + chord(C_MAJOR)
    np.testing.assert_allclose(measured(audio), measured(0.1 * audio), rtol=0.02, atol=0.02)


def test_silence_and_samples_that_are_nan_have_no_statistics_and_a_short_clip_no_pulse_and_no_form():
    assert all(math.isnan(value) for value in measured(np.zeros(RATE_HZ, np.float32)))
    assert all(math.isnan(value) for value in measured(np.zeros(0, np.float32)))
    assert all(math.isnan(value) for value in measured(np.full(RATE_HZ, np.nan, np.float32)))
    short = measured(tone(220, 1.0))._asdict()
    missing = {name for name, value in short.items() if math.isnan(value)}
    assert missing == {"pulse_strength", "pulse_stability", "repetition", "novelty"}


@pytest.mark.parametrize("rate_hz", [1_000, 8_000, 22_050])
def test_every_statistic_is_finite_at_any_sample_rate(rate_hz):
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, 15 * rate_hz).astype(np.float32)
    statistics = measure(audio, rate_hz)
    assert np.isfinite(statistics).all()
    assert len(statistics) == len(MusicalStatistics._fields)
