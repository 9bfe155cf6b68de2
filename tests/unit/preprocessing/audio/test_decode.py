"""Intact files of every format: their clips equal librosa's bit for bit."""

import io

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.inputs.audio_bytes import ONE_SECOND, OVERLAPPING, decode, encode, noise, rejection_reason, tone

from preprocessing.audio.decode import decode_clips
from preprocessing.options import AudioFormat, default_clip_samples

GTZAN_FORMAT = AudioFormat()


def assert_equals_librosa(data, audio_format):
    clips = decode(data, audio_format)
    assert clips
    for clip in clips:
        expected, _ = librosa.load(
            io.BytesIO(data),
            sr=audio_format.sample_rate_hz,
            offset=clip.start_secs,
            duration=audio_format.clip_secs,
        )
        expected = np.clip(expected, -1, 1)[: audio_format.clip_samples]
        assert clip.valid_samples == len(expected)
        np.testing.assert_array_equal(clip.waveform[: len(expected)], expected)
        assert clip.waveform.shape == (audio_format.clip_samples,)
        assert not clip.waveform[len(expected) :].any()


def test_the_default_clip_equals_what_librosa_returns_for_30_seconds_of_gtzan():
    data = encode(noise(30.5))
    assert_equals_librosa(data, GTZAN_FORMAT)
    (clip,) = decode(data, GTZAN_FORMAT)
    assert (clip.start_secs, clip.waveform.shape, clip.valid_samples) == (0.0, (90_001,), 90_001)


@pytest.mark.parametrize(
    ("rate_hz", "secs", "samples"), [(3_000, 30.0, 90_001), (22_050, 30.0, 661_500), (16_000, 5.0, 80_000)]
)
def test_the_default_clip_samples_are_librosas_for_a_gtzan_file(rate_hz, secs, samples):
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
    "audio_format",
    [ONE_SECOND, OVERLAPPING, AudioFormat(22_050, 0.25, 5_513, hop_secs=0.7, min_secs=0.1)],
    ids=str,
)
def test_every_clip_equals_librosas_bit_for_bit(kind, subtype, channels, rate_hz, audio_format):
    assert_equals_librosa(encode(noise(1.3, rate_hz, channels), rate_hz, kind, subtype), audio_format)


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
def test_every_format_decodes_to_the_same_tone(kind, subtype, channels, rate_hz):
    data = encode(tone(1.2, rate_hz, channels=channels), rate_hz, kind, subtype)
    (clip,) = decode(data)
    assert clip.valid_samples == 3_000
    # Without the edges, which a lossy codec smears; MP3 may also shift them by a few samples.
    middle = clip.waveform[500:2_500]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert np.argmax(spectrum) * 3_000 / len(middle) == pytest.approx(440, abs=2)
    # The codecs of Ogg filter the sixth channel, which is for low frequencies only.
    level = 5 / 6 if (kind, channels) == ("OGG", 6) else 1
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(level * 0.5 / np.sqrt(2), rel=0.05)


@pytest.mark.parametrize("kind", ["WAV", "AU", "AIFF"])
@pytest.mark.parametrize("endian", ["BIG", "LITTLE"])
def test_both_byte_orders_are_decoded(kind, endian):
    expected, clips = (decode(encode(tone(1.0), kind=kind, endian=order)) for order in ("FILE", endian))
    np.testing.assert_array_equal(clips[0].waveform, expected[0].waveform)


def test_the_content_alone_determines_the_format(tmp_path):
    path = tmp_path / "music.mp3"
    path.write_bytes(encode(tone(1.0), kind="FLAC"))
    with path.open("rb") as stream:
        (clip,) = decode_clips(stream, ONE_SECOND)
        assert not stream.closed
    assert clip.valid_samples == 3_000


def test_short_clips_are_padded_long_ones_cut_and_stereo_is_mixed_to_mono():
    audio_format = AudioFormat(3_000, 2.0, 6_000)
    (short,) = decode(encode(tone(1.0, channels=2)), audio_format)
    assert short.valid_samples == 3_001  # librosa rounds up, as in the default format
    assert np.abs(short.waveform[:3_000]).max() > 0.4
    assert not short.waveform[3_001:].any()
    (long,) = decode(encode(tone(9.0)), audio_format)
    assert long.valid_samples == 6_000


def test_overshoot_of_the_resampler_is_clipped():
    square = np.sign(tone(1.0, hz=100))
    (clip,) = decode(encode(square, subtype="FLOAT"))
    assert np.abs(clip.waveform).max() == 1.0


@settings(max_examples=60, derandomize=True, database=None, deadline=None)
@given(
    frames=st.integers(1, 5_000),
    clip_frames=st.integers(10, 2_000),
    hop_frames=st.integers(100, 3_000),
    min_fraction=st.floats(0, 1),
)
def test_clips_start_every_hop_and_end_with_the_recording(frames, clip_frames, hop_frames, min_fraction):
    rate_hz = 1_000
    audio_format = AudioFormat(
        rate_hz,
        clip_frames / rate_hz,
        clip_frames,
        hop_secs=hop_frames / rate_hz,
        min_secs=min_fraction * clip_frames / rate_hz,
        max_secs=60,
    )
    data = encode(0.3 * np.cos(np.arange(frames)), rate_hz)
    min_frames = max(1, int(audio_format.min_secs * rate_hz))
    expected, end = [], 0
    for index in range(frames):
        start = int(index * audio_format.hop_secs * rate_hz)
        stop = min(start + clip_frames, frames)
        if stop - start < min_frames or (index and stop <= end):
            break
        expected.append((index * audio_format.hop_secs, stop - start))
        end = start + clip_frames
    if expected:
        assert [(clip.start_secs, clip.valid_samples) for clip in decode(data, audio_format)] == expected
    else:
        assert rejection_reason(data, audio_format) == "too_short"


def test_silent_clips_are_left_out_and_an_all_silent_file_is_rejected():
    waveform = np.concatenate([tone(1.0), np.zeros(22_050), tone(1.0)])
    audio_format = AudioFormat(3_000, 0.5, 1_500, hop_secs=0.5, min_secs=0.2)
    assert [clip.start_secs for clip in decode(encode(waveform), audio_format)] == [0.0, 0.5, 2.0, 2.5]
    assert rejection_reason(encode(0 * waveform), audio_format) == "silent"


@pytest.mark.parametrize(("steps", "silent"), [(0.0, True), (0.4, True), (0.6, False), (1.0, False)])
def test_a_peak_below_half_a_16_bit_step_is_silence(steps, silent):
    data = encode(2 * steps / 32_768 * tone(1.0), subtype="FLOAT")
    assert rejection_reason(data) == "silent" if silent else len(decode(data)) == 1


@pytest.mark.parametrize("remainder", [0.0, 1e-4])
@pytest.mark.parametrize(("kind", "subtype"), [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_24")])
def test_channels_that_cancel_each_other_give_the_first_one(kind, subtype, remainder):
    first = tone(2.0)
    opposite = np.stack([first, -(1 - remainder) * first], axis=1)
    audio_format = AudioFormat(3_000, 0.5, 1_500, hop_secs=0.5, min_secs=0.2)
    clips = decode(encode(opposite, kind=kind, subtype=subtype), audio_format)
    expected = decode(encode(first, kind=kind, subtype=subtype), audio_format)
    assert len(clips) == len(expected) == 4
    for clip, other in zip(clips, expected, strict=True):
        np.testing.assert_array_equal(clip.waveform, other.waveform)


def test_clips_whose_channels_cancel_later_are_left_out():
    first = tone(2.0)
    second = np.concatenate([first[:22_050], -first[22_050:]])
    audio_format = AudioFormat(3_000, 0.5, 1_500, hop_secs=0.5, min_secs=0.2)
    clips = decode(encode(np.stack([first, second], axis=1)), audio_format)
    assert [clip.start_secs for clip in clips] == [0.0, 0.5]


@pytest.mark.parametrize("silent_channel", [0, 1])
def test_a_silent_channel_does_not_cancel_the_other(silent_channel):
    stereo = tone(1.0, channels=2)
    stereo[:, silent_channel] = 0
    (clip,) = decode(encode(stereo))
    assert 0.2 < np.abs(clip.waveform).max() < 0.3


@pytest.mark.parametrize(
    "data",
    [
        encode(np.full(22_050, 0.3), subtype="FLOAT"),
        encode(np.full((22_050, 2), -0.25), kind="FLAC"),
        encode(np.full(22_050, -1 / 128), subtype="PCM_U8"),
    ],
)
def test_a_constant_is_silence(data):
    assert rejection_reason(data) == "silent"


def test_nan_samples_outside_of_all_clips_are_accepted():
    waveform = tone(4.0)
    waveform[22_050:] = np.nan
    data = encode(waveform, subtype="FLOAT")
    assert len(decode(data, AudioFormat(3_000, 1.0, 3_000))) == 1
    waveform[50_000:] = tone(4.0)[50_000:]
    data = encode(waveform, subtype="FLOAT")
    with_gaps = AudioFormat(3_000, 1.0, 3_000, hop_secs=3.0)
    assert [clip.start_secs for clip in decode(data, with_gaps)] == [0.0, 3.0]
    assert rejection_reason(data, AudioFormat(3_000, 1.0, 3_000, hop_secs=1.0)) == "non_finite"
