import struct

import numpy as np
import pytest
from support.inputs.audio_bytes import decode, encode, noise, tone

from preprocessing.options import AudioFormat

ALL = AudioFormat(3_000, 20.0, 60_000, min_secs=0.25)


def mp3(secs, rate_hz=22_050, channels=1):
    return encode(noise(secs, rate_hz, channels), rate_hz, kind="MP3", subtype="MPEG_LAYER_III")


def secs_of(data):
    (clip,) = decode(data, ALL)
    return clip.valid_samples / 3_000


ID3V1 = b"TAG" + bytes(125)
ID3V2 = b"ID3\x04\0\0\0\0\x02\x05" + bytes(261)
APE = b"APETAGEX" + struct.pack("<IIII", 2_000, 300, 1, 0) + bytes(308)


@pytest.mark.parametrize(
    "between", [b"", ID3V2, ID3V1, ID3V1 + ID3V2, APE, ID3V2 + bytes(500), bytes(100_000)]
)
@pytest.mark.parametrize(("rate_hz", "channels"), [(22_050, 1), (44_100, 2)])
def test_joined_files_are_read_to_their_end(between, rate_hz, channels):
    parts = [mp3(3.0, rate_hz, channels), mp3(2.0, rate_hz, channels), mp3(2.5, rate_hz, channels)]
    assert secs_of(between.join(parts)) == pytest.approx(7.5, abs=0.5)


@pytest.mark.parametrize("after", [b"", ID3V1, APE, APE + ID3V1, bytes(70_000), tone(1.0).tobytes()])
def test_what_follows_a_single_file_does_not_change_its_samples(after):
    data = mp3(3.0)
    (clip,) = decode(data + after, ALL)
    (expected,) = decode(data, ALL)
    np.testing.assert_array_equal(clip.waveform, expected.waveform)


@pytest.mark.parametrize("frames", [0, 1, 20, 100_000])
def test_a_false_number_of_frames_does_not_decide_what_is_read(frames):
    data = bytearray(mp3(5.0))
    offset = bytes(data).find(b"Xing")
    data[offset + 8 : offset + 12] = struct.pack(">I", frames)
    assert secs_of(bytes(data)) == pytest.approx(5.0, abs=0.3)


def test_a_false_number_of_bytes_does_not_decide_what_is_read():
    for declared in (1_000, 2**31):
        data = bytearray(mp3(5.0))
        offset = bytes(data).find(b"Xing")
        data[offset + 12 : offset + 16] = struct.pack(">I", declared)
        assert secs_of(bytes(data)) == pytest.approx(5.0, abs=0.3)
