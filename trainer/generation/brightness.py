"""Set the brightness of new clips: tilt their spectrum towards the centroid that is asked for."""

from __future__ import annotations

import math

import tensorflow as tf

WINDOW_SECS = (
    0.046  # of the spectra that the centroid is computed from, about as `features.attributes` measures it
)
MAX_SLOPE = 1.0  # of the magnitude over the frequency in octaves: 6 dB per octave
LOW_HZ = 50.0  # the tilt is flat below: it would amplify what is hardly heard
BISECTIONS = 16


def set_brightness(clips: tf.Tensor, centroid_hz: tf.Tensor, sample_rate_hz: int) -> tf.Tensor:
    """Filter clips so that their spectral centroid is as asked, with at most `MAX_SLOPE`.

    The filter's magnitude is a power of the frequency, without delay. Its exponent is found by bisection, since the
    centroid of a fixed spectrum rises with it.

    Args:
        clips: `[batch, samples]` float32.
        centroid_hz: `[batch]` float32, the centroid as `preprocessing.features.attributes.measure` defines it; NaN: as
            the clip is.
        sample_rate_hz: Of the clips.

    Returns:
        `[batch, samples]` float32, at any level.
    """
    target_hz = tf.cast(centroid_hz, tf.float32)[:, tf.newaxis]
    size = 2 ** math.ceil(math.log2(WINDOW_SECS * sample_rate_hz))
    spectra = tf.abs(tf.signal.stft(clips, size, size // 2, pad_end=True))
    magnitude = tf.reduce_sum(spectra, axis=1)  # [batch, bins]
    bin_hz = tf.linspace(0.0, sample_rate_hz / 2, size // 2 + 1)

    low, high = -MAX_SLOPE * tf.ones_like(target_hz), MAX_SLOPE * tf.ones_like(target_hz)
    for _ in range(BISECTIONS):
        slope = (low + high) / 2
        tilted = magnitude * _response(bin_hz, slope)
        centroid = tf.reduce_sum(bin_hz * tilted, axis=1, keepdims=True)
        is_dark = centroid < target_hz * tf.reduce_sum(tilted, axis=1, keepdims=True)
        low, high = tf.where(is_dark, slope, low), tf.where(is_dark, high, slope)
    slope = tf.where(tf.math.is_nan(target_hz), 0.0, (low + high) / 2)
    return _filter(clips, slope, sample_rate_hz)


def _filter(clips: tf.Tensor, slope: tf.Tensor, sample_rate_hz: int) -> tf.Tensor:
    samples = tf.shape(clips)[1]
    # A power of two is fast, and leaves silence at the end for what the filter spreads.
    exponent = tf.math.ceil(tf.math.log(tf.cast(samples, tf.float64)) / math.log(2.0))
    length = tf.cast(2.0 ** (exponent + 1), tf.int32)
    hz = tf.linspace(0.0, sample_rate_hz / 2, length // 2 + 1)
    spectrum = tf.signal.rfft(clips, [length]) * tf.cast(_response(hz, slope), tf.complex64)
    return tf.signal.irfft(spectrum, [length])[:, :samples]


def _response(hz: tf.Tensor, slope: tf.Tensor) -> tf.Tensor:
    """`[bins]` and `[batch, 1]` -> `[batch, bins]`."""
    return tf.pow(tf.maximum(hz, LOW_HZ) / LOW_HZ, slope)
