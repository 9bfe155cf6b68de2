import math

import numpy as np
import pytest

from preprocessing.features.attributes import measure

RATE_HZ = 3_000


def clicks(bpm, secs=12.0, rate_hz=RATE_HZ):
    """Return a decaying tone on every beat."""
    time_secs = np.arange(round(secs * rate_hz)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * 300 * time_secs) * np.exp(-10 * (time_secs * bpm / 60 % 1))).astype(
        np.float32
    )


def tone(hz, level=0.5, rate_hz=RATE_HZ):
    return (level * np.sin(2 * np.pi * hz * np.arange(4 * rate_hz) / rate_hz)).astype(np.float32)


def test_loudness_of_a_sine_is_three_decibels_below_its_peak():
    assert measure(tone(300, 0.5), RATE_HZ).loudness_db == pytest.approx(
        20 * math.log10(0.5) - 3.0103, abs=0.01
    )


@pytest.mark.parametrize("rate_hz", [3_000, 22_050])
@pytest.mark.parametrize("hz", [200.0, 800.0])
def test_brightness_of_a_sine_is_its_frequency(hz, rate_hz):
    assert measure(tone(hz, rate_hz=rate_hz), rate_hz).centroid_hz == pytest.approx(hz, rel=0.1)


@pytest.mark.parametrize("rate_hz", [3_000, 22_050])
@pytest.mark.parametrize("bpm", [80.0, 100.0, 128.0, 160.0])
def test_tempo_of_clicks_is_their_rate(bpm, rate_hz):
    assert measure(clicks(bpm, rate_hz=rate_hz), rate_hz).tempo_bpm == pytest.approx(bpm, rel=0.04)


@pytest.mark.parametrize("rate_hz", [3_000, 22_050])
def test_the_beat_of_clicks_is_clear_and_that_of_noise_is_not(rate_hz):
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, 12 * rate_hz).astype(np.float32)
    regular = clicks(120, rate_hz=rate_hz)
    assert measure(regular, rate_hz).beat_clarity > 0.9
    assert measure(noise, rate_hz).beat_clarity < 0.35
    mixed = measure(0.5 * regular + noise, rate_hz).beat_clarity
    assert measure(noise, rate_hz).beat_clarity < mixed < 0.9


def test_attributes_that_cannot_be_measured_are_nan():
    silence = measure(np.zeros(9_000, np.float32), RATE_HZ)
    assert silence.loudness_db == -100.0
    assert math.isnan(silence.centroid_hz)
    assert math.isnan(silence.tempo_bpm)
    assert math.isnan(silence.beat_clarity)
    assert measure(np.zeros(0, np.float32), RATE_HZ).loudness_db == -100.0
    short = measure(clicks(120, secs=0.5), RATE_HZ)
    assert math.isnan(short.tempo_bpm)
    assert math.isnan(short.beat_clarity)
