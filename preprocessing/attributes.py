"""What a clip sounds like in three numbers: loudness, brightness and tempo, measured with librosa.

The job stores them in each record, training conditions on them, and evaluation measures them again in what
was generated: one definition for all three.
"""

from __future__ import annotations

import math

import librosa
import numpy as np

from preprocessing.example import Attributes

QUIETEST_DB = -100.0  # below one step of a 16-bit file
# Between frames of the onset envelope: the tempo comes in steps of 6% at 120 BPM, near those of librosa's own
# default of 23 ms, and costs a clip 9 ms where 21 ms between frames would cost it 31.
FRAME_HOP_SECS = 0.032
SHORTEST_TEMPO_SECS = 2.0  # a bar at 120 BPM; less has no tempo
ONSET_BANDS = 32


def measure(audio: np.ndarray, sample_rate_hz: int) -> Attributes:
    """Measures a waveform without its padding.

    Args:
        audio: `[samples]` float32 in [-1, 1].
        sample_rate_hz: Its rate.

    Returns:
        Loudness (RMS level in dB of full scale), brightness (spectral centroid in Hz, the frames weighted by
        their magnitude) and tempo in BPM. What cannot be measured, such as the tempo of silence, is NaN.
    """
    level = math.sqrt(float(np.mean(np.square(audio, dtype=np.float64)))) if audio.size else 0.0
    loudness_db = max(20 * math.log10(max(level, 1e-9)), QUIETEST_DB)
    if loudness_db <= QUIETEST_DB:
        return Attributes(loudness_db, math.nan, math.nan)
    hop = max(1, round(sample_rate_hz * FRAME_HOP_SECS))
    size = 2 ** math.ceil(math.log2(4 * hop))
    magnitude = np.abs(librosa.stft(audio, n_fft=size, hop_length=hop))
    centroid_hz = float(
        np.average(librosa.fft_frequencies(sr=sample_rate_hz, n_fft=size), weights=magnitude.sum(axis=1))
    )
    onsets = onset_envelope(magnitude, sample_rate_hz, size)
    return Attributes(loudness_db, centroid_hz, _tempo_bpm(onsets, sample_rate_hz, hop))


def onset_envelope(magnitude: np.ndarray, sample_rate_hz: int, size: int) -> np.ndarray:
    """Onset strength per frame of `[bins, frames]` STFT magnitudes: the mean rise of the mel bands in dB."""
    mel = librosa.feature.melspectrogram(
        S=magnitude**2, sr=sample_rate_hz, n_fft=size, n_mels=ONSET_BANDS, htk=True
    )
    return librosa.onset.onset_strength(S=librosa.power_to_db(mel), sr=sample_rate_hz)


def _tempo_bpm(onsets: np.ndarray, sample_rate_hz: int, hop: int) -> float:
    if len(onsets) * hop < SHORTEST_TEMPO_SECS * sample_rate_hz or np.ptp(onsets) == 0:
        return math.nan
    return float(librosa.feature.tempo(onset_envelope=onsets, sr=sample_rate_hz, hop_length=hop)[0])
