"""The attributes of a clip: loudness, brightness, tempo and clarity of the beat.

The job stores them in each record, training conditions on them, and evaluation measures them in generated
clips. All three use this definition.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np

from preprocessing.dataset.example import Attributes
from preprocessing.features import beat, tempo
from preprocessing.features.spectrogram import hann_window, power_spectrogram

MIN_LOUDNESS_DB = -100.0  # below one step of a 16-bit file
# The hop sets the resolution of the tempo: 6% at 120 BPM, close to that of librosa's default of 23 ms.
FRAME_HOP_SECS = 0.032
MIN_TEMPO_SECS = 2.0  # a bar at 120 BPM; the tempo of a shorter clip is NaN
ONSET_BANDS = 32


class _Transform(NamedTuple):
    """The constants of the short-time Fourier transform at one sample rate."""

    hop: int
    window: np.ndarray  # [size] float32
    bin_hz: np.ndarray  # [bins] float32
    mel_filters: np.ndarray  # [bins, ONSET_BANDS] float32


def measure(audio: np.ndarray, sample_rate_hz: int) -> Attributes:
    """Measure the attributes of a waveform.

    Args:
        audio: `[samples]` float32 in [-1, 1], without padding.
        sample_rate_hz: Its sample rate.

    Returns:
        Loudness (RMS level in dBFS), brightness (spectral centroid in Hz, with frames weighted by their
        magnitude), tempo in BPM and clarity of its beat in [0, 1]. An attribute that cannot be measured, such as the
        tempo of silence, is NaN.
    """
    rms = math.sqrt(float(np.dot(audio, audio)) / audio.size) if audio.size else 0.0
    loudness_db = max(20 * math.log10(max(rms, 1e-9)), MIN_LOUDNESS_DB)
    if loudness_db <= MIN_LOUDNESS_DB:
        return Attributes(loudness_db, math.nan, math.nan, math.nan)
    power = _power_spectrogram(audio, sample_rate_hz)
    onsets = _onset_strength(power, sample_rate_hz)
    magnitude = np.sqrt(power, out=power).sum(axis=0)
    centroid_hz = float(np.dot(_transform(sample_rate_hz).bin_hz, magnitude) / magnitude.sum())
    tempo_bpm = _tempo_bpm(onsets, sample_rate_hz, len(audio))
    beat_clarity = beat.beat_clarity(onsets, sample_rate_hz / _transform(sample_rate_hz).hop, tempo_bpm)
    return Attributes(loudness_db, centroid_hz, tempo_bpm, beat_clarity)


def onset_envelope(audio: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Return the onset strength of `[samples]`, `[frames]` float32: the mean rise of the mel bands in dB.

    The frames are `FRAME_HOP_SECS` apart.
    """
    return _onset_strength(_power_spectrogram(audio, sample_rate_hz), sample_rate_hz)


@cache
def _transform(sample_rate_hz: int) -> _Transform:
    hop = max(1, round(sample_rate_hz * FRAME_HOP_SECS))
    size = 2 ** math.ceil(math.log2(2 * hop))
    return _Transform(
        hop=hop,
        window=hann_window(size),
        bin_hz=np.linspace(0.0, sample_rate_hz / 2, size // 2 + 1, dtype=np.float32),
        mel_filters=tempo.mel_filters(sample_rate_hz, size // 2 + 1, ONSET_BANDS),
    )


def _power_spectrogram(audio: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Return `[frames, bins]` float32; the frames are centred, from the first sample on."""
    transform = _transform(sample_rate_hz)
    size = len(transform.window)
    padded = np.zeros(len(audio) + size, np.float32)
    padded[size // 2 : size // 2 + len(audio)] = audio
    return power_spectrogram(padded, transform.window, transform.hop)


def _onset_strength(power: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    return tempo.onset_strength(power @ _transform(sample_rate_hz).mel_filters)


def _tempo_bpm(onsets: np.ndarray, sample_rate_hz: int, samples: int) -> float:
    if samples < MIN_TEMPO_SECS * sample_rate_hz or np.ptp(onsets) == 0:
        return math.nan
    return tempo.tempo_bpm(onsets, sample_rate_hz / _transform(sample_rate_hz).hop)
