"""Truncated, corrupt, tagged and malicious files: intact samples are kept, other files get a reason."""

import io
import pickle
import struct
import tracemalloc

import numpy as np
import pytest
import soundfile
from support.inputs.audio_bytes import (
    ONE_SECOND,
    OVERLAPPING,
    decode,
    encode,
    noise,
    patch_number,
    rejection_reason,
    tone,
)

from preprocessing.audio.decode import decode_clips
from preprocessing.audio.errors import BadAudioError
from preprocessing.audio.headers.header import FileBytes
from preprocessing.audio.headers.probe import read_header
from preprocessing.dataset.quarantine import REASONS
from preprocessing.options import AudioFormat

CONTAINERS = [
    ("WAV", "PCM_16"),
    ("WAV", "MS_ADPCM"),
    ("WAV", "IMA_ADPCM"),
    ("WAVEX", "PCM_24"),
    ("RF64", "PCM_16"),
    ("W64", "PCM_16"),
    ("AU", "PCM_16"),
    ("AIFF", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]


@pytest.mark.parametrize(("kind", "subtype"), CONTAINERS)
def test_a_truncated_file_is_decoded_up_to_its_end(kind, subtype):
    rate_hz = 48_000
    data = encode(noise(4.0, rate_hz), rate_hz, kind, subtype)
    audio_format = AudioFormat(3_000, 4.0, 12_000, min_secs=0.25)
    (whole,) = decode(data, audio_format)
    (truncated,) = decode(data[: len(data) // 2], audio_format)
    # An Ogg page holds up to a second, and a truncated block of a FLAC file up to a quarter of one.
    assert 6_010 >= truncated.valid_samples >= (2_900 if kind == "OGG" else 5_200)
    edge = truncated.valid_samples - 100
    np.testing.assert_allclose(truncated.waveform[:edge], whole.waveform[:edge], atol=1e-3)
    clips = decode(data[: len(data) // 2], AudioFormat(3_000, 0.5, 1_500, hop_secs=0.5, min_secs=0.1))
    assert 2 <= len(clips) <= 4
    assert rejection_reason(data[: len(data) // 20], audio_format) in {
        "truncated",
        "corrupt",
        "no_samples",
        "too_short",
    }


def test_a_corrupt_flac_file_is_decoded_up_to_the_corrupt_block():
    data = bytearray(encode(noise(4.0), kind="FLAC"))
    middle = len(data) // 2
    data[middle : middle + 500] = bytes(500)
    (clip,) = decode(bytes(data), AudioFormat(3_000, 4.0, 12_000))
    assert 5_000 <= clip.valid_samples <= 6_000
    data[9_000:9_500] = bytes(500)
    assert rejection_reason(bytes(data)) == "corrupt"


def test_a_tag_after_the_samples_does_not_change_the_clip():
    for kind in ("WAV", "FLAC", "MP3", "OGG"):
        data = encode(noise(0.9), kind=kind, subtype=None)
        (expected,) = decode(data)
        (tagged,) = decode(data + b"TAG" + bytes(125))
        assert tagged.valid_samples == expected.valid_samples
        np.testing.assert_array_equal(tagged.waveform, expected.waveform)


def test_a_tag_before_the_file_does_not_change_the_clip():
    tag = b"ID3\x04\0\0\0\0\x02\x05" + bytes(261)
    for kind in ("WAV", "FLAC", "MP3", "AIFF"):
        data = encode(noise(0.9), kind=kind, subtype=None)
        np.testing.assert_array_equal(decode(tag + data)[0].waveform, decode(data)[0].waveform)


@pytest.mark.parametrize(
    ("kind", "offset", "layout", "sizes"),
    [
        ("WAV", 40, "<I", (0, 2_000_000_000, 0x7FFFF000, 0x7FFFFFDB, 0x7FFFFFFF, 0xFFFFFFFF)),
        ("AU", 8, ">I", (0, 0x7FFFF000, 0x7FFFFF00, 0xFFFFFFF0, 0xFFFFFFFF)),
        ("AIFF", 22, ">I", (0, 0x7FFFFFFF, 0xFFFFFFFF)),
        ("RF64", 28, "<Q", (0, 2**40, 2**63 - 1, 2**64 - 1)),
        ("W64", 96, "<Q", (0, 2**40, 2**63 - 1, 2**64 - 1)),
        ("FLAC", 22, ">I", (0, 0xFFFFFFFF)),
    ],
)
def test_a_declared_size_does_not_decide_what_is_read(kind, offset, layout, sizes):
    data = encode(noise(0.9), kind=kind)
    (expected,) = decode(data)
    for size in sizes:
        (clip,) = decode(patch_number(data, offset, layout, size))
        np.testing.assert_array_equal(clip.waveform, expected.waveform)


@pytest.mark.parametrize("kind", ["WAV", "RF64", "W64", "AIFF"])
def test_libsndfile_does_not_see_a_files_own_chunks(kind):
    data = encode(noise(0.9), kind=kind)
    (expected,) = decode(data)
    # Two of these at the end of a WAV or RF64 file make libsndfile 1.2.2 loop forever.
    false_sizes = 2 * b"LIST\xf7\xff\xff\xff"
    (clip,) = decode(data + false_sizes)
    np.testing.assert_array_equal(clip.waveform, expected.waveform)
    if kind != "W64":
        size = struct.pack(">I" if kind == "AIFF" else "<I", 200_000)
        (clip,) = decode(data[:12] + b"LIST" + size + 25_000 * false_sizes[:8] + data[12:])
        np.testing.assert_array_equal(clip.waveform, expected.waveform)
        (clip,) = decode(data[:12] + false_sizes + data[12:])
        np.testing.assert_array_equal(clip.waveform, expected.waveform)


def flac_with_frames(data, frames):
    return patch_number(data, 18, ">Q", struct.unpack_from(">Q", data, 18)[0] & ~(2**36 - 1) | frames)


def test_a_flac_file_of_undeclared_length_is_read_to_its_end():
    data = encode(noise(0.9), kind="FLAC")
    np.testing.assert_array_equal(decode(flac_with_frames(data, 0))[0].waveform, decode(data)[0].waveform)


@pytest.mark.parametrize(("rate_hz", "channels"), [(8_000, 1), (22_050, 2), (44_100, 1), (44_100, 2)])
def test_an_mp3_file_of_variable_bit_rate_and_undeclared_length_is_read_to_its_end(rate_hz, channels):
    waveform = np.concatenate([noise(1.0, rate_hz, channels), 0.002 * noise(9.0, rate_hz, channels)])
    data = encode(waveform, rate_hz, "MP3", "MPEG_LAYER_III")
    untagged = data[data.index(data[:2], 4) :]
    assert read_header(FileBytes(io.BytesIO(untagged))).decoder_head
    with soundfile.SoundFile(io.BytesIO(untagged)) as sound_file:
        assert sound_file.frames < 7 * rate_hz  # the length that libsndfile assumes
    audio_format = AudioFormat(3_000, 12.0, 36_000)
    for start in (b"", b"ID3\x04\0\0\0\0\x02\x05" + bytes(261)):
        (clip,) = decode(start + untagged, audio_format)
        assert clip.valid_samples >= 30_000


def wav_with_format_tag(tag):
    return patch_number(encode(tone(1.0)), 20, "<H", tag)


WAV = encode(tone(1.0))
BAD = [
    ("empty_file", b""),
    ("not_audio", b"this is not audio, it is a sentence" * 50),
    ("not_audio", ("this is not audio, it is a sentence" * 50).encode("utf-16")),
    ("not_audio", b"\x89PNG\r\n\x1a\n" + bytes(1_000)),
    ("not_audio", bytes(10_000)),
    ("unsupported_codec", wav_with_format_tag(0x9999)),
    ("unsupported_codec", encode(tone(1.0), kind="AIFF", subtype="ULAW").replace(b"ulaw", b"QDM2")),
    ("unsupported_codec", patch_number(encode(tone(1.0), kind="AU"), 12, ">I", 99)),
    ("corrupt", patch_number(WAV, 22, "<H", 5_000)),
    ("corrupt", b"\0\0\0\x20ftypM4A " + bytes(100)),
    ("corrupt", b"wvpk" + bytes(100)),
    ("corrupt", patch_number(WAV, 32, "<I", 0)),
    ("corrupt", encode(noise(1.0), kind="OGG", subtype="VORBIS")[:1_000]),
    ("corrupt", encode(noise(1.0), kind="FLAC")[:20]),
    ("no_samples", encode(tone(0.0))),
    ("no_samples", encode(tone(0.0), kind="AIFF")),
    ("no_samples", encode(tone(0.0), kind="OGG", subtype="VORBIS")),
    ("no_samples", patch_number(WAV[:36], 4, "<I", 28)),
    ("zero_channels", patch_number(WAV, 22, "<H", 0)),
    ("zero_channels", patch_number(encode(tone(1.0), kind="AU"), 20, ">I", 0)),
    ("zero_channels", patch_number(encode(tone(1.0), kind="AIFF"), 20, ">H", 0)),
    ("absurd_rate", patch_number(WAV, 24, "<I", 0)),
    ("absurd_rate", patch_number(WAV, 24, "<I", 999)),
    ("absurd_rate", patch_number(WAV, 24, "<I", 768_001)),
    ("absurd_rate", patch_number(encode(tone(1.0), kind="AIFF"), 28, ">H", 0x7FFF)),
    ("absurd_rate", encode(tone(1.0), rate_hz=500, kind="FLAC")),
    ("too_short", encode(tone(0.1))),
    ("too_short", encode(tone(0.1), kind="MP3", subtype="MPEG_LAYER_III")),
    ("truncated", WAV[:5_000]),
    ("truncated", WAV[:30]),
    ("truncated", encode(noise(4.0), kind="FLAC")[:8_000]),
    ("truncated", encode(noise(4.0), kind="MP3", subtype="MPEG_LAYER_III")[:1_500]),
    ("too_long", encode(np.zeros(601_000), rate_hz=1_000)),
    ("non_finite", encode(np.full(22_050, np.nan), subtype="FLOAT")),
    ("non_finite", encode(np.full((22_050, 2), [0.1, np.inf]), subtype="DOUBLE")),
    ("unknown_scale", encode(np.full(22_050, 1e35) * np.sign(tone(1.0)), subtype="FLOAT")),
    ("silent", encode(np.zeros(22_050))),
    ("silent", encode(np.zeros(22_050), kind="MP3", subtype="MPEG_LAYER_III")),
]


@pytest.mark.parametrize(("reason", "data"), BAD, ids=[f"{reason}-{i}" for i, (reason, _) in enumerate(BAD)])
def test_a_bad_file_always_has_the_same_reason_which_survives_pickling(reason, data):
    details = set()
    for audio_format in (ONE_SECOND, ONE_SECOND, OVERLAPPING):
        with pytest.raises(BadAudioError) as caught:
            decode(data, audio_format)
        unpickled = pickle.loads(pickle.dumps(caught.value))
        assert (unpickled.reason, unpickled.detail) == (caught.value.reason, caught.value.detail)
        assert unpickled.reason == reason
        assert reason in REASONS
        if audio_format is ONE_SECOND:
            details.add(unpickled.detail)
    (detail,) = details
    assert detail
    assert "0x7f" not in detail  # the address of an object


def highly_compressed_flac(secs, rate_hz, channels):
    """Return a FLAC file of undeclared length that is tiny compared with its samples."""
    stream = io.BytesIO()
    block = np.zeros((60 * rate_hz, channels), np.int16)
    block[::100] = 9_000
    with soundfile.SoundFile(stream, "w", rate_hz, channels, format="FLAC", subtype="PCM_16") as sound_file:
        for _ in range(secs // 60):
            sound_file.write(block)
    return flac_with_frames(stream.getvalue(), 0)


@pytest.mark.parametrize(
    ("secs", "rate_hz", "channels", "max_secs"), [(5 * 3_600, 4_000, 1, 3_600), (120, 96_000, 6, 90)]
)
def test_decoding_stops_at_the_maximum_length_and_in_bounded_memory(secs, rate_hz, channels, max_secs):
    data = highly_compressed_flac(secs, rate_hz, channels)
    audio_format = AudioFormat(3_000, 2.0, 6_000, hop_secs=60.0, max_secs=max_secs)
    tracemalloc.start()
    try:
        decoded_clips = 0
        with pytest.raises(BadAudioError) as caught:
            for _ in decode_clips(io.BytesIO(data), audio_format):
                decoded_clips += 1
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.reason == "too_long"
    assert decoded_clips == -(-max_secs // 60)
    assert peak_bytes < 8e6


def test_an_exception_of_the_stream_is_raised_unchanged():
    class FailingStream(io.BytesIO):
        def readinto(self, buffer):
            if self.tell() + len(buffer) > len(self.getbuffer()) // 3:
                raise TimeoutError("the storage does not respond")
            return super().readinto(buffer)

    for kind in ("WAV", "FLAC", "OGG"):
        with pytest.raises(TimeoutError, match="does not respond"):
            list(decode_clips(FailingStream(encode(noise(2.0), kind=kind, subtype=None)), ONE_SECOND))


def test_a_stream_may_return_short_reads_and_lack_readinto():
    class ShortReads:
        def __init__(self, data):
            self.stream = io.BytesIO(data)

        def read(self, size):
            return self.stream.read(min(size, 1_000))

        def seek(self, offset, whence=0):
            return self.stream.seek(offset, whence)

    for data in (WAV, patch_number(WAV, 40, "<I", 0), encode(noise(1.0), kind="OGG", subtype="VORBIS")):
        (clip,) = decode_clips(ShortReads(data), ONE_SECOND)
        np.testing.assert_array_equal(clip.waveform, decode(data)[0].waveform)
