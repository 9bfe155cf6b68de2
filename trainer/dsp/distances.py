"""How far apart two waveforms sound: distances of STFT magnitudes at several resolutions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

SMALLEST_PART = 1e-10  # of a clip's energy: keeps SI-SDR within 100 dB of zero
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


def snr_db(audio: tf.Tensor, reconstruction: tf.Tensor) -> tf.Tensor:
    """Signal-to-noise ratio of each clip, `[batch, samples]` twice -> `[batch]`, in dB.

    Silence as the reconstruction scores 0 dB; so does a silent clip reconstructed as silence.
    """
    floor = 1e-10 * audio.shape[-1]  # the energy of noise at -100 dB: keeps both logarithms finite
    signal = tf.reduce_sum(tf.square(audio), axis=-1) + floor
    noise = tf.reduce_sum(tf.square(audio - reconstruction), axis=-1) + floor
    return 10.0 / np.log(10.0) * tf.math.log(signal / noise)


def si_sdr_db(audio: np.ndarray, reconstruction: np.ndarray) -> np.ndarray:
    """Scale-invariant signal-to-distortion ratio, `[clips, samples]` twice -> `[clips]` float64, in dB.

    Le Roux et al. 2019, "SDR - half-baked or well done?", without removing means. With the cosine
    c between a clip and its reconstruction it is c^2 / (1 - c^2). It ends at -100 and 100 dB; silence on
    either side has no direction and scores -100 dB.
    """
    wanted, got = np.asarray(audio, np.float64), np.asarray(reconstruction, np.float64)
    energies = np.sum(wanted**2, axis=-1) * np.sum(got**2, axis=-1)
    products = np.sum(wanted * got, axis=-1) ** 2
    explained = np.divide(products, energies, out=np.zeros_like(energies), where=energies > 0)
    distorted = np.maximum(1 - explained, 0)
    return 10 * np.log10((explained + SMALLEST_PART) / (distorted + SMALLEST_PART))


def _magnitude(audio: tf.Tensor, size: int) -> tf.Tensor:
    spectrum = tf.signal.stft(audio, size, size // 4)
    # Not tf.abs: its gradient at 0 is not a number.
    return tf.sqrt(tf.square(tf.math.real(spectrum)) + tf.square(tf.math.imag(spectrum)) + 1e-12)
