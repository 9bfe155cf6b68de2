"""Onset strength and tempo of a power spectrogram, computed as librosa does.

A worker needs only these functions, and importing librosa takes as long as decoding about two hundred clips.
The tests compare them with librosa's own.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import scipy.fft

from preprocessing.features.spectrogram import frame_signal, hann_window

FLOOR_DB = -100.0
DYNAMIC_RANGE_DB = 80.0
ONSET_DELAY_FRAMES = 3  # the delay of librosa's onset strength, with its default transform size and hop
TEMPO_WINDOW_SECS = 8.0  # librosa's default
TEMPO_WINDOW_OVERLAP = 4  # librosa uses a window at every frame, which takes twenty times as long
PRIOR_TEMPO_BPM, MAX_TEMPO_BPM = 120.0, 320.0  # librosa's defaults


def mel_filters(sample_rate_hz: int, bins: int, bands: int) -> np.ndarray:
    """Return triangular filters of equal area, `[bins, bands]` float32.

    They are evenly spaced on the mel scale (O'Shaughnessy 1987) from 0 Hz to half the sample rate.
    """
    max_mel = 2595.0 * math.log10(1.0 + sample_rate_hz / 2 / 700.0)
    edges_hz = 700.0 * (10.0 ** (np.linspace(0.0, max_mel, bands + 2) / 2595.0) - 1.0)
    bin_hz = np.linspace(0.0, sample_rate_hz / 2, bins)[:, np.newaxis]
    low, centre, high = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    triangles = np.minimum((bin_hz - low) / (centre - low), (high - bin_hz) / (high - centre))
    return (np.maximum(triangles, 0.0) * 2.0 / (high - low)).astype(np.float32)


def onset_strength(mel_power: np.ndarray) -> np.ndarray:
    """Return the onset strength of `[frames, bands]` power: `[frames]`, the mean rise of the bands in dB.

    Source: Böck & Widmer 2013, "Maximum filter vibrato suppression for onset detection", without the filter.
    """
    level_db = np.maximum(10.0 * np.log10(np.maximum(mel_power, 10 ** (FLOOR_DB / 10))), FLOOR_DB)
    level_db = np.maximum(level_db, level_db.max() - DYNAMIC_RANGE_DB)
    rise_db = np.maximum(np.diff(level_db, axis=0), 0.0).mean(axis=1)
    strength = np.zeros(len(mel_power), np.float32)
    delayed_frames = len(strength) - ONSET_DELAY_FRAMES
    strength[ONSET_DELAY_FRAMES:] = rise_db[: max(delayed_frames, 0)]
    return strength


def tempo_bpm(onsets: np.ndarray, frames_per_sec: float) -> float:
    """Return the tempo of onset strengths, `[frames]`, in BPM: the strongest period of the mean tempogram.

    The tempogram is the autocorrelation of windows (Grosche et al. 2010). Its periods are weighted with a
    log-normal prior around `PRIOR_TEMPO_BPM`, one octave wide (Ellis 2007).
    """
    size = round(TEMPO_WINDOW_SECS * frames_per_sec)
    ramp = _ramp(size // 2)  # as in np.pad's mode "linear_ramp", which would take longer than the transform
    padded = np.concatenate([onsets[0] * ramp, onsets, onsets[-1] * ramp[::-1]])
    windows = frame_signal(padded, size, size // TEMPO_WINDOW_OVERLAP)
    spectra = scipy.fft.rfft(windows * hann_window(size), scipy.fft.next_fast_len(2 * size - 1, real=True))
    tempogram = scipy.fft.irfft(spectra.real**2 + spectra.imag**2)[:, :size]
    peaks = np.abs(tempogram).max(axis=1, keepdims=True)
    strength = (tempogram / np.where(peaks > np.finfo(np.float32).tiny, peaks, 1.0)).mean(axis=0)
    return 60.0 * frames_per_sec / int(np.argmax(np.log1p(1e6 * strength) + _log_prior(size, frames_per_sec)))


@cache
def _ramp(size: int) -> np.ndarray:
    return np.linspace(0.0, 1.0, size, endpoint=False, dtype=np.float32)


@cache
def _log_prior(size: int, frames_per_sec: float) -> np.ndarray:
    periods = np.arange(1, size)
    bpm = 60.0 * frames_per_sec / periods
    log_prior = np.where(bpm < MAX_TEMPO_BPM, -0.5 * np.log2(bpm / PRIOR_TEMPO_BPM) ** 2, -np.inf)
    return np.concatenate([[-np.inf], log_prior])
