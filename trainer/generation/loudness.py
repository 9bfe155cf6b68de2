"""Set the level of new clips: the loudness that is asked for, and no sample beyond full scale."""

from __future__ import annotations

import numpy as np
import scipy.ndimage

CEILING = 0.97  # of full scale: a 16-bit file does not clip, even after resampling
LOOKAHEAD_SECS = 0.01
MAX_PASSES = 8  # limiting takes level away, which the next pass adds again
TOLERANCE_DB = 0.1
MIN_RMS = 1e-5  # below it, a clip is silent and has no level to set


def set_loudness(clips: np.ndarray, loudness_db: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Scale clips to a loudness, and limit their peaks.

    Args:
        clips: `[clips, samples]` float32.
        loudness_db: `[clips]` RMS level in dBFS; NaN: as the clip is.
        sample_rate_hz: Of the clips.

    Returns:
        `[clips, samples]` float32 in [-`CEILING`, `CEILING`].
    """
    return np.stack(
        [_set(clip, target, sample_rate_hz) for clip, target in zip(clips, loudness_db, strict=True)]
    )


def limit_peaks(clip: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Turn `[samples]` down around peaks above `CEILING`, smoothly.

    The gain is the least that any sample nearby needs, averaged over the same window, so that it never exceeds what a
    peak needs (Hämäläinen 2002, "Smoothing of the control signal without clipped output in digital peak limiters").
    """
    if np.abs(clip).max(initial=0.0) <= CEILING:
        return clip
    needed = CEILING / np.maximum(np.abs(clip), CEILING)
    window = 2 * max(1, round(LOOKAHEAD_SECS * sample_rate_hz / 2)) + 1
    least = scipy.ndimage.minimum_filter1d(needed, window, mode="nearest")
    gain = scipy.ndimage.uniform_filter1d(least.astype(np.float64), window, mode="nearest")
    return np.clip(clip * gain, -CEILING, CEILING).astype(np.float32)


def _set(clip: np.ndarray, loudness_db: float, sample_rate_hz: int) -> np.ndarray:
    limited = limit_peaks(clip, sample_rate_hz)
    if np.isnan(loudness_db) or _rms(clip) < MIN_RMS:
        return limited
    gain = 1.0
    for _ in range(MAX_PASSES):
        error_db = loudness_db - 20 * np.log10(_rms(limited))
        if abs(error_db) < TOLERANCE_DB:
            break
        gain *= 10 ** (error_db / 20)
        limited = limit_peaks(np.float32(gain) * clip, sample_rate_hz)
    return limited


def _rms(clip: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(clip, dtype=np.float64))))
