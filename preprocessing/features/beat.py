"""The clarity of a clip's beat: how much of its onsets lies on the beat.

The onset strength is demodulated at the tempo and smoothed (complex demodulation), so that the phase may drift. The
beat phase of the trainer's models computes the same strengths from its own onsets
(`trainer/models/hierarchical/beat_phase.py`).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

BEAT_MULTIPLES = (1, 2)  # phase cycles per beat: of the beat and of half a beat
CLEAR_COHERENCE = (
    0.25  # coherence of onsets and beat that counts as strength 1; one real clip in ten reaches it
)
WINDOW_SECS = 1.5  # standard deviation of the window in which the phase of a beat is assumed constant
STEP_SECS = 0.5  # between the windows: their means are those of windows at every frame, up to a thousandth


def beat_clarity(onsets: np.ndarray, frames_per_sec: float, tempo_bpm: float) -> float:
    """Return the mean strength of the beat and of half a beat, in [0, 1].

    Args:
        onsets: The onset strength, `[frames]` float32.
        frames_per_sec: Their rate.
        tempo_bpm: The tempo; NaN gives NaN.
    """
    if math.isnan(tempo_bpm):
        return math.nan
    onsets = onsets - onsets.mean()
    cycles = tempo_bpm / 60 / frames_per_sec * np.outer(BEAT_MULTIPLES, np.arange(len(onsets)))
    radians = (2 * math.pi * (cycles - np.floor(cycles))).astype(np.float32)  # [multiples, frames]
    windows = _windows(len(onsets), frames_per_sec)  # [windows, frames]
    signals = np.concatenate([onsets * np.cos(radians), onsets * np.sin(radians), [np.square(onsets)]])
    real, imaginary, (energy,) = np.split(signals @ windows.T, [len(radians), 2 * len(radians)])
    # In [0, 1] by the Cauchy-Schwarz inequality.
    coherence = np.sqrt((real**2 + imaginary**2) / (energy * windows.sum(axis=1) + np.float32(1e-9)))
    return min(float(coherence.mean()) / CLEAR_COHERENCE, 1.0)


@lru_cache(maxsize=8)
def _windows(frames: int, frames_per_sec: float) -> np.ndarray:
    """Return Gaussian windows with centres `STEP_SECS` apart, `[windows, frames]` float32."""
    centres = np.arange(0, frames, STEP_SECS * frames_per_sec)[:, np.newaxis]
    offsets = (np.arange(frames) - centres) / (WINDOW_SECS * frames_per_sec)
    # Without the tails, which are too small for normal numbers: arithmetic on others takes ten times as long.
    return np.where(np.abs(offsets) < 5, np.exp(-0.5 * offsets**2), 0).astype(np.float32)
