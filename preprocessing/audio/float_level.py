"""The full scale of float samples: 1 by convention, but some programs write the values of integers."""

from __future__ import annotations

import numpy as np

from preprocessing.audio.errors import BadAudioError

INTEGER_SCALES = (2.0**15, 2.0**23, 2.0**31)
MAX_RMS = 1.0  # of music at full scale 1, even if its peaks exceed it


class FloatLevel:
    """Scales the windows of one recording, of which the first one that shows another scale decides."""

    def __init__(self) -> None:
        self._scale = 1.0

    def to_full_scale(self, window: np.ndarray) -> np.ndarray:
        """Return `[frames]` float32 at full scale 1; its peaks may exceed that.

        Raises:
            BadAudioError: The window is too loud for any scale, or for that of the windows before.
        """
        rms = float(np.sqrt(np.mean(np.square(window, dtype=np.float64))))
        if self._scale == 1.0 and rms > MAX_RMS:
            peak = float(np.abs(window).max())
            self._scale = next((scale for scale in INTEGER_SCALES if peak <= scale), INTEGER_SCALES[-1])
        if rms > MAX_RMS * self._scale:
            raise BadAudioError("unknown_scale", f"an RMS of {rms:.3g}, where full scale is {self._scale:g}")
        return window if self._scale == 1.0 else window * np.float32(1 / self._scale)
