"""Read a user's audio files as source clips, in any format that preprocessing decodes."""

from __future__ import annotations

import hashlib
import io
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from preprocessing.audio.decode import decode_clips
from preprocessing.audio.errors import BadAudioError
from preprocessing.errors import DataError
from preprocessing.options import AudioFormat
from trainer.runs.storage import StorageFolder, is_remote

MAX_SOURCE_SECS = 600.0  # of a file that are used: memory grows with it


class SourceFile(NamedTuple):
    """A decoded file."""

    audio: np.ndarray  # [samples] float32 in [-1, 1], mono
    sha256: str  # of the file


def read_source_file(uri: str, sample_rate_hz: int) -> SourceFile:
    """Read a file, local or on `gs://`, and mix and resample it as preprocessing does.

    Files longer than `MAX_SOURCE_SECS` are cut, and a line says so.

    Raises:
        CommandError: There is no such file, or it is not audio or silent (exit code 3), or storage failed (4).
    """
    samples = math.ceil(MAX_SOURCE_SECS * sample_rate_hz)
    audio_format = AudioFormat(sample_rate_hz, clip_secs=MAX_SOURCE_SECS, clip_samples=samples, min_secs=0.0)
    losses: list[str] = []
    with _open(uri) as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        try:
            (clip,) = decode_clips(stream, audio_format, losses.append)
        except BadAudioError as error:
            raise DataError(f"{uri} is no usable recording: {error.detail}") from error
    for loss in losses:
        print(f"{uri}: {loss}")
    if clip.valid_samples == samples:
        print(f"{uri} is longer than {MAX_SOURCE_SECS:g} s: the rest is left out")
    return SourceFile(clip.waveform[: clip.valid_samples].copy(), digest)


def _open(uri: str) -> io.BytesIO | io.BufferedReader:
    if is_remote(uri):
        folder, _, name = uri.rpartition("/")
        content = StorageFolder(folder).read(name)
        if content is not None:
            return io.BytesIO(content)
    elif Path(uri).is_file():
        return Path(uri).open("rb")
    raise DataError(f"{uri} is no file: check the path")
