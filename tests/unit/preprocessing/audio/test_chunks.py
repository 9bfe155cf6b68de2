import struct

import numpy as np
import pytest
from support.inputs.audio_bytes import decode, encode, noise, patch_number

from preprocessing.audio.headers.chunks import make_chunk

WAV = encode(noise(0.9))
AIFF = encode(noise(0.9), kind="AIFF")
(EXPECTED,) = decode(WAV)


def assert_decoded_completely(data, expected=EXPECTED):
    (clip,) = decode(data)
    np.testing.assert_array_equal(clip.waveform, expected.waveform)


@pytest.mark.parametrize("name", [b"LIST", b"bext", b"xyz "])
@pytest.mark.parametrize("size", [5, 6, 7, 4_001])
@pytest.mark.parametrize("padding", [b"", b"\0"])
def test_a_chunk_of_odd_size_may_lack_its_padding(name, size, padding):
    content = bytes(range(1, 6)) * 1_000
    chunk = name + struct.pack("<I", size) + content[:size] + padding * (size % 2)
    assert_decoded_completely(WAV[:36] + chunk + WAV[36:])


def test_an_aiff_chunk_of_odd_size_may_lack_its_padding():
    chunk = b"NAME" + struct.pack(">I", 3) + b"abc"
    (expected,) = decode(AIFF)
    assert_decoded_completely(AIFF[:12] + chunk + AIFF[12:], expected)


@pytest.mark.parametrize("false_size", [3, 100_000, 0xFFFFFFFF])
def test_a_false_size_does_not_hide_the_chunks_behind_it(false_size):
    chunk = b"LIST" + struct.pack("<I", false_size) + b"INFO with a size that is wrong"
    assert_decoded_completely(WAV[:36] + chunk + WAV[36:])
    assert_decoded_completely(WAV[:12] + chunk + WAV[12:])


def test_the_format_may_follow_the_samples():
    assert_decoded_completely(WAV[:12] + WAV[36:] + WAV[12:36])


@pytest.mark.parametrize("declared", [1_000, 4_001, 20_000])
def test_samples_are_read_beyond_the_size_of_a_recorder_that_crashed(declared):
    assert_decoded_completely(patch_number(WAV, 40, "<I", declared))


@pytest.mark.parametrize(
    "rest",
    [
        b"TAG" + bytes(125),
        b"APETAGEX" + bytes(5_000),
        b"ID3\x04\0\0\0\0\x40\0" + b"\x55" * 8_192,
        make_chunk(b"LIST", b"INFO" + b"\x55" * 8_192, "<"),
        make_chunk(b"unkn", b"\x55" * 8_192, "<"),
        bytes(10_000),
    ],
)
def test_what_follows_the_samples_is_not_taken_for_samples(rest):
    assert_decoded_completely(WAV + rest)
