import io
import struct

import numpy as np
import pytest
from support.inputs.audio_bytes import decode, encode, noise, patch_number

from preprocessing.audio.decode import decode_clips
from preprocessing.audio.headers.chunks import make_chunk
from preprocessing.options import AudioFormat

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


@pytest.mark.parametrize("kind", ["AU", "AIFF", "W64", "RF64"])
def test_samples_are_read_beyond_a_size_that_is_too_small_in_every_container(kind):
    samples = noise(4.0)[:, 0]
    data = encode(samples, kind=kind)
    short = struct.pack({"AU": ">I", "AIFF": ">I", "W64": "<Q", "RF64": "<Q"}[kind], 44_100)
    if kind == "AU":
        data = data[:8] + short + data[12:]
    elif kind == "AIFF":
        at = data.index(b"SSND") + 4
        data = data[:at] + short + data[at + 4 :]
    elif kind == "W64":
        at = data.index(b"data" + bytes.fromhex("f3acd311")) + 16
        data = data[:at] + short + data[at + 8 :]
    else:
        at = data.index(b"ds64") + 16
        data = data[:at] + short + data[at + 8 :]
    clips = decode(data, AudioFormat(3_000, 1.0, 3_000, hop_secs=1.0))
    assert len(clips) == 4


def test_samples_behind_digital_silence_are_read_beyond_a_stale_size():
    samples = np.concatenate([noise(1.0)[:, 0], np.zeros(22_050), noise(1.0)[:, 0]])
    data = patch_number(encode(samples), 40, "<I", 44_100)
    assert [clip.start_secs for clip in decode(data, AudioFormat(3_000, 1.0, 3_000, hop_secs=1.0))] == [
        0.0,
        2.0,
    ]


def test_a_second_data_chunk_is_reported():
    data, losses = encode(noise(1.0)), []
    data += b"data" + struct.pack("<I", 8_000) + bytes(8_000)
    assert list(decode_clips(io.BytesIO(data), AudioFormat(3_000, 1.0, 3_000, hop_secs=1.0), losses.append))
    assert losses == ["a second data chunk, of 8000 bytes, is not read"]


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
