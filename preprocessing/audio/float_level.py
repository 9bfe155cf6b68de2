"""The full scale of float samples: 1 by convention, but some programs write the values of integers."""

from __future__ import annotations

import itertools
import math

import numpy as np

from preprocessing.audio.errors import BadAudioError

INTEGER_SCALES = (2.0**15, 2.0**23, 2.0**31)
MAX_OVERSHOOT = 1.1  # of full scale: resampling and lossy codecs overshoot at clipped peaks
MIN_INTEGER_PEAK = 256.0  # of samples at the scale of integers; smaller ones may have a scale of their own
MAX_RMS = 1.0  # of music at full scale 1, even if its peaks exceed it
MIN_RMS = 1e-3  # of a part that tells anything about the scale


class FloatLevel:
    """The level of a recording with float samples, from all of it that was read: its beginning may be quiet."""

    def __init__(self) -> None:
        self._peak = 0.0
        self._rms: list[float] = []  # of each part that has a sound

    def add(self, samples: np.ndarray) -> None:
        """Add a part of the recording, `[frames]` float32 of about a second."""
        if len(samples):
            self._peak = max(self._peak, float(np.abs(samples).max()))
            rms = math.sqrt(float(np.mean(np.square(samples, dtype=np.float64))))
            if rms > MIN_RMS:
                self._rms.append(rms)

    def full_scale(self) -> float:
        """Return the full scale, 1 or that of integers.

        Raises:
            BadAudioError: The recording is too loud for 1 and not loud enough for integers, or half of it has another
                scale.
        """
        max_rms = max(self._rms, default=0.0)
        if max_rms <= MAX_RMS:
            return 1.0
        for smaller, scale in itertools.pairwise((1.0, *INTEGER_SCALES)):
            fits = max(MIN_INTEGER_PEAK, smaller) < self._peak <= MAX_OVERSHOOT * scale and max_rms <= scale
            if fits and 2 * sum(rms <= smaller for rms in self._rms) < len(self._rms):
                return scale
        detail = f"float samples with an RMS of {max_rms:.3g} and a peak of {self._peak:.3g}"
        raise BadAudioError("unknown_scale", detail)
