"""What the numbers and pictures of a report mean."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import librosa
import numpy as np
import tensorflow as tf

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow_io as tfio

MELS = 64
QUIETEST_DB = -80.0  # relative to full scale


class MelScale(NamedTuple):
    """How `log_mel` cuts time and frequency: about 23 frames a second, bands up to half the sample rate."""

    hop_samples: int
    window_samples: int
    band_hz: np.ndarray  # [MELS] float64, centres of the bands

    @property
    def fft_samples(self) -> int:
        """The next power of two, at least four windows long where a low rate leaves few bins per band."""
        return 1 << (4 * self.window_samples - 1).bit_length()


def mel_scale(sample_rate_hz: int) -> MelScale:
    """The scale of `log_mel` for a sample rate."""
    hop_samples = max(1, round(sample_rate_hz * 128 / 3_000))
    band_hz = librosa.mel_frequencies(MELS + 2, fmin=0.0, fmax=sample_rate_hz / 2, htk=True)[1:-1]
    return MelScale(hop_samples, 2 * hop_samples, band_hz)


def log_mel(audio: tf.Tensor, sample_rate_hz: int) -> tf.Tensor:
    """Log-mel spectrogram in dB, the one feature that pictures, TensorBoard and metrics share.

    Args:
        audio: `[batch, samples]` float32 in [-1, 1].
        sample_rate_hz: Its sample rate.

    Returns:
        `[batch, frames, MELS]` float32, from `QUIETEST_DB` up.
    """
    scale = mel_scale(sample_rate_hz)
    magnitude = tfio.audio.spectrogram(
        audio, nfft=scale.fft_samples, window=scale.window_samples, stride=scale.hop_samples
    )
    power = tf.square(magnitude / (scale.window_samples / 4))  # a full-scale sine comes to about 1
    mel = tfio.audio.melscale(power, rate=sample_rate_hz, mels=MELS, fmin=0.0, fmax=sample_rate_hz / 2)
    # Not top_db: a floor relative to each call's loudest sound would make two pictures incomparable.
    return 10.0 / np.log(10.0) * tf.math.log(tf.maximum(mel, 10.0 ** (QUIETEST_DB / 10)))
