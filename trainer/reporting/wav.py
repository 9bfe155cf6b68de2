"""Write and read mono WAV files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile

from preprocessing.html.media import pcm16
from preprocessing.storage.atomic import write_atomically


def write_wav(
    path: Path, audio: np.ndarray, sample_rate_hz: int, output_rate_hz: int | None = None, comment: str = ""
) -> None:
    """Write one mono clip as a 16-bit PCM WAV file, atomically.

    Args:
        path: The file, in a folder that exists.
        audio: `[samples]` float32; values beyond [-1, 1] are clipped, NaN becomes silence.
        sample_rate_hz: The rate of `audio`.
        output_rate_hz: The rate of the file; None keeps that of `audio`.
        comment: Is stored as ICMT in the file's INFO chunk.

    Raises:
        OSError: The folder is missing, read-only or full.
    """
    rate_hz = output_rate_hz or sample_rate_hz
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", rate_hz, channels=1, format="WAV", subtype="PCM_16") as wav:
        if comment:
            wav.comment = comment
        wav.write(pcm16(audio, sample_rate_hz, rate_hz))
    write_atomically(path, file.getvalue())


def read_wav(path: Path) -> np.ndarray:
    """Read a mono WAV file as `[samples]` float32 in [-1, 1], at the file's own rate."""
    audio, _ = soundfile.read(path, dtype="float32")
    return audio


def read_comment(path: Path) -> str:
    """Return the comment of a WAV file, or an empty string.

    Raises:
        soundfile.LibsndfileError: It is no audio file.
    """
    with soundfile.SoundFile(path) as wav:
        return str(wav.comment)
