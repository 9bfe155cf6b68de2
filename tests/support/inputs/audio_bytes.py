"""Test signals, audio files in memory, and what they are decoded to."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile

from preprocessing.audio.decode import decode_clips
from preprocessing.audio.errors import BadAudioError
from preprocessing.options import AudioFormat

ONE_SECOND = AudioFormat(3_000, 1.0, 3_000, min_secs=0.25, max_secs=600)
OVERLAPPING = AudioFormat(3_000, 0.5, 1_501, hop_secs=0.3, min_secs=0.2, max_secs=600)


def encode(waveform, rate_hz=22_050, kind="WAV", subtype="PCM_16", endian=None):
    """Return `[frames]` or `[frames, channels]` as the bytes of an audio file."""
    stream = io.BytesIO()
    soundfile.write(stream, waveform, rate_hz, format=kind, subtype=subtype, endian=endian)
    return stream.getvalue()


def tone(secs, rate_hz=22_050, hz=440.0, channels=1):
    waveform = 0.5 * np.sin(2 * np.pi * hz * np.arange(round(secs * rate_hz)) / rate_hz)
    return np.stack([waveform] * channels, axis=1) if channels > 1 else waveform


def noise(secs, rate_hz=22_050, channels=1):
    waveform = 0.2 * np.random.default_rng(0).standard_normal((round(secs * rate_hz), channels))
    return np.clip(waveform, -1, 1)


def decode(data, audio_format=ONE_SECOND):
    """Return the clips of a file."""
    return list(decode_clips(io.BytesIO(data), audio_format))


def rejection_reason(data, audio_format=ONE_SECOND):
    """Return the reason for which a file is rejected."""
    with pytest.raises(BadAudioError) as caught:
        decode(data, audio_format)
    return caught.value.reason


def patch_number(data, offset, layout, value):
    """Return `data` with a number in `struct` layout written over the bytes at `offset`."""
    patched = bytearray(data)
    struct.pack_into(layout, patched, offset, value)
    return bytes(patched)
