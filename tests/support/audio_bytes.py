"""Sounds as files, and what becomes of them as clips."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile

from preprocessing.audio.decode import decode_clips
from preprocessing.audio.errors import BadAudioError
from preprocessing.options import AudioFormat

SECOND = AudioFormat(3_000, 1.0, 3_000, min_secs=0.25, max_secs=600)
HOPS = AudioFormat(3_000, 0.5, 1_501, hop_secs=0.3, min_secs=0.2, max_secs=600)


def encoded(waveform, rate_hz=22_050, kind="WAV", subtype="PCM_16", endian=None):
    stream = io.BytesIO()
    soundfile.write(stream, waveform, rate_hz, format=kind, subtype=subtype, endian=endian)
    return stream.getvalue()


def tone(secs, rate_hz=22_050, hz=440.0, channels=1):
    wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(round(secs * rate_hz)) / rate_hz)
    return np.stack([wave] * channels, axis=1) if channels > 1 else wave


def noise(secs, rate_hz=22_050, channels=1):
    wave = 0.2 * np.random.default_rng(0).standard_normal((round(secs * rate_hz), channels))
    return np.clip(wave, -1, 1)


def taken(data, audio=SECOND):
    return list(decode_clips(io.BytesIO(data), audio))


def reason_of(data, audio=SECOND):
    with pytest.raises(BadAudioError) as caught:
        taken(data, audio)
    return caught.value.reason


def with_number(data, place, layout, value):
    changed = bytearray(data)
    struct.pack_into(layout, changed, place, value)
    return bytes(changed)
