import struct

import numpy as np
import pytest
from support.inputs.audio_bytes import decode, tone

from preprocessing.audio.headers.chunks import make_chunk

EXTENSIBLE_PCM = struct.pack("<H", 1) + bytes.fromhex("000000001000800000aa00389b71")


def wav(samples, bits, container_bytes, is_extensible=False, channels=1):
    """Return a PCM WAV file of `samples`, int64, each in the lower bytes of `container_bytes`."""
    rate_hz, block_bytes = 22_050, channels * container_bytes
    declared = 8 * container_bytes if is_extensible else bits
    tag = 0xFFFE if is_extensible else 1
    layout = struct.pack("<HHIIHH", tag, channels, rate_hz, rate_hz * block_bytes, block_bytes, declared)
    if is_extensible:
        layout += struct.pack("<HHI", 22, bits, 0) + EXTENSIBLE_PCM
    data = samples.astype("<i8").view(np.uint8).reshape(-1, 8)[:, :container_bytes].tobytes()
    content = b"WAVE" + make_chunk(b"fmt ", layout, "<") + make_chunk(b"data", data, "<")
    return b"RIFF" + struct.pack("<I", len(content)) + content


@pytest.mark.parametrize("is_extensible", [False, True])
@pytest.mark.parametrize(("bits", "container_bytes"), [(24, 4), (16, 4), (16, 3), (20, 3), (20, 4), (12, 2)])
def test_samples_in_the_lower_or_upper_bits_are_as_loud_as_they_are(bits, container_bytes, is_extensible):
    samples = np.round(tone(1.0) * (2 ** (bits - 1) - 1)).astype(np.int64)
    unused = 8 * container_bytes - bits
    for stored in (samples, samples << unused):
        (clip,) = decode(wav(stored, bits, container_bytes, is_extensible))
        assert np.abs(clip.waveform).max() == pytest.approx(0.5, rel=0.02)


def test_quiet_samples_in_the_upper_bits_stay_quiet():
    samples = np.round(tone(1.0) * 6_000).astype(np.int64)
    (clip,) = decode(wav(samples << 8, 24, 4))
    assert np.abs(clip.waveform).max() == pytest.approx(3_000 / 2**23, rel=0.1)


def test_music_that_begins_with_silence_shows_its_bits_later():
    music = np.concatenate([np.zeros(22_050 // 4), tone(1.0)])
    (clip,) = decode(wav(np.round(music * (2**23 - 1)).astype(np.int64), 24, 4, channels=1))
    assert np.abs(clip.waveform).max() == pytest.approx(0.5, rel=0.02)


def test_bits_that_are_not_declared_follow_from_the_bytes_of_a_sample():
    samples = np.round(tone(1.0) * 32_767).astype(np.int64)
    (clip,) = decode(wav(samples, 0, 2))
    assert np.abs(clip.waveform).max() == pytest.approx(0.5, rel=0.02)
