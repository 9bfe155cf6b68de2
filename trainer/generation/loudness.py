"""Set the level of new clips: the loudness that is asked for, and no sample beyond full scale."""

from __future__ import annotations

import math

import tensorflow as tf

CEILING = 0.97  # of full scale: a 16-bit file does not clip, even after resampling
LOOKAHEAD_SECS = 0.01
MAX_PASSES = 8  # limiting takes level away, which the next pass adds again
TOLERANCE_DB = 0.1
MIN_RMS = 1e-5  # below it, a clip is silent and has no level to set


def set_loudness(clips: tf.Tensor, loudness_db: tf.Tensor, sample_rate_hz: int) -> tf.Tensor:
    """Scale clips to a loudness, and limit their peaks.

    Args:
        clips: `[batch, samples]` float32.
        loudness_db: `[batch]` float32, RMS level in dBFS; NaN: as the clip is.
        sample_rate_hz: Of the clips.

    Returns:
        `[batch, samples]` float32 in [-`CEILING`, `CEILING`].
    """
    clips, target_db = tf.convert_to_tensor(clips), tf.cast(loudness_db, tf.float32)[:, tf.newaxis]
    settable = tf.logical_not(tf.math.is_nan(target_db)) & (_rms(clips) >= MIN_RMS)  # [batch, 1]

    def error_db(limited: tf.Tensor) -> tf.Tensor:
        error = target_db - 20 / math.log(10) * tf.math.log(_rms(limited))
        return tf.where(settable & (tf.abs(error) >= TOLERANCE_DB), error, 0.0)

    def unfinished(limited: tf.Tensor, gain: tf.Tensor) -> tf.Tensor:
        return tf.reduce_any(error_db(limited) != 0)

    def adjust(limited: tf.Tensor, gain: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        error = error_db(limited)
        gain *= tf.pow(10.0, error / 20)
        return tf.where(error == 0, limited, limit_peaks(gain * clips, sample_rate_hz)), gain

    start = limit_peaks(clips, sample_rate_hz), tf.ones_like(target_db)
    limited, _ = tf.while_loop(unfinished, adjust, start, maximum_iterations=MAX_PASSES)
    return limited


def limit_peaks(clips: tf.Tensor, sample_rate_hz: int) -> tf.Tensor:
    """Turn `[batch, samples]` down around peaks above `CEILING`, smoothly.

    The gain is the least that any sample nearby needs, averaged over the same window, so that it never exceeds what a
    peak needs (Hämäläinen 2002, "Smoothing of the control signal without clipped output in digital peak limiters").
    """
    magnitudes = tf.abs(clips)
    reach = max(1, round(LOOKAHEAD_SECS * sample_rate_hz / 2))
    needed = (CEILING / tf.maximum(magnitudes, CEILING))[..., tf.newaxis]  # [batch, samples, 1]
    least = -tf.nn.max_pool1d(-needed, 2 * reach + 1, 1, "SAME")
    edges = tf.repeat(least[:, :1], reach, axis=1), tf.repeat(least[:, -1:], reach, axis=1)
    padded = tf.concat([edges[0], least, edges[1]], axis=1)
    gain = tf.nn.avg_pool1d(padded, 2 * reach + 1, 1, "VALID")[..., 0]
    limited = tf.clip_by_value(clips * gain, -CEILING, CEILING)
    return tf.where(tf.reduce_max(magnitudes, axis=1, keepdims=True) <= CEILING, clips, limited)


def _rms(clips: tf.Tensor) -> tf.Tensor:
    """`[batch, samples]` -> `[batch, 1]`."""
    return tf.sqrt(tf.reduce_mean(tf.square(clips), axis=1, keepdims=True))
