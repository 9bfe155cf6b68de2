import io
import pickle
import struct
import tracemalloc

import librosa
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.audio import REASONS, BadAudioError, segments
from preprocessing.header import read_header
from preprocessing.options import AudioFormat, default_clip_samples

GTZAN_FORMAT = AudioFormat()
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
    return list(segments(io.BytesIO(data), audio))


def reason_of(data, audio=SECOND):
    with pytest.raises(BadAudioError) as caught:
        taken(data, audio)
    return caught.value.reason


def with_number(data, place, layout, value):
    changed = bytearray(data)
    struct.pack_into(layout, changed, place, value)
    return bytes(changed)


def assert_as_librosa_has_it(data, audio):
    found = taken(data, audio)
    assert found
    for segment in found:
        expected, _ = librosa.load(
            io.BytesIO(data), sr=audio.sample_rate_hz, offset=segment.start_secs, duration=audio.clip_secs
        )
        expected = np.clip(expected, -1, 1)[: audio.clip_samples]
        assert segment.valid_samples == len(expected)
        np.testing.assert_array_equal(segment.waveform[: len(expected)], expected)
        assert segment.waveform.shape == (audio.clip_samples,)
        assert not segment.waveform[len(expected) :].any()


def test_the_default_clip_is_what_librosa_makes_of_30_seconds_of_gtzan():
    data = encoded(noise(30.5))
    assert_as_librosa_has_it(data, GTZAN_FORMAT)
    (segment,) = taken(data, GTZAN_FORMAT)
    assert (segment.start_secs, segment.waveform.shape, segment.valid_samples) == (0.0, (90_001,), 90_001)


@pytest.mark.parametrize(
    ("rate_hz", "secs", "samples"), [(3_000, 30.0, 90_001), (22_050, 30.0, 661_500), (16_000, 5.0, 80_000)]
)
def test_the_default_length(rate_hz, secs, samples):
    assert default_clip_samples(rate_hz, secs) == samples


@pytest.mark.parametrize(
    ("kind", "subtype", "channels", "rate_hz"),
    [
        ("WAV", "PCM_16", 1, 22_050),
        ("WAV", "PCM_24", 2, 44_100),
        ("WAV", "IMA_ADPCM", 2, 11_025),
        ("AIFF", "PCM_16", 6, 192_000),
        ("AU", "FLOAT", 12, 8_000),
        ("FLAC", "PCM_16", 2, 48_000),
        ("OGG", "VORBIS", 2, 44_100),
        ("MP3", "MPEG_LAYER_III", 2, 44_100),
    ],
)
@pytest.mark.parametrize(
    "audio", [SECOND, HOPS, AudioFormat(22_050, 0.25, 5_513, hop_secs=0.7, min_secs=0.1)], ids=str
)
def test_every_clip_is_to_the_bit_what_librosa_makes_of_it(kind, subtype, channels, rate_hz, audio):
    assert_as_librosa_has_it(encoded(noise(1.3, rate_hz, channels), rate_hz, kind, subtype), audio)


INTEGERS = ["PCM_16", "PCM_24", "PCM_32"]
OTHERS = ["FLOAT", "DOUBLE", "ULAW", "ALAW"]
MATRIX = [
    (kind, subtype, channels, rate_hz)
    for kind, subtypes, shapes in (
        ("WAV", [*INTEGERS, *OTHERS, "PCM_U8"], [(1, 8_000), (2, 44_100), (6, 192_000)]),
        ("WAV", ["IMA_ADPCM", "MS_ADPCM"], [(1, 8_000), (2, 44_100), (1, 192_000)]),
        ("WAVEX", [*INTEGERS, *OTHERS, "PCM_U8"], [(2, 22_050), (6, 48_000)]),
        ("RF64", [*INTEGERS, *OTHERS, "PCM_U8"], [(1, 44_100), (6, 96_000)]),
        ("W64", [*INTEGERS, *OTHERS, "PCM_U8"], [(1, 11_025), (6, 48_000)]),
        ("W64", ["IMA_ADPCM", "MS_ADPCM"], [(2, 44_100)]),
        ("AU", [*INTEGERS, *OTHERS, "PCM_S8"], [(1, 8_000), (2, 44_100), (6, 192_000)]),
        ("AIFF", [*INTEGERS, *OTHERS, "PCM_S8", "PCM_U8"], [(1, 8_000), (2, 44_100), (6, 192_000)]),
        ("AIFF", ["IMA_ADPCM"], [(1, 22_050), (2, 44_100)]),
        ("FLAC", ["PCM_S8", "PCM_16", "PCM_24"], [(1, 8_000), (2, 44_100), (6, 192_000)]),
        ("OGG", ["VORBIS"], [(1, 8_000), (2, 44_100), (6, 48_000), (1, 192_000)]),
        ("OGG", ["OPUS"], [(1, 8_000), (2, 48_000), (6, 48_000)]),
        ("MP3", ["MPEG_LAYER_III"], [(1, 8_000), (1, 22_050), (2, 44_100), (2, 48_000)]),
    )
    for subtype in subtypes
    for channels, rate_hz in shapes
]


@pytest.mark.parametrize(("kind", "subtype", "channels", "rate_hz"), MATRIX)
def test_every_format_gives_the_same_music(kind, subtype, channels, rate_hz):
    data = encoded(tone(1.2, rate_hz, channels=channels), rate_hz, kind, subtype)
    (segment,) = taken(data)
    assert segment.valid_samples == 3_000
    # Away from the edges: a lossy codec smears them, and MP3 may shift by a few samples.
    middle = segment.waveform[500:2_500]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert np.argmax(spectrum) * 3_000 / len(middle) == pytest.approx(440, abs=2)
    # Of six channels one is for the lowest tones only; the codecs of Ogg leave them alone there.
    heard = 5 / 6 if (kind, channels) == ("OGG", 6) else 1
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(heard * 0.5 / np.sqrt(2), rel=0.05)


@pytest.mark.parametrize("kind", ["WAV", "AU", "AIFF"])
@pytest.mark.parametrize("endian", ["BIG", "LITTLE"])
def test_either_byte_order_is_fine(kind, endian):
    expected, found = (taken(encoded(tone(1.0), kind=kind, endian=order)) for order in ("FILE", endian))
    np.testing.assert_array_equal(found[0].waveform, expected[0].waveform)


def test_only_the_content_says_what_a_file_is(tmp_path):
    path = tmp_path / "music.mp3"
    path.write_bytes(encoded(tone(1.0), kind="FLAC"))
    with path.open("rb") as stream:
        (segment,) = segments(stream, SECOND)
        assert not stream.closed
    assert segment.valid_samples == 3_000


def test_short_is_padded_and_long_is_cut_and_stereo_is_mixed():
    audio = AudioFormat(3_000, 2.0, 6_000)
    (short,) = taken(encoded(tone(1.0, channels=2)), audio)
    assert short.valid_samples == 3_001  # librosa's ceiling, as in the default format
    assert np.abs(short.waveform[:3_000]).max() > 0.4
    assert not short.waveform[3_001:].any()
    (long,) = taken(encoded(tone(9.0)), audio)
    assert long.valid_samples == 6_000
    opposite = np.stack([tone(1.0), -tone(1.0)], axis=1)
    assert reason_of(encoded(opposite, subtype="FLOAT")) == "silent"


def test_overshoot_stays_in_range():
    square = np.sign(tone(1.0, hz=100))
    (segment,) = taken(encoded(square, subtype="FLOAT"))
    assert np.abs(segment.waveform).max() == 1.0


def test_float_samples_far_beyond_full_scale_do_not_become_nan():
    loud = np.full((8_000, 2), 3e38, np.float32)
    loud[::2] *= -1
    for samples in (loud, loud[:, 0]):
        (segment,) = taken(encoded(samples, subtype="FLOAT"))
        assert np.isfinite(segment.waveform).all()


@settings(max_examples=60, derandomize=True, database=None, deadline=None)
@given(
    frames=st.integers(1, 5_000),
    clip=st.integers(10, 2_000),
    hop=st.integers(100, 3_000),
    fewest=st.floats(0, 1),
)
def test_where_clips_begin_and_end(frames, clip, hop, fewest):
    rate_hz = 1_000
    audio = AudioFormat(
        rate_hz, clip / rate_hz, clip, hop_secs=hop / rate_hz, min_secs=fewest * clip / rate_hz, max_secs=60
    )
    data = encoded(0.3 * np.cos(np.arange(frames)), rate_hz)
    enough = max(1, int(audio.min_secs * rate_hz))
    expected, end = [], 0
    for index in range(frames):
        start = int(index * audio.hop_secs * rate_hz)
        stop = min(start + clip, frames)
        if stop - start < enough or (index and stop <= end):
            break
        expected.append((index * audio.hop_secs, stop - start))
        end = start + clip
    if expected:
        assert [(clip.start_secs, clip.valid_samples) for clip in taken(data, audio)] == expected
    else:
        assert reason_of(data, audio) == "too_short"


def test_of_several_clips_silent_ones_are_left_out():
    wave = np.concatenate([tone(1.0), np.zeros(22_050), tone(1.0)])
    audio = AudioFormat(3_000, 0.5, 1_500, hop_secs=0.5, min_secs=0.2)
    assert [clip.start_secs for clip in taken(encoded(wave), audio)] == [0.0, 0.5, 2.0, 2.5]
    assert reason_of(encoded(0 * wave), audio) == "silent"


@pytest.mark.parametrize(("steps", "silent"), [(0.0, True), (0.4, True), (0.6, False), (1.0, False)])
def test_below_half_a_step_of_16_bits_is_silence(steps, silent):
    data = encoded(2 * steps / 32_768 * tone(1.0), subtype="FLOAT")
    assert reason_of(data) == "silent" if silent else len(taken(data)) == 1


def test_what_is_not_taken_may_be_bad():
    wave = tone(4.0)
    wave[22_050:] = np.nan
    data = encoded(wave, subtype="FLOAT")
    assert len(taken(data, AudioFormat(3_000, 1.0, 3_000))) == 1
    wave[50_000:] = 0.5
    data = encoded(wave, subtype="FLOAT")
    gaps = AudioFormat(3_000, 1.0, 3_000, hop_secs=3.0)
    assert [clip.start_secs for clip in taken(data, gaps)] == [0.0, 3.0]
    assert reason_of(data, AudioFormat(3_000, 1.0, 3_000, hop_secs=1.0)) == "non_finite"


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
    assert read_header(io.BytesIO(untagged)).head
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
        found = segments(io.BytesIO(data), audio)
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
            list(segments(Failing(encoded(noise(2.0), kind=kind, subtype=None)), SECOND))


def test_a_stream_may_give_less_than_asked_and_have_no_readinto():
    class Slow:
        def __init__(self, data):
            self.stream = io.BytesIO(data)

        def read(self, size):
            return self.stream.read(min(size, 1_000))

        def seek(self, place, whence=0):
            return self.stream.seek(place, whence)

    for data in (WAVE, with_number(WAVE, 40, "<I", 0), encoded(noise(1.0), kind="OGG", subtype="VORBIS")):
        (found,) = segments(Slow(data), SECOND)
        np.testing.assert_array_equal(found.waveform, taken(data)[0].waveform)
