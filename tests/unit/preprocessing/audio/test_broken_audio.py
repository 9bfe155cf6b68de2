"""Files that are cut, broken, tagged, endless or lie: what is good is kept, all else has a reason."""

import io
import pickle
import struct
import tracemalloc

import numpy as np
import pytest
import soundfile
from support.audio_bytes import HOPS, SECOND, encoded, noise, reason_of, taken, tone, with_number

from preprocessing.audio.decode import decode_clips
from preprocessing.audio.errors import BadAudioError
from preprocessing.audio.probe import read_header
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
def test_of_a_cut_file_all_is_kept_that_is_there(kind, subtype):
    rate_hz = 48_000
    data = encoded(noise(4.0, rate_hz), rate_hz, kind, subtype)
    audio = AudioFormat(3_000, 4.0, 12_000, min_secs=0.25)
    (whole,) = taken(data, audio)
    (cut,) = taken(data[: len(data) // 2], audio)
    # A page of Ogg holds up to a second, and a block of FLAC that breaks a quarter of it.
    assert 6_010 >= cut.valid_samples >= (2_900 if kind == "OGG" else 5_200)
    edge = cut.valid_samples - 100
    np.testing.assert_allclose(cut.waveform[:edge], whole.waveform[:edge], atol=1e-3)
    clips = taken(data[: len(data) // 2], AudioFormat(3_000, 0.5, 1_500, hop_secs=0.5, min_secs=0.1))
    assert 2 <= len(clips) <= 4
    assert reason_of(data[: len(data) // 20], audio) in {"truncated", "damaged", "no_samples", "too_short"}


def test_of_a_broken_flac_all_is_kept_that_comes_before():
    data = bytearray(encoded(noise(4.0), kind="FLAC"))
    middle = len(data) // 2
    data[middle : middle + 500] = bytes(500)
    (segment,) = taken(bytes(data), AudioFormat(3_000, 4.0, 12_000))
    assert 5_000 <= segment.valid_samples <= 6_000
    data[9_000:9_500] = bytes(500)
    assert reason_of(bytes(data)) == "damaged"


def test_what_follows_the_samples_does_no_harm():
    for kind in ("WAV", "FLAC", "MP3", "OGG"):
        data = encoded(noise(0.9), kind=kind, subtype=None)
        (expected,) = taken(data)
        (tagged,) = taken(data + b"TAG" + bytes(125))
        assert tagged.valid_samples == expected.valid_samples
        np.testing.assert_array_equal(tagged.waveform, expected.waveform)


def test_tags_before_the_file_do_no_harm():
    tag = b"ID3\x04\0\0\0\0\x02\x05" + bytes(261)
    for kind in ("WAV", "FLAC", "MP3", "AIFF"):
        data = encoded(noise(0.9), kind=kind, subtype=None)
        np.testing.assert_array_equal(taken(tag + data)[0].waveform, taken(data)[0].waveform)


@pytest.mark.parametrize(
    ("kind", "place", "layout", "sizes"),
    [
        ("WAV", 40, "<I", (0, 0x7FFFF000, 0x7FFFFF00, 0xFFFFFFFF)),
        ("AU", 8, ">I", (0, 0x7FFFF000, 0x7FFFFF00, 0xFFFFFFFF)),
        ("AIFF", 22, ">I", (0, 0xFFFFFFFF)),
        ("RF64", 28, "<Q", (0, 2**63 - 1, 2**64 - 1)),
        ("W64", 96, "<Q", (0, 2**63 - 1, 2**64 - 1)),
    ],
)
def test_a_size_that_a_stream_left_open_is_no_lie(kind, place, layout, sizes):
    data = encoded(noise(0.9), kind=kind)
    (expected,) = taken(data)
    for size in sizes:
        (found,) = taken(with_number(data, place, layout, size))
        np.testing.assert_array_equal(found.waveform, expected.waveform)


@pytest.mark.parametrize("kind", ["WAV", "RF64", "W64", "AIFF"])
def test_chunks_are_not_shown_to_libsndfile(kind):
    data = encoded(noise(0.9), kind=kind)
    (expected,) = taken(data)
    # Two of these at the end of a WAV or RF64 file are enough: libsndfile 1.2.2 never comes back from them.
    endless = 2 * b"LIST\xf7\xff\xff\xff"
    (found,) = taken(data + endless)
    np.testing.assert_array_equal(found.waveform, expected.waveform)
    if kind != "W64":
        remarks = b"LIST" + struct.pack(">I" if kind == "AIFF" else "<I", 200_000) + 25_000 * endless[:8]
        (found,) = taken(data[:12] + remarks + data[12:])
        np.testing.assert_array_equal(found.waveform, expected.waveform)
        assert reason_of(data[:12] + endless + data[12:]) == "damaged"


def flac_with_frames(data, frames):
    return with_number(data, 18, ">Q", struct.unpack_from(">Q", data, 18)[0] & ~(2**36 - 1) | frames)


def test_a_flac_stream_without_a_length_is_read_to_its_end():
    data = encoded(noise(0.9), kind="FLAC")
    np.testing.assert_array_equal(taken(flac_with_frames(data, 0))[0].waveform, taken(data)[0].waveform)


@pytest.mark.parametrize(("rate_hz", "channels"), [(8_000, 1), (22_050, 2), (44_100, 1), (44_100, 2)])
def test_an_mp3_of_variable_rate_without_a_length_is_read_to_its_end(rate_hz, channels):
    wave = np.concatenate([noise(1.0, rate_hz, channels), 0.002 * noise(9.0, rate_hz, channels)])
    data = encoded(wave, rate_hz, "MP3", "MPEG_LAYER_III")
    untagged = data[data.index(data[:2], 4) :]
    assert read_header(io.BytesIO(untagged)).decoder_head
    with soundfile.SoundFile(io.BytesIO(untagged)) as sound:
        assert sound.frames < 7 * rate_hz  # what libsndfile alone would make of it
    audio = AudioFormat(3_000, 12.0, 36_000)
    for start in (b"", b"ID3\x04\0\0\0\0\x02\x05" + bytes(261)):
        (segment,) = taken(start + untagged, audio)
        assert segment.valid_samples >= 30_000


def wave_with_tag(tag):
    return with_number(encoded(tone(1.0)), 20, "<H", tag)


WAVE = encoded(tone(1.0))
BAD = [
    ("empty_file", b""),
    ("not_audio", b"this is not audio, it is a sentence" * 50),
    ("not_audio", ("this is not audio, it is a sentence" * 50).encode("utf-16")),
    ("not_audio", b"\x89PNG\r\n\x1a\n" + bytes(1_000)),
    ("not_audio", bytes(10_000)),
    ("unsupported_codec", b"\0\0\0\x20ftypM4A " + bytes(100)),
    ("unsupported_codec", b"wvpk" + bytes(100)),
    ("unsupported_codec", wave_with_tag(0x161)),
    ("unsupported_codec", encoded(tone(1.0), kind="AIFF", subtype="ULAW").replace(b"ulaw", b"QDM2")),
    ("unsupported_codec", with_number(encoded(tone(1.0), kind="AU"), 12, ">I", 24)),
    ("damaged", with_number(WAVE, 22, "<H", 5_000)),
    ("damaged", with_number(WAVE, 34, "<H", 0)),
    ("damaged", encoded(noise(1.0), kind="OGG", subtype="VORBIS")[:1_000]),
    ("damaged", encoded(noise(1.0), kind="FLAC")[:20]),
    ("no_samples", encoded(tone(0.0))),
    ("no_samples", encoded(tone(0.0), kind="AIFF")),
    ("no_samples", encoded(tone(0.0), kind="OGG", subtype="VORBIS")),
    ("no_samples", with_number(WAVE[:36], 4, "<I", 28)),
    ("zero_channels", with_number(WAVE, 22, "<H", 0)),
    ("zero_channels", with_number(encoded(tone(1.0), kind="AU"), 20, ">I", 0)),
    ("zero_channels", with_number(encoded(tone(1.0), kind="AIFF"), 20, ">H", 0)),
    ("absurd_rate", with_number(WAVE, 24, "<I", 0)),
    ("absurd_rate", with_number(WAVE, 24, "<I", 999)),
    ("absurd_rate", with_number(WAVE, 24, "<I", 768_001)),
    ("absurd_rate", with_number(encoded(tone(1.0), kind="AIFF"), 28, ">H", 0x7FFF)),
    ("absurd_rate", encoded(tone(1.0), rate_hz=500, kind="FLAC")),
    ("too_short", encoded(tone(0.1))),
    ("too_short", encoded(tone(0.1), kind="MP3", subtype="MPEG_LAYER_III")),
    ("truncated", WAVE[:5_000]),
    ("truncated", WAVE[:30]),
    ("truncated", encoded(noise(4.0), kind="FLAC")[:8_000]),
    ("truncated", encoded(noise(4.0), kind="MP3", subtype="MPEG_LAYER_III")[:1_500]),
    ("false_header", with_number(WAVE, 40, "<I", 0x7FFFFFFF)),
    ("false_header", with_number(encoded(tone(1.0), kind="AU"), 8, ">I", 0xFFFFFFF0)),
    ("false_header", with_number(encoded(tone(1.0), kind="AIFF"), 22, ">I", 0x7FFFFFFF)),
    ("false_header", with_number(encoded(tone(1.0), kind="W64"), 96, "<Q", 2**40)),
    ("false_header", with_number(encoded(tone(1.0), kind="RF64"), 28, "<Q", 2**40)),
    ("too_long", encoded(np.zeros(601_000), rate_hz=1_000)),
    ("too_long", flac_with_frames(encoded(tone(1.0), kind="FLAC"), 2**36 - 1)),
    ("non_finite", encoded(np.full(22_050, np.nan), subtype="FLOAT")),
    ("non_finite", encoded(np.full((22_050, 2), [0.1, np.inf]), subtype="DOUBLE")),
    ("silent", encoded(np.zeros(22_050))),
    ("silent", encoded(np.zeros(22_050), kind="MP3", subtype="MPEG_LAYER_III")),
]


@pytest.mark.parametrize(("reason", "data"), BAD, ids=[f"{reason}-{i}" for i, (reason, _) in enumerate(BAD)])
def test_bad_audio_has_a_reason_that_survives_a_worker(reason, data):
    details = set()
    for audio in (SECOND, SECOND, HOPS):
        with pytest.raises(BadAudioError) as caught:
            taken(data, audio)
        again = pickle.loads(pickle.dumps(caught.value))
        assert (again.reason, again.detail) == (caught.value.reason, caught.value.detail)
        assert again.reason == reason
        assert reason in REASONS
        if audio is SECOND:
            details.add(again.detail)
    (detail,) = details
    assert detail
    assert "0x7f" not in detail


def endless_flac(secs, rate_hz, channels):
    """A stream without a length that is tiny for what it decodes to."""
    stream = io.BytesIO()
    block = np.zeros((60 * rate_hz, channels), np.int16)
    block[::100] = 9_000
    with soundfile.SoundFile(stream, "w", rate_hz, channels, format="FLAC", subtype="PCM_16") as sound:
        for _ in range(secs // 60):
            sound.write(block)
    return flac_with_frames(stream.getvalue(), 0)


@pytest.mark.parametrize(
    ("secs", "rate_hz", "channels", "max_secs"), [(5 * 3_600, 4_000, 1, 3_600), (120, 96_000, 6, 90)]
)
def test_hours_in_a_small_file_cost_no_memory_and_end_at_the_longest_recording(
    secs, rate_hz, channels, max_secs
):
    data = endless_flac(secs, rate_hz, channels)
    audio = AudioFormat(3_000, 2.0, 6_000, hop_secs=60.0, max_secs=max_secs)
    tracemalloc.start()
    try:
        found = decode_clips(io.BytesIO(data), audio)
        given = 0
        with pytest.raises(BadAudioError) as caught:
            for _ in found:
                given += 1
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.reason == "too_long"
    assert given == -(-max_secs // 60)
    assert peak_bytes < 8e6


def test_the_streams_own_errors_come_through():
    class Failing(io.BytesIO):
        def readinto(self, buffer):
            if self.tell() + len(buffer) > len(self.getbuffer()) // 3:
                raise TimeoutError("the storage does not answer")
            return super().readinto(buffer)

    for kind in ("WAV", "FLAC", "OGG"):
        with pytest.raises(TimeoutError, match="does not answer"):
            list(decode_clips(Failing(encoded(noise(2.0), kind=kind, subtype=None)), SECOND))


def test_a_stream_may_give_less_than_asked_and_have_no_readinto():
    class Slow:
        def __init__(self, data):
            self.stream = io.BytesIO(data)

        def read(self, size):
            return self.stream.read(min(size, 1_000))

        def seek(self, place, whence=0):
            return self.stream.seek(place, whence)

    for data in (WAVE, with_number(WAVE, 40, "<I", 0), encoded(noise(1.0), kind="OGG", subtype="VORBIS")):
        (found,) = decode_clips(Slow(data), SECOND)
        np.testing.assert_array_equal(found.waveform, taken(data)[0].waveform)
