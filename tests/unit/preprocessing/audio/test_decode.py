"""Good files of every kind: their clips are to the bit what librosa makes of them."""

import io

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.audio_bytes import HOPS, SECOND, encoded, noise, reason_of, taken, tone

from preprocessing.audio.decode import decode_clips
from preprocessing.options import AudioFormat, default_clip_samples

GTZAN_FORMAT = AudioFormat()


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
        (segment,) = decode_clips(stream, SECOND)
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
