"""Distances between waveforms: multi-resolution STFT distance, SNR and SI-SDR."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

MIN_ENERGY_RATIO = 1e-10  # keeps SI-SDR between -100 and 100 dB
MIN_MAGNITUDE = 1e-3  # below it, a difference of log-magnitudes would be about inaudible noise


def window_sizes(sample_rate_hz: int) -> tuple[int, ...]:
    """Five STFT windows in samples, about 21 to 341 ms: 64 to 1,024 samples at 3,000 Hz."""
    octaves = float(tf.math.log(sample_rate_hz / 3_000) / tf.math.log(2.0))
    return tuple(2 ** round(exponent + octaves) for exponent in range(6, 11))


def multi_resolution_distance(audio: tf.Tensor, other: tf.Tensor, sizes: Sequence[int]) -> tf.Tensor:
    """Spectral convergence plus mean absolute difference of log-magnitudes, averaged over the windows.

    The auxiliary loss of Yamamoto, Song & Kim 2020, "Parallel WaveGAN", with a floor under the logarithm.
    Only its first term is relative to the level of `audio`.

    Args:
        audio: `[batch, samples]` float32, the reference.
        other: The same shape, for instance its reconstruction.
        sizes: Window lengths in samples; the hop is a quarter of each.

    Returns:
        `[batch]` float32, 0 for equal waveforms. Silence against music scores 1 plus the mean log-magnitude.
    """
    total = tf.zeros([tf.shape(audio)[0]])
    for size in sizes:
        reference, estimate = (_magnitude(waveform, size) for waveform in (audio, other))
        difference = tf.sqrt(tf.reduce_sum(tf.square(reference - estimate), axis=[1, 2]) + 1e-12)
        convergence = difference / tf.sqrt(tf.reduce_sum(tf.square(reference), axis=[1, 2]) + MIN_MAGNITUDE)
        log_difference = tf.abs(
            tf.math.log(reference + MIN_MAGNITUDE) - tf.math.log(estimate + MIN_MAGNITUDE)
        )
        total += (convergence + tf.reduce_mean(log_difference, axis=[1, 2])) / len(sizes)
    return total


def snr_db(audio: tf.Tensor, reconstruction: tf.Tensor) -> tf.Tensor:
    """Signal-to-noise ratio of each clip, `[batch, samples]` twice -> `[batch]`, in dB.

    A silent reconstruction scores 0 dB, and so does a silent clip reconstructed as silence.
    """
    floor = 1e-10 * audio.shape[-1]  # the energy of noise at -100 dB: keeps both logarithms finite
    signal = tf.reduce_sum(tf.square(audio), axis=-1) + floor
    noise = tf.reduce_sum(tf.square(audio - reconstruction), axis=-1) + floor
    return 10.0 / np.log(10.0) * tf.math.log(signal / noise)


def si_sdr_db(audio: np.ndarray, reconstruction: np.ndarray) -> np.ndarray:
    """Scale-invariant signal-to-distortion ratio, `[clips, samples]` twice -> `[clips]` float64, in dB.

    Le Roux et al. 2019, "SDR - half-baked or well done?", without removal of the mean. It is c^2 / (1 - c^2),
    where c is the cosine between a clip and its reconstruction, limited to -100 to 100 dB. If either of them
    is silent, the cosine is undefined and the score is -100 dB.
    """
    reference, estimate = np.asarray(audio, np.float64), np.asarray(reconstruction, np.float64)
    energies = np.sum(reference**2, axis=-1) * np.sum(estimate**2, axis=-1)
    products = np.sum(reference * estimate, axis=-1) ** 2
    explained = np.divide(products, energies, out=np.zeros_like(energies), where=energies > 0)
    distorted = np.maximum(1 - explained, 0)
    return 10 * np.log10((explained + MIN_ENERGY_RATIO) / (distorted + MIN_ENERGY_RATIO))


def _magnitude(audio: tf.Tensor, size: int) -> tf.Tensor:
    """`[batch, samples]` -> STFT magnitudes `[batch, frames, bins]`."""
    spectrum = tf.signal.stft(audio, size, size // 4)
    # Not tf.abs: its gradient at 0 is NaN.
    return tf.sqrt(tf.square(tf.math.real(spectrum)) + tf.square(tf.math.imag(spectrum)) + 1e-12)
