import numpy as np
import pytest
import tensorflow as tf

from preprocessing.features.attributes import measure
from trainer.generation.brightness import set_brightness
from trainer.generation.loudness import set_loudness

RATE_HZ = 3_000


def noise(count=3, samples=20_001):
    """Noise whose spectrum falls like that of music."""
    white = np.random.default_rng(0).standard_normal((count, samples))
    spectrum = np.fft.rfft(white) / np.sqrt(1 + np.arange(samples // 2 + 1))
    return (0.2 * np.fft.irfft(spectrum, samples) / 0.01).clip(-1, 1).astype(np.float32)


def centroids(clips):
    return [measure(clip, RATE_HZ).centroid_hz for clip in np.asarray(clips)]


def test_the_measured_centroid_is_the_one_asked_for():
    asked = np.array([350.0, 500.0, 650.0], np.float32)
    clips = set_brightness(noise(), asked, RATE_HZ)
    assert centroids(clips) == pytest.approx(asked, rel=0.03)
    # The level that is set afterwards does not change it.
    assert centroids(set_loudness(clips, [-14.0] * 3, RATE_HZ)) == pytest.approx(asked, rel=0.06)


def test_what_is_not_asked_stays_as_it_is():
    clips = noise()
    kept = set_brightness(clips, np.array([np.nan, 400.0, np.nan], np.float32), RATE_HZ)
    np.testing.assert_allclose(kept[::2], clips[::2], atol=1e-5)
    assert np.abs(kept[1] - clips[1]).max() > 1e-3


def test_the_slope_of_the_tilt_is_limited():
    clips = noise(1)
    darkest = set_brightness(clips, np.array([1.0], np.float32), RATE_HZ)
    spectra = [np.abs(np.fft.rfft(clip)) for clip in (clips[0], darkest[0])]
    low, high = (slice(*(np.array(hz) * 20_001 // RATE_HZ)) for hz in ((90, 110), (900, 1_100)))
    fall_db = 20 * np.log10([spectrum[low].mean() / spectrum[high].mean() for spectrum in spectra])
    assert fall_db[1] - fall_db[0] == pytest.approx(20, abs=1)  # 6 dB per octave


def test_it_is_the_same_in_a_graph_of_any_size():
    signature = [tf.TensorSpec([None, None]), tf.TensorSpec([None])]
    graph = tf.function(lambda clips, hz: set_brightness(clips, hz, RATE_HZ), input_signature=signature)
    clips, asked = noise(2, 5_000), np.array([400.0, np.nan], np.float32)
    np.testing.assert_allclose(graph(clips, asked), set_brightness(clips, asked, RATE_HZ), atol=1e-5)
