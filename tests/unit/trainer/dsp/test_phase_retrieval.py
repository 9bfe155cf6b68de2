import numpy as np
import pytest
import tensorflow as tf

from trainer.dsp import mdct
from trainer.dsp.phase_retrieval import retrieve
from trainer.dsp.stft import (
    MIN_LOG_MAGNITUDE,
    OVERLAP,
    blocks_of,
    count_bins,
    log_magnitudes,
    log_magnitudes_of_blocks,
)

HOP, SAMPLES, RATE_HZ = 32, 2_000, 1_000
FRAMES = mdct.count_frames(SAMPLES, HOP)
KNOWN = 37 * HOP
NOISE = tf.random.stateless_normal([1, FRAMES * HOP], [1, 2])


def chord() -> np.ndarray:
    """Two decaying tones that start at different times, `[2, SAMPLES]`."""
    secs = np.arange(SAMPLES) / RATE_HZ
    tones = [
        (secs > start) * np.exp(-2 * np.maximum(secs - start, 0)) * np.sin(2 * np.pi * hz * secs)
        for start, hz in ((0.2, 130.0), (0.9, 220.0))
    ]
    return np.stack([0.4 * (tones[0] + tones[1]), 0.3 * tones[1]]).astype(np.float32)


def unknown(clips: int = 2) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.zeros([clips, SAMPLES]), tf.zeros([clips, SAMPLES], tf.bool)


def test_a_sine_of_full_scale_has_a_log_magnitude_of_0_and_silence_the_lowest():
    sine = np.sin(2 * np.pi * 125.0 * np.arange(SAMPLES) / RATE_HZ)[np.newaxis].astype(np.float32)
    levels = log_magnitudes(tf.concat([sine, tf.zeros_like(sine)], axis=0), HOP, FRAMES)
    assert levels.shape == (2, FRAMES, count_bins(HOP))
    middle = levels[0, FRAMES // 2].numpy()
    assert middle.argmax() == 16  # 125 of 1,000 Hz in a frame of 128 samples
    assert middle.max() == pytest.approx(0.0, abs=0.01)
    assert (levels[1].numpy() == np.float32(MIN_LOG_MAGNITUDE)).all()


def test_a_part_of_the_blocks_has_the_magnitudes_of_its_frames():
    audio = chord()
    part = blocks_of(audio, HOP, FRAMES)[:, 3 : 3 + 5 + OVERLAP - 1]
    np.testing.assert_array_equal(
        log_magnitudes_of_blocks(part), log_magnitudes(audio, HOP, FRAMES)[:, 3 : 3 + 5]
    )


def test_magnitudes_of_music_give_its_sound_back():
    audio = chord()
    levels = log_magnitudes(audio, HOP, FRAMES)
    retrieved = retrieve(levels, NOISE, *unknown())
    assert retrieved.shape == audio.shape
    magnitudes = np.exp(log_magnitudes(retrieved, HOP, FRAMES)), np.exp(levels)
    error = np.square(magnitudes[0] - magnitudes[1]).sum() / np.square(magnitudes[1]).sum()
    assert error < 0.01  # -20 dB


def test_known_samples_stay_as_they_are():
    audio = chord()
    levels = log_magnitudes(audio, HOP, FRAMES)
    is_known = tf.broadcast_to(tf.range(SAMPLES) < KNOWN, [2, SAMPLES])
    retrieved = retrieve(levels, NOISE, audio, is_known).numpy()
    np.testing.assert_array_equal(retrieved[:, :KNOWN], audio[:, :KNOWN])
    assert np.abs(retrieved[:, KNOWN:]).max() > 0.01


@pytest.mark.parametrize("gain", [1.0, 0.7])  # of the magnitudes after the known part: decoded ones differ
def test_a_tone_goes_on_from_known_samples_without_a_click(gain):
    secs = np.arange(SAMPLES) / RATE_HZ
    tone = (0.5 * np.sin(2 * np.pi * 130.0 * secs)).astype(np.float32)[np.newaxis]
    levels = log_magnitudes(tone, HOP, FRAMES) + np.log(gain)
    is_known = tf.reshape(tf.range(SAMPLES) < KNOWN, [1, SAMPLES])
    retrieved = retrieve(levels, NOISE, tone, is_known).numpy()
    accelerations = np.abs(np.diff(retrieved, n=2))[0]
    assert accelerations[KNOWN - 3 : KNOWN + 1].max() < 1.5 * accelerations[: KNOWN - 200].max()
    np.testing.assert_allclose(
        retrieved[0, KNOWN : KNOWN + 200], gain * tone[0, KNOWN : KNOWN + 200], atol=0.15
    )


def test_impossible_magnitudes_give_a_finite_waveform():
    levels = tf.fill([1, FRAMES, count_bins(HOP)], 50.0)
    assert np.isfinite(retrieve(levels, NOISE, *unknown(1))).all()


def test_whole_samples_lie_in_two_known_frames():
    is_known = tf.constant([[True, True, False, True, True]])
    assert mdct.whole_samples(is_known, 2, 7).numpy().tolist() == [[True, True] + [False] * 4 + [True]]
