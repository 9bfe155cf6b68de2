import io
import struct

import numpy as np
import pytest
from support.inputs.audio_bytes import encode, noise, tone

from preprocessing.audio.decode import decode_clips
from preprocessing.options import AudioFormat

ALL = AudioFormat(8_000, 20.0, 160_000, min_secs=0.25)
FORMATS = [
    ("WAV", "PCM_16"),
    ("WAV", "FLOAT"),
    ("RF64", "PCM_16"),
    ("W64", "PCM_24"),
    ("AIFF", "PCM_16"),
    ("AU", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]


def sound(kind, subtype, secs=2.0, rate_hz=24_000, channels=1, hz=440.0):
    return encode(tone(secs, rate_hz, hz, channels), rate_hz, kind, subtype)


def decode_all(data):
    losses = []
    (clip,) = decode_clips(io.BytesIO(data), ALL, losses.append)
    return clip.waveform[: clip.valid_samples], losses


def dominant_hz(waveform):
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return np.argmax(spectrum) * 8_000 / len(waveform)


@pytest.mark.parametrize(("rate_hz", "channels"), [(24_000, 1), (48_000, 1), (24_000, 2)])
@pytest.mark.parametrize(("kind", "subtype"), FORMATS)
def test_joined_recordings_are_all_read_whatever_their_formats(kind, subtype, rate_hz, channels):
    parts = [
        sound(kind, subtype),
        sound(kind, subtype, 2.0, rate_hz, channels, hz=880.0),
        sound(kind, subtype, hz=1_320.0),
    ]
    waveform, losses = decode_all(b"".join(parts))
    assert len(waveform) / 8_000 == pytest.approx(6.0, abs=0.35)
    for number, hz in enumerate((440.0, 880.0, 1_320.0)):
        middle = waveform[16_000 * number + 6_000 : 16_000 * number + 12_000]
        assert dominant_hz(middle) == pytest.approx(hz, abs=4)
        assert np.abs(middle).max() == pytest.approx(0.5, abs=0.05)
    assert losses == []


@pytest.mark.parametrize(("kind", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")])
def test_a_recording_between_others_that_cannot_be_read_is_reported(kind, subtype):
    broken = sound(kind, subtype)[:400] + bytes(3_000)
    waveform, losses = decode_all(sound(kind, subtype) + broken + sound(kind, subtype, hz=880.0))
    assert len(waveform) / 8_000 == pytest.approx(4.0, abs=0.3)
    assert dominant_hz(waveform[18_000:30_000]) == pytest.approx(880, abs=4)
    assert len(losses) == 1


def test_mp3_frames_after_a_gap_are_read():
    waveform, _ = decode_all(sound("MP3", None) + bytes(5_000) + sound("MP3", None, hz=880.0))
    assert len(waveform) / 8_000 == pytest.approx(4.0, abs=0.3)


@pytest.mark.parametrize("before", [bytes(1_000), b"left over from something else" * 60, bytes(40_000)])
def test_bytes_before_the_first_mp3_frame_are_skipped(before):
    data = sound("MP3", None)
    np.testing.assert_array_equal(decode_all(before + data)[0], decode_all(data)[0])


@pytest.mark.parametrize("frames", [0, 1, 24_000, 47_999, 10**9])
def test_a_false_number_of_flac_frames_does_not_decide_what_is_read(frames):
    data = bytearray(sound("FLAC", "PCM_16"))
    expected, _ = decode_all(bytes(data))
    (high,) = struct.unpack_from(">I", data, 18)
    struct.pack_into(">II", data, 18, high & 0xFFFFFFF0, frames)
    waveform, losses = decode_all(bytes(data))
    np.testing.assert_array_equal(waveform, expected)
    assert losses == []


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_a_tag_at_the_end_is_no_loss(kind):
    data = encode(noise(2.0, 24_000), 24_000, kind, None)
    waveform, losses = decode_all(data + b"TAG" + bytes(125))
    np.testing.assert_array_equal(waveform, decode_all(data)[0])
    assert losses == []


def test_a_flac_file_that_is_corrupt_in_its_middle_is_read_so_far_and_reported():
    data = bytearray(encode(noise(4.0, 24_000), 24_000, "FLAC", "PCM_16"))
    data[len(data) // 2 : len(data) // 2 + 3_000] = bytes(3_000)
    waveform, losses = decode_all(bytes(data))
    assert 1.5 < len(waveform) / 8_000 < 2.5
    assert losses == [f"decoding fails after {len(waveform) / 8_000:.3f} s"]
