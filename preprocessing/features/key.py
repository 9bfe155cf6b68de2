"""The key of a clip: tonic and mode, from the pitch classes of its spectral peaks.

The peaks' frequencies are interpolated, so that windows of a third of a second resolve semitones. Their deviations from
the equal temperament of A4 = 440 Hz give the tuning, and their loudnesses add up to a chroma vector. The key is the one
whose profile correlates best with it (Krumhansl 1990, chapter 4), where profiles hold the harmonics of their tones, as
chroma vectors do (Gómez 2006, section 3.3).
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np

from preprocessing.dataset.example import Key
from preprocessing.dataset.keys import KEYS, TONICS
from preprocessing.features.spectrogram import hann_window, power_spectrogram

WINDOW_SECS = 0.34
# Of the pitches that count. Above, sample rates from 3,000 Hz would differ, and harmonics outnumber fundamentals.
LOWEST_HZ, HIGHEST_HZ = 60.0, 1_400.0
# Of the weight by pitch: without it, the edges of the range favour some pitch classes.
CENTRE_HZ, WIDTH_OCTAVES = 330.0, 0.9
LOUDNESS_EXPONENT = 0.6  # of amplitudes (Stevens 1957), so that the loudest notes do not decide alone
RANGE_DB = 40.0  # below the frame's strongest peak; weaker ones are noise
# Added to the relative spread of the chroma vector. Correlations ignore how large the differences of pitch classes are,
# and those of noise and drums are small.
MIN_SPREAD = 0.2
MIN_CLARITY = 0.05  # of a key that a clip has; with less, another tonic would fit as well
# Ratings of how well the pitch classes fit, from the tonic upwards (Krumhansl 1990, table 2.1).
PROFILES = (
    (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),  # major
    (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),  # minor
)
# Semitones from a tone to its harmonics, without octaves, and the ratio of successive ones. With these, the halves of
# real clips agree more often than with Gómez's four harmonics and 0.6.
HARMONICS, HARMONIC_RATIO = (0, 0, 7, 0, 4), 0.8


class _Analysis(NamedTuple):
    """The constants of the analysis at one sample rate."""

    window: np.ndarray  # [size] float32
    bin_hz: float
    bins: np.ndarray  # [bins] float32, the numbers of the bins whose peaks count
    weights: np.ndarray  # [bins] float32


def find_key(audio: np.ndarray, sample_rate_hz: int) -> Key:
    """Find the key of a waveform.

    Args:
        audio: `[samples]` float32 in [-1, 1], without padding.
        sample_rate_hz: Its sample rate. Below 3,000 Hz, pitches lack overtones; below 120 Hz, none are in the range.

    Returns:
        The key, whose name is empty if its clarity is below `MIN_CLARITY`. The clarity is the correlation of the key's
        profile with the chroma vector, minus the largest one of a key with another tonic; the correlations of chroma
        vectors with a small spread are reduced. Without any peak, it is NaN.
    """
    chroma = chroma_vector(audio, sample_rate_hz)
    if chroma is None:
        return Key("", math.nan)
    deviation = chroma / chroma.mean() - 1
    spread = math.sqrt(float(np.dot(deviation, deviation)) / len(deviation) + MIN_SPREAD**2)
    correlations = templates() @ deviation / (spread * math.sqrt(len(TONICS)))  # [KEYS]
    best = int(np.argmax(correlations))
    other_tonics = np.arange(len(KEYS)) % len(TONICS) != best % len(TONICS)
    clarity = float(correlations[best] - correlations[other_tonics].max())
    return Key(KEYS[best] if clarity >= MIN_CLARITY else "", clarity)


@cache
def templates() -> np.ndarray:
    """Return the profiles of `KEYS` with harmonics, `[keys, pitch classes]` float64, of mean 0 and norm 1."""
    tones = np.array(PROFILES)
    harmonics = [
        HARMONIC_RATIO**number * np.roll(tones, step, axis=1) for number, step in enumerate(HARMONICS)
    ]
    profiles = np.sum(harmonics, axis=0)
    profiles -= profiles.mean(axis=1, keepdims=True)
    profiles /= np.linalg.norm(profiles, axis=1, keepdims=True)
    return np.array([np.roll(profile, tonic) for profile in profiles for tonic in range(len(TONICS))])


def chroma_vector(audio: np.ndarray, sample_rate_hz: int) -> np.ndarray | None:
    """Return the loudness of each pitch class from C, `[pitch classes]` float64, or None if there is none."""
    if not len(_analysis(sample_rate_hz).bins):
        return None
    pitch, loudness = _peaks(audio, sample_rate_hz)
    if not loudness.any():
        return None
    angle = np.float32(2 * math.pi) * (pitch - np.round(pitch))
    tuning = math.atan2(np.dot(loudness, np.sin(angle)), np.dot(loudness, np.cos(angle))) / (2 * math.pi)
    classes = np.round(pitch - np.float32(tuning)).astype(np.int32) % np.int32(len(TONICS))
    return np.bincount(classes, loudness, minlength=len(TONICS))


def _peaks(audio: np.ndarray, sample_rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the peaks of all frames: `[peaks]` pitches, in semitones as MIDI counts them, and weighted loudnesses."""
    analysis = _analysis(sample_rate_hz)
    size = len(analysis.window)
    if len(audio) < size:
        audio = np.pad(audio, (0, size - len(audio)))
    first_bin = int(analysis.bins[0])
    bins = slice(first_bin - 1, first_bin + len(analysis.bins) + 1)  # one more on each side
    # The windows touch without overlap, which hardly changes a mean over a clip and takes half of the time.
    power = power_spectrogram(np.ascontiguousarray(audio), analysis.window, size, bins)
    middle = power[:, 1:-1]
    floor = middle.max(axis=1, keepdims=True) * np.float32(10 ** (-RANGE_DB / 10))
    is_peak = (middle > power[:, :-2]) & (middle >= power[:, 2:]) & (middle > floor)
    # A third of the time of np.nonzero for two axes.
    frame, column = np.divmod(np.flatnonzero(is_peak).astype(np.int32), np.int32(middle.shape[1]))
    left = frame * power.shape[1] + column  # the index of the bin before a peak
    levels = np.log(np.maximum(power.take(left + np.arange(3, dtype=np.int32)[:, np.newaxis]), 1e-30))
    # The peak of a parabola through three values of the log-spectrum (Smith & Serra 1987).
    curvature = np.minimum(levels[0] - 2 * levels[1] + levels[2], -1e-9)
    offset = 0.5 * (levels[0] - levels[2]) / curvature
    pitch = 69 + 12 * np.log2((analysis.bins[column] + offset) * np.float32(analysis.bin_hz / 440.0))
    return pitch, analysis.weights[column] * np.exp(0.5 * LOUDNESS_EXPONENT * levels[1])


@cache
def _analysis(sample_rate_hz: int) -> _Analysis:
    size = 2 ** round(math.log2(WINDOW_SECS * sample_rate_hz))
    bin_hz = sample_rate_hz / size
    first_bin = max(1, math.ceil(LOWEST_HZ / bin_hz))
    bins = np.arange(first_bin, min(math.floor(HIGHEST_HZ / bin_hz), size // 2 - 1) + 1, dtype=np.float32)
    octaves = np.log2(bins * bin_hz / CENTRE_HZ)
    return _Analysis(
        window=hann_window(size),
        bin_hz=bin_hz,
        bins=bins,
        weights=np.exp(-0.5 * (octaves / WIDTH_OCTAVES) ** 2).astype(np.float32),
    )
