"""What a clip sounds like in three numbers: loudness, brightness and tempo.

The job stores them in each record, training conditions on them, and evaluation measures them again in what
was generated: one definition for all three.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
import scipy.fft

from preprocessing.dataset.example import Attributes
from preprocessing.features import tempo

QUIETEST_DB = -100.0  # below one step of a 16-bit file
# Between frames of the onset envelope: the tempo comes in steps of 6% at 120 BPM, near those of librosa's own
# default of 23 ms.
FRAME_HOP_SECS = 0.032
SHORTEST_TEMPO_SECS = 2.0  # a bar at 120 BPM; less has no tempo
ONSET_BANDS = 32


class _Transform(NamedTuple):
    """What all clips of a sample rate are measured with."""

    hop: int
    window: np.ndarray  # [size] float32
    bin_hz: np.ndarray  # [bins] float32
    to_mel: np.ndarray  # [bins, ONSET_BANDS] float32


def measure(audio: np.ndarray, sample_rate_hz: int) -> Attributes:
    """Measures a waveform without its padding.

    Args:
        audio: `[samples]` float32 in [-1, 1].
        sample_rate_hz: Its rate.

    Returns:
        Loudness (RMS level in dB of full scale), brightness (spectral centroid in Hz, the frames weighted by
        their magnitude) and tempo in BPM. What cannot be measured, such as the tempo of silence, is NaN.
    """
    level = math.sqrt(float(np.dot(audio, audio)) / audio.size) if audio.size else 0.0
    loudness_db = max(20 * math.log10(max(level, 1e-9)), QUIETEST_DB)
    if loudness_db <= QUIETEST_DB:
        return Attributes(loudness_db, math.nan, math.nan)
    power = _power(audio, sample_rate_hz)
    spectrum = np.sqrt(power).sum(axis=0)
    centroid_hz = float(np.dot(_transform(sample_rate_hz).bin_hz, spectrum) / spectrum.sum())
    onsets = _onsets(power, sample_rate_hz)
    return Attributes(loudness_db, centroid_hz, _tempo_bpm(onsets, sample_rate_hz, len(audio)))


def onset_envelope(audio: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """`[samples]` -> onset strength, a value every `FRAME_HOP_SECS`: the mean rise of the mel bands in dB."""
    return _onsets(_power(audio, sample_rate_hz), sample_rate_hz)


@cache
def _transform(sample_rate_hz: int) -> _Transform:
    hop = max(1, round(sample_rate_hz * FRAME_HOP_SECS))
    size = 2 ** math.ceil(math.log2(2 * hop))
    return _Transform(
        hop=hop,
        window=(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32),
        bin_hz=np.linspace(0.0, sample_rate_hz / 2, size // 2 + 1, dtype=np.float32),
        to_mel=tempo.mel_filters(sample_rate_hz, size // 2 + 1, ONSET_BANDS),
    )


def _power(audio: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """`[frames, bins]` float32; librosa's own transform is in double precision, at three times the cost."""
    transform = _transform(sample_rate_hz)
    size = len(transform.window)
    padded = np.zeros(len(audio) + size, np.float32)
    padded[size // 2 : size // 2 + len(audio)] = audio
    spectra = scipy.fft.rfft(tempo.frames_of(padded, size, transform.hop) * transform.window)
    return spectra.real**2 + spectra.imag**2


def _onsets(power: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    return tempo.onset_strength(power @ _transform(sample_rate_hz).to_mel)


def _tempo_bpm(onsets: np.ndarray, sample_rate_hz: int, samples: int) -> float:
    if samples < SHORTEST_TEMPO_SECS * sample_rate_hz or np.ptp(onsets) == 0:
        return math.nan
    return tempo.tempo_bpm(onsets, sample_rate_hz / _transform(sample_rate_hz).hop)
