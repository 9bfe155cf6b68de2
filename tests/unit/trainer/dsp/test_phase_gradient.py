import math

import numpy as np
import pytest
import tensorflow as tf

from trainer.dsp import mdct, phase_gradient
from trainer.dsp.phase_gradient import Phases, integrate
from trainer.dsp.spanning_tree import wrap
from trainer.dsp.stft import (
    MAX_LOG_MAGNITUDE,
    MIN_LOG_MAGNITUDE,
    count_bins,
    log_magnitudes_of,
    pad_clip,
    stft,
)

HOP, SAMPLES, RATE_HZ = 32, 2_000, 1_000
FRAMES = mdct.count_frames(SAMPLES, HOP)
BINS = count_bins(HOP)
SECS = np.arange(SAMPLES) / RATE_HZ


def sweep(start_hz: float, hz_per_sec: float) -> np.ndarray:
    return np.sin(2 * np.pi * (start_hz + hz_per_sec * SECS / 2) * SECS)


def spectrum_of(*clips: np.ndarray) -> tf.Tensor:
    return stft(pad_clip(tf.constant(np.stack(clips), tf.float32), HOP, FRAMES), HOP)


def nothing_known(clips: int) -> Phases:
    noise = tf.random.stateless_uniform([1, FRAMES, BINS], [1, 2], -np.pi, np.pi)
    return Phases(noise, tf.zeros([clips, FRAMES, BINS]), tf.zeros([clips, FRAMES], tf.bool))


def turned(phase: tf.Tensor, spectrum: tf.Tensor) -> np.ndarray:
    """Difference from the true phases, `[frames, bins]`, between -pi and pi."""
    return wrap(phase - tf.math.angle(spectrum)[..., :-1]).numpy()[0]


def change(angles: np.ndarray, axis: int) -> np.ndarray:
    return wrap(tf.constant(np.diff(angles, axis=axis))).numpy()


@pytest.mark.parametrize(
    # The limit is in radians per frame: 0.02 are 0.1 Hz here, a 78th of a bin.
    ("start_hz", "hz_per_sec", "limit"),
    [(130.0, 0.0, 0.02), (317.3, 0.0, 0.02), (100.0, 80.0, 0.2)],
)
def test_the_phase_of_a_partial_advances_at_its_frequency(start_hz, hz_per_sec, limit):
    spectrum = spectrum_of(sweep(start_hz, hz_per_sec))
    errors = turned(integrate(log_magnitudes_of(spectrum, HOP), nothing_known(1)), spectrum)
    for frame in range(6, FRAMES - 8):
        loudest = np.abs(spectrum[0, frame]).argmax()
        assert abs(change(errors, axis=0)[frame, loudest]) < limit
        assert abs(change(errors, axis=1)[frame, loudest]) < 0.2


def test_an_impulse_has_its_phase_in_all_bins():
    impulse = np.zeros(SAMPLES)
    impulse[SAMPLES // 2] = 1.0
    spectrum = spectrum_of(impulse)
    errors = turned(integrate(log_magnitudes_of(spectrum, HOP), nothing_known(1)), spectrum)
    loudest = np.abs(spectrum[0, :, 10]).argmax()
    assert np.abs(change(errors, axis=1)[loudest]).max() < 0.5  # radians per bin: 10 of 128 samples


def test_phases_go_on_from_known_ones():
    spectrum = spectrum_of(sweep(130.0, 0.0))
    is_known = tf.reshape(tf.range(FRAMES) < FRAMES // 2, [1, FRAMES])
    given = nothing_known(1)._replace(known=tf.math.angle(spectrum)[..., :-1], is_known=is_known)
    errors = turned(integrate(log_magnitudes_of(spectrum, HOP), given), spectrum)
    np.testing.assert_allclose(errors[: FRAMES // 2], 0, atol=1e-4)
    loudest = np.abs(spectrum[0, FRAMES // 2]).argmax()
    assert np.abs(errors[: FRAMES // 2 + 4, loudest]).max() < 1.0


def test_a_clip_has_the_same_phases_in_any_batch():
    clips = [sweep(130.0, 0.0), sweep(100.0, 80.0)]
    levels = log_magnitudes_of(spectrum_of(*clips), HOP)
    together = integrate(levels, nothing_known(2))
    for index in range(2):
        alone = integrate(levels[index : index + 1], nothing_known(1))
        np.testing.assert_allclose(wrap(together[index] - alone[0]), 0, atol=1e-4)


def test_silence_has_the_phases_of_the_noise():
    levels = np.full([1, FRAMES, BINS], MIN_LOG_MAGNITUDE, np.float32)
    levels[0, 18:22, 18:22] = 1.0
    given = nothing_known(1)
    phase = integrate(tf.constant(levels), given).numpy()[0]
    np.testing.assert_allclose(phase[:10], given.noise.numpy()[0, :10], atol=1e-5)


@pytest.mark.parametrize("level", [MIN_LOG_MAGNITUDE - 5, MIN_LOG_MAGNITUDE, MAX_LOG_MAGNITUDE, math.nan])
def test_equal_magnitudes_have_phases(level):
    phase = integrate(tf.fill([1, FRAMES, BINS], level), nothing_known(1))
    assert np.isfinite(phase).all()


def test_long_clips_are_computed_in_sections_that_go_on(monkeypatch):
    spectrum = spectrum_of(sweep(130.0, 0.0))
    levels = log_magnitudes_of(spectrum, HOP)
    monkeypatch.setattr(phase_gradient, "SECTION_FRAMES", 20)
    errors = turned(integrate(levels, nothing_known(1)), spectrum)
    loudest = np.abs(spectrum[0, FRAMES // 2]).argmax()
    assert np.abs(change(errors, axis=0)[6:-8, loudest]).max() < 0.02
    assert errors.shape == (FRAMES, BINS)
