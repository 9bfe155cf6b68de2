"""Draw waveforms and log-mel spectrograms of clips, beside their WAV files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from trainer.dsp import mel
from trainer.reporting import figures

PICTURED_CLIPS = 8  # more would be too small to see
PICTURES = ("waveforms", "spectrograms")


def draw_pictures(
    folder: Path, rows: dict[str, np.ndarray], sample_rate_hz: int, titles: list[str], heading: str
) -> dict[str, Path]:
    """Draw `waveforms.png` and `spectrograms.png`, each a grid of clips.

    Args:
        folder: Where to write them.
        rows: Label -> clips, `[clips, samples]` float32 in [-1, 1], from the top row down.
        sample_rate_hz: The rate of every clip.
        titles: One per column.
        heading: The title of the pictures.

    Returns:
        The path of each picture, by its name without the suffix.
    """
    pictures = {name: folder / f"{name}.png" for name in PICTURES}
    figures.draw_waveforms(pictures["waveforms"], rows, sample_rate_hz, titles, heading)
    mels = {name: mel.log_mel(tf.constant(clips), sample_rate_hz).numpy() for name, clips in rows.items()}
    scale = mel.mel_scale(sample_rate_hz)
    hop_secs = scale.hop_samples / sample_rate_hz
    spectrograms = pictures["spectrograms"]
    figures.draw_spectrograms(spectrograms, mels, sample_rate_hz, hop_secs, scale.band_hz, titles, heading)
    return pictures
