"""Statistics of music that need no embedding: tones, harmony, rhythm, form and dynamics of one clip.

Their distributions over real and over generated clips can be compared: see `metrics.spread_distance`.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import librosa
import numpy as np
import scipy.ndimage
from librosa.filters import chroma

from preprocessing.features.attributes import FRAME_HOP_SECS, onset_envelope

WINDOW_SECS = 0.2  # of the spectra: long enough to tell the partials of a chord apart
RANGE_DB = 60.0  # what is weaker than the loudest bin by more than this is not heard
STRONG_BINS = 0.05  # share of the bins of a frame that counts as its strongest
PEAK_DB, PEAK_BINS = 6.0, 17  # a peak is this much above the mean of as many bins around it
HARMONY_SECS = 3.0
PULSE_SECS = (0.25, 1.5)  # periods of a pulse, from 240 to 40 BPM
PULSE_WINDOW_SECS = 6.0
SEGMENT_SECS = 1.0  # of the form
NEIGHBOUR_SEGMENTS = 3  # closer segments are similar because sound lasts, not because it returns
KERNEL_SEGMENTS = 3  # on each side of a boundary, for the novelty
DYNAMICS_SECS = 0.4  # short-term loudness, as in EBU Tech 3342
SILENCE_RMS = 1e-5  # -100 dBFS


class MusicalStatistics(NamedTuple):
    """Statistics of one clip; NaN where it is silent, not finite or too short for one of them."""

    flatness_db: float  # median spectral flatness: 0 is white noise, pure tones are far below
    strong_bin_share: float  # of the energy that lies in the strongest 5% of the bins, 0 to 1
    chroma_concentration: float  # of three seconds: 0 is all pitch classes alike, 1 a single one
    partial_duration_secs: float  # how long spectral peaks last, weighted by their magnitude
    pulse_strength: float  # strongest autocorrelation of the onsets at periods of 0.25 to 1.5 s, -1 to 1
    pulse_stability: float  # autocorrelation at that period within six seconds, its mean, -1 to 1
    repetition: float  # similarity of a second to the most similar other one that is not near, -1 to 1
    novelty: float  # contrast between three seconds and the next three, its mean, 0 to 1
    loudness_range_db: float  # between the 10th and the 95th percentile of the short-term level


class _Spectrogram(NamedTuple):
    power: np.ndarray  # [frames, bins] float32
    hop_secs: float


def measure(audio: np.ndarray, sample_rate_hz: int) -> MusicalStatistics:
    """Measure the statistics of a clip.

    Args:
        audio: `[samples]` float32 in [-1, 1]; a diverged model may give NaN.
        sample_rate_hz: Its sample rate.
    """
    rms = math.sqrt(float(np.mean(np.square(audio)))) if audio.size else 0.0
    if not math.isfinite(rms) or rms < SILENCE_RMS:
        return MusicalStatistics(*[math.nan] * len(MusicalStatistics._fields))
    spectrogram = _spectrogram(audio, sample_rate_hz)
    pulse_strength, pulse_stability = _pulse(onset_envelope(audio, sample_rate_hz), sample_rate_hz)
    repetition, novelty = _form(spectrogram, sample_rate_hz)
    return MusicalStatistics(
        flatness_db=_flatness_db(spectrogram.power),
        strong_bin_share=_strong_bin_share(spectrogram.power),
        chroma_concentration=_chroma_concentration(spectrogram, sample_rate_hz),
        partial_duration_secs=_partial_duration_secs(spectrogram),
        pulse_strength=pulse_strength,
        pulse_stability=pulse_stability,
        repetition=repetition,
        novelty=novelty,
        loudness_range_db=_loudness_range_db(audio, sample_rate_hz),
    )


def _spectrogram(audio: np.ndarray, sample_rate_hz: int) -> _Spectrogram:
    """Power of the bins, with a floor `RANGE_DB` below the loudest one; silent frames are left out."""
    size = 2 ** round(math.log2(WINDOW_SECS * sample_rate_hz))
    padded = np.pad(audio, (0, max(0, size - audio.size)))
    power = np.abs(librosa.stft(padded, n_fft=size, hop_length=size // 4, center=False)).T ** 2
    floor = power.max() * 10 ** (-RANGE_DB / 10)
    heard = power[power.max(axis=1) > floor]
    return _Spectrogram(np.maximum(heard, floor), size // 4 / sample_rate_hz)


def _flatness_db(power: np.ndarray) -> float:
    """Geometric over arithmetic mean of the bins (Johnston 1988), the median over frames."""
    ratios_db = 10 * (np.log10(power).mean(axis=1) - np.log10(power.mean(axis=1)))
    return float(np.median(ratios_db))


def _strong_bin_share(power: np.ndarray) -> float:
    strongest = max(1, round(STRONG_BINS * power.shape[1]))
    ordered = np.partition(power, power.shape[1] - strongest, axis=1)
    return float(np.mean(ordered[:, -strongest:].sum(axis=1) / power.sum(axis=1)))


def _chroma_concentration(spectrogram: _Spectrogram, sample_rate_hz: int) -> float:
    """One less the entropy of the pitch classes, of the largest possible one: the mean over `HARMONY_SECS`."""
    filters = _chroma_filters(sample_rate_hz, spectrogram.power.shape[1])
    spans = _means_over(spectrogram.power @ filters.T, HARMONY_SECS / spectrogram.hop_secs)
    shares = spans / spans.sum(axis=1, keepdims=True)
    entropy = -np.sum(shares * np.log(np.maximum(shares, 1e-12)), axis=1)
    return float(np.mean(1 - entropy / math.log(shares.shape[1])))


@cache
def _chroma_filters(sample_rate_hz: int, bins: int) -> np.ndarray:
    """`[12, bins]` float32."""
    return chroma(sr=sample_rate_hz, n_fft=2 * (bins - 1))


def _partial_duration_secs(spectrogram: _Spectrogram) -> float:
    """Follow peaks from frame to frame, to the same bin or a neighbour (McAulay & Quatieri 1986)."""
    power = spectrogram.power
    padded = np.pad(power, ((0, 0), (1, 1)))
    peaks = (power >= padded[:, :-2]) & (power > padded[:, 2:])
    around = scipy.ndimage.uniform_filter1d(power, PEAK_BINS, axis=1, mode="nearest")
    peaks &= power > around * 10 ** (PEAK_DB / 10)
    ages = np.zeros(power.shape, np.int32)  # frames since the start of the peak's partial
    age = np.zeros(power.shape[1] + 2, np.int32)
    for frame, is_peak in enumerate(peaks):
        oldest = np.maximum(np.maximum(age[:-2], age[2:]), age[1:-1])
        ages[frame] = np.where(is_peak, oldest + 1, 0)
        age[1:-1] = ages[frame]
    weights = np.where(peaks, np.sqrt(power), 0.0)
    if not peaks.any():
        return 0.0
    # The ages of a partial of n frames are 1 to n, on average half of n + 1.
    return float(2 * np.sum(ages * weights) / weights.sum() - 1) * spectrogram.hop_secs


def _pulse(onsets: np.ndarray, sample_rate_hz: int) -> tuple[float, float]:
    """Strength of the pulse, and its stability; NaN for a clip without onsets or shorter than two windows."""
    hop_secs = round(sample_rate_hz * FRAME_HOP_SECS) / sample_rate_hz
    window = round(PULSE_WINDOW_SECS / hop_secs)
    if len(onsets) < 2 * window or np.ptp(onsets) == 0:
        return math.nan, math.nan
    lags = range(*(round(secs / hop_secs) for secs in PULSE_SECS))
    strengths = [_autocorrelation(onsets, lag) for lag in lags]
    period = lags[int(np.argmax(strengths))]
    windows = (onsets[first : first + window] for first in range(0, len(onsets) - window + 1, window // 2))
    return max(strengths), float(np.mean([_autocorrelation(part, period) for part in windows]))


def _autocorrelation(values: np.ndarray, lag: int) -> float:
    """Correlation of `[n]` with itself `lag` later, in [-1, 1]; 0 where it is constant."""
    centred = values - values.mean()
    early, late = centred[:-lag], centred[lag:]
    energy = math.sqrt(float(np.dot(early, early)) * float(np.dot(late, late)))
    return float(np.dot(early, late)) / energy if energy > 0 else 0.0


def _form(spectrogram: _Spectrogram, sample_rate_hz: int) -> tuple[float, float]:
    """Repetition and novelty, from the similarity of all seconds; NaN for a clip of a few seconds.

    The similarity is the cosine of the pitch classes' and of the spectrum's deviations from their means.
    """
    filters = _chroma_filters(sample_rate_hz, spectrogram.power.shape[1])
    level = np.log(spectrogram.power @ librosa.util.normalize(filters, norm=1, axis=1).T)
    bands = np.stack(
        [part.mean(axis=1) for part in np.array_split(np.log(spectrogram.power), 16, axis=1)], axis=1
    )
    segments = _means_over(np.concatenate([level, bands], axis=1), SEGMENT_SECS / spectrogram.hop_secs)
    count = len(segments)
    if count < 2 * (NEIGHBOUR_SEGMENTS + 1):
        return math.nan, math.nan
    deviations = segments - segments.mean(axis=0)
    deviations /= np.linalg.norm(deviations, axis=1, keepdims=True) + 1e-9
    similarity = deviations @ deviations.T  # [segments, segments], -1 to 1
    distance = np.abs(np.subtract.outer(np.arange(count), np.arange(count)))
    far = np.where(distance > NEIGHBOUR_SEGMENTS, similarity, -1.0)
    return float(far.max(axis=1).mean()), _novelty(similarity)


def _novelty(similarity: np.ndarray) -> float:
    """Mean response of a checkerboard kernel along the diagonal (Foote 2000), scaled to at most 1."""
    side = np.repeat([1.0, -1.0], KERNEL_SEGMENTS)
    kernel = np.outer(side, side) / len(side) ** 2
    starts = range(len(similarity) - len(side) + 1)
    responses = [
        np.sum(kernel * similarity[first : first + len(side), first : first + len(side)]) for first in starts
    ]
    return float(np.mean(np.maximum(responses, 0.0)))


def _loudness_range_db(audio: np.ndarray, sample_rate_hz: int) -> float:
    """Spread of the level of `DYNAMICS_SECS`, without silence (after EBU Tech 3342)."""
    powers = _means_over(np.square(audio)[:, np.newaxis], DYNAMICS_SECS * sample_rate_hz)[:, 0]
    levels_db = 10 * np.log10(np.maximum(powers, powers.max() * 10 ** (-RANGE_DB / 10)))
    low, high = np.percentile(levels_db, [10, 95])
    return float(high - low)


def _means_over(rows: np.ndarray, length: float) -> np.ndarray:
    """Means of parts of about `length` rows: `[n, dim]` -> `[parts, dim]`, at least one part."""
    return np.stack([part.mean(axis=0) for part in np.array_split(rows, max(1, round(len(rows) / length)))])
