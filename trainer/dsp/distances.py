"""How far apart two waveforms sound: distances of STFT magnitudes at several resolutions."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

QUIETEST = 1e-3  # of a magnitude: below it a difference of logarithms would be about inaudible noise


def window_sizes(sample_rate_hz: int) -> tuple[int, ...]:
    """Windows of about 21 to 341 ms: 64 to 1,024 samples at 3,000 Hz."""
    return tuple(2 ** round(exponent + _octaves(sample_rate_hz)) for exponent in range(6, 11))


def _octaves(sample_rate_hz: int) -> float:
    return float(tf.math.log(sample_rate_hz / 3_000) / tf.math.log(2.0))


def multi_resolution_distance(audio: tf.Tensor, other: tf.Tensor, sizes: Sequence[int]) -> tf.Tensor:
    """Spectral convergence plus mean absolute difference of log-magnitudes, averaged over the windows.

    Yamamoto, Song & Kim 2020, "Parallel WaveGAN", its auxiliary loss, with a floor under the logarithm. Only
    the first of the two is relative to the loudness of `audio`.

    Args:
        audio: `[batch, samples]` float32: what it should sound like.
        other: The same shape: what it does sound like.
        sizes: Window lengths in samples; frames advance by a quarter of it.

    Returns:
        `[batch]` float32, 0 for the same waveform; silence for music comes to 1 and the mean log-magnitude.
    """
    total = tf.zeros([tf.shape(audio)[0]])
    for size in sizes:
        wanted, got = (_magnitude(waveform, size) for waveform in (audio, other))
        difference = tf.sqrt(tf.reduce_sum(tf.square(wanted - got), axis=[1, 2]) + 1e-12)
        convergence = difference / tf.sqrt(tf.reduce_sum(tf.square(wanted), axis=[1, 2]) + QUIETEST)
        logarithms = tf.abs(tf.math.log(wanted + QUIETEST) - tf.math.log(got + QUIETEST))
        total += (convergence + tf.reduce_mean(logarithms, axis=[1, 2])) / len(sizes)
    return total


def _magnitude(audio: tf.Tensor, size: int) -> tf.Tensor:
    spectrum = tf.signal.stft(audio, size, size // 4)
    # Not tf.abs: its gradient at 0 is not a number.
    return tf.sqrt(tf.square(tf.math.real(spectrum)) + tf.square(tf.math.imag(spectrum)) + 1e-12)
