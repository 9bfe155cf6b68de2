"""Log-mel spectrograms, the one spectral feature of pictures, TensorBoard, metrics and embeddings."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import librosa
import numpy as np
import tensorflow as tf

with warnings.catch_warnings():
    # tensorflow-io warns on import about plugins that do not load; none of them is used here.
    warnings.simplefilter("ignore")
    import tensorflow_io as tfio

MELS = 64
MIN_DB = -80.0  # floor of `log_mel`, relative to full scale


class MelScale(NamedTuple):
    """Resolution of `log_mel`: about 23 frames per second, and bands up to half the sample rate."""

    hop_samples: int
    window_samples: int
    band_hz: np.ndarray  # [MELS] float64, centres of the bands

    @property
    def fft_samples(self) -> int:
        """A power of two of at least four windows, so that bands have enough bins at low sample rates."""
        return 1 << (4 * self.window_samples - 1).bit_length()


def mel_scale(sample_rate_hz: int) -> MelScale:
    """Return the resolution of `log_mel` at a sample rate."""
    hop_samples = max(1, round(sample_rate_hz * 128 / 3_000))
    band_hz = librosa.mel_frequencies(MELS + 2, fmin=0.0, fmax=sample_rate_hz / 2, htk=True)[1:-1]
    return MelScale(hop_samples, 2 * hop_samples, band_hz)


def log_mel(audio: tf.Tensor, sample_rate_hz: int) -> tf.Tensor:
    """Compute log-mel spectrograms in dB of full scale.

    Args:
        audio: `[batch, samples]` float32 in [-1, 1].
        sample_rate_hz: Sample rate of `audio`.

    Returns:
        `[batch, frames, MELS]` float32, at least `MIN_DB`.
    """
    scale = mel_scale(sample_rate_hz)
    magnitude = tfio.audio.spectrogram(
        audio, nfft=scale.fft_samples, window=scale.window_samples, stride=scale.hop_samples
    )
    power = tf.square(magnitude / (scale.window_samples / 4))  # a full-scale sine has a power of about 1
    mel = tfio.audio.melscale(power, rate=sample_rate_hz, mels=MELS, fmin=0.0, fmax=sample_rate_hz / 2)
    # Not top_db: a floor relative to the loudest value of a call would make spectrograms incomparable.
    return 10.0 / np.log(10.0) * tf.math.log(tf.maximum(mel, 10.0 ** (MIN_DB / 10)))
