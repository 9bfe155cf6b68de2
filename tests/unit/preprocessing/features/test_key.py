import math

import numpy as np
import pytest

from preprocessing.dataset.keys import KEYS
from preprocessing.features.key import find_key

SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 11)}
CADENCES = {
    "major": ((0, (0, 4, 7)), (5, (0, 4, 7)), (7, (0, 4, 7)), (0, (0, 4, 7))),
    "minor": ((0, (0, 3, 7)), (5, (0, 3, 7)), (7, (0, 4, 7)), (0, (0, 3, 7))),
}


def tone(pitch, secs, rate_hz):
    """Return a decaying tone of six harmonics."""
    time_secs = np.arange(round(secs * rate_hz)) / rate_hz
    hz = 440 * 2 ** ((pitch - 69) / 12)
    harmonics = [number for number in range(1, 7) if number * hz < 0.45 * rate_hz]
    waves = sum(0.6**number * np.sin(2 * np.pi * number * hz * time_secs) for number in harmonics)
    return (0.2 * np.minimum(1, time_secs / 0.01) * np.exp(-2 * time_secs) * waves).astype(np.float32)


def scale(key, rate_hz, tuning=0.0):
    """Play a scale up and down."""
    lowest = 48 + KEYS.index(key) % 12 + tuning
    pitches = [*(lowest + step for step in SCALES[key.split()[1]]), lowest + 12]
    return np.concatenate([tone(pitch, 0.4, rate_hz) for pitch in pitches + pitches[::-1]])


def cadence(key, rate_hz, tuning=0.0):
    """Play the chords of tonic, subdominant, dominant and tonic."""
    tonic = KEYS.index(key) % 12
    return np.concatenate(
        [
            sum(tone(48 + (tonic + root) % 12 + step + tuning, 0.8, rate_hz) for step in chord)
            for root, chord in CADENCES[key.split()[1]]
        ]
    )


@pytest.mark.parametrize("rate_hz", [3_000, 22_050])
@pytest.mark.parametrize("tuning", [0.0, 0.3, -0.4], ids=lambda tuning: f"{100 * tuning:g}cents")
@pytest.mark.parametrize("play", [scale, cadence])
def test_every_key_is_found_in_any_tuning(play, tuning, rate_hz):
    assert [find_key(play(key, rate_hz, tuning), rate_hz).name for key in KEYS] == [*KEYS]


@pytest.mark.parametrize("rate_hz", [3_000, 22_050])
def test_noise_and_drums_have_no_key(rate_hz):
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, 30 * rate_hz).astype(np.float32)
    drums = noise * np.exp(-20 * (np.arange(len(noise)) / rate_hz % 0.5)).astype(np.float32)
    for sound in (noise, drums):
        key = find_key(sound, rate_hz)
        assert key.name == ""
        assert 0 <= key.clarity < 0.05


def test_a_drowned_key_is_less_clear():
    rng = np.random.default_rng(0)
    music = np.tile(cadence("E minor", 3_000), 4)
    noise = rng.normal(0, 0.02, len(music)).astype(np.float32)
    clear, noisy = find_key(music, 3_000), find_key(music + noise, 3_000)
    assert clear.name == noisy.name == "E minor"
    assert noisy.clarity < clear.clarity


def test_silence_has_no_key_and_short_clips_are_measured():
    for samples in (0, 100, 9_000):
        key = find_key(np.zeros(samples, np.float32), 3_000)
        assert key.name == ""
        assert math.isnan(key.clarity)
    assert (
        find_key(cadence("A major", 3_000)[:600], 3_000).clarity > 0
    )  # the first chord, shorter than a window


def test_a_rate_without_pitches_in_the_range_gives_no_key():
    noise = np.random.default_rng(0).normal(0, 0.1, 3_000).astype(np.float32)
    for rate_hz in (50, 100):
        key = find_key(noise, rate_hz)
        assert key.name == ""
        assert math.isnan(key.clarity)
