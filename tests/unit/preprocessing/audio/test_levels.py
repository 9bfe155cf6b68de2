"""The full scale of float samples, channels that cancel each other, and the lines about what is missing."""

import io

import numpy as np
import pytest
from support.inputs.audio_bytes import OVERLAPPING, decode, encode, noise, rejection_reason, tone

from preprocessing.audio.decode import decode_clips
from preprocessing.options import AudioFormat


@pytest.mark.parametrize("scale", [2.0**15, 2.0**23, 2.0**31])
@pytest.mark.parametrize("channels", [1, 2])
def test_float_samples_at_the_scale_of_integers_are_brought_to_full_scale_1(scale, channels):
    waveform = tone(2.0, channels=channels)
    audio_format = AudioFormat(3_000, 0.5, 1_500, hop_secs=0.5, min_secs=0.2)
    clips = decode(encode(scale * waveform, subtype="FLOAT"), audio_format)
    expected = decode(encode(waveform, subtype="FLOAT"), audio_format)
    for clip, other in zip(clips, expected, strict=True):
        np.testing.assert_allclose(clip.waveform, other.waveform, atol=1e-6)


def test_float_samples_whose_scale_changes_or_that_exceed_every_scale_are_rejected():
    changing = np.concatenate([2.0**15 * tone(1.0), 2.0**23 * tone(1.0)])
    audio_format = AudioFormat(3_000, 0.5, 1_500, hop_secs=0.5, min_secs=0.2)
    assert rejection_reason(encode(changing, subtype="FLOAT"), audio_format) == "unknown_scale"
    loud = np.full((8_000, 2), 3e38, np.float32)
    loud[::2] *= -1
    for samples in (loud, loud[:, 0]):
        assert rejection_reason(encode(samples, subtype="FLOAT")) == "unknown_scale"


@pytest.mark.parametrize(
    ("samples", "scale"),
    [
        (
            np.concatenate([np.sign(tone(1.0)), 2.0**15 * tone(5.0)]),
            2.0**15,
        ),  # begins with the dither of 16 bits
        (2.0**15 * 1.03 * np.clip(3 * tone(4.0), -1, 1), 2.0**15),  # overshoots at clipped peaks
        (np.concatenate([2.0**15 * tone(1.0), 2.0**23 * tone(5.0)]), 2.0**23),  # begins quietly
    ],
)
def test_the_scale_is_that_of_the_whole_recording(samples, scale):
    audio_format = AudioFormat(3_000, 1.0, 3_000, hop_secs=1.0, min_secs=0.2)
    clips = decode(encode(samples, subtype="FLOAT"), audio_format)
    expected = decode(encode(samples / scale, subtype="FLOAT"), audio_format)
    assert len(clips) >= 4
    for clip, other in zip(clips[-4:], expected[-4:], strict=True):
        np.testing.assert_allclose(clip.waveform, other.waveform, atol=1e-6)


def test_float_samples_of_unit_variance_are_not_taken_for_integers():
    noise = np.random.default_rng(0).normal(0, 1.05, 66_150)
    assert rejection_reason(encode(noise, subtype="FLOAT")) == "unknown_scale"


def losses_of(data):
    losses = []
    assert list(decode_clips(io.BytesIO(data), OVERLAPPING, losses.append))
    return list(dict.fromkeys(losses))


def test_peaks_far_above_full_scale_are_clipped_and_reported():
    loud = np.where(np.arange(22_050) % 11_025 < 1_000, 6.0, 0.1) * tone(1.0)
    assert "samples exceed full scale by" in losses_of(encode(loud, subtype="FLOAT"))[0]


def test_channels_that_cancel_each_other_after_silence_are_read_from_the_first():
    sound = tone(2.0)
    inverted = np.stack([sound, -sound], axis=1)
    data = encode(np.concatenate([np.zeros((22_050, 2)), inverted]))
    clips = decode(data, AudioFormat(3_000, 1.0, 3_000, hop_secs=1.0, min_secs=0.2))
    assert [clip.start_secs for clip in clips] == [1.0, 2.0]
    assert clips[0].waveform.max() > 0.4


def test_clips_that_are_left_out_because_channels_cancel_each_other_are_reported():
    sound = tone(1.0)
    data = encode(np.concatenate([np.stack([sound, sound], axis=1), np.stack([sound, -sound], axis=1)]))
    assert any("its channels cancel each other" in loss for loss in losses_of(data))


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [("WAV", "PCM_16"), ("AIFF", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("FLAC", "PCM_16")],
)
def test_a_file_that_is_cut_off_is_reported(kind, subtype):
    data = encode(noise(4.0, rate_hz=24_000), rate_hz=24_000, kind=kind, subtype=subtype)
    assert losses_of(data) == []
    assert losses_of(data[: len(data) // 2])


def test_peaks_somewhat_above_full_scale_are_no_other_scale():
    (clip,) = decode(encode(2.5 * tone(1.0), subtype="FLOAT"))
    assert np.abs(clip.waveform).max() == 1.0
