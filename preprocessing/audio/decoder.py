"""What every decoder offers, whichever library it uses."""

from __future__ import annotations

from typing import Protocol

import numpy as np

MIN_DECODED_SHARE = 0.99  # of the declared length; less is a loss


class Decoder(Protocol):
    """One recording of a file in one format, decoded forward.

    Where a file changes its format midway, or several were joined, another decoder goes on.
    """

    sample_rate_hz: int
    channels: int
    dtype: np.dtype  # of the samples: int16, or float32 at full scale 1
    scale: float  # by which the samples are too small
    has_integer_samples: bool  # which are finite and within full scale
    is_compressed: bool
    declared_frames: int  # 0 if not declared
    declares_more: bool  # than the file has, in bytes
    loss: str  # once the rest or parts of it could not be decoded: what was lost

    def read(self, block: np.ndarray) -> int:
        """Fill `block`, `[frames, channels]` of `dtype`, and return how many frames there were.

        Fewer than asked only where the recording ends or cannot be decoded.

        Raises:
            Exception: Whatever the file's stream raises, unchanged.
        """

    def reached_end_of_file(self) -> bool:
        """Return whether the decoder has asked for more bytes than there are."""

    def close(self) -> None:
        """Free the decoder. The stream stays open."""
