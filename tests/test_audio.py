import io
import pickle

import librosa
import numpy as np
import pytest
import soundfile

from preprocessing.audio import BadAudioError, decode
from preprocessing.options import AudioFormat, default_clip_samples

GTZAN_FORMAT = AudioFormat()


def encoded(waveform, rate_hz=22_050, kind="WAV", subtype="PCM_16"):
    stream = io.BytesIO()
    soundfile.write(stream, waveform, rate_hz, format=kind, subtype=subtype)
    return stream.getvalue()


def tone(secs, rate_hz=22_050, hz=440.0, channels=1):
    wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(round(secs * rate_hz)) / rate_hz)
    return np.stack([wave] * channels, axis=1) if channels > 1 else wave


def test_the_default_clip_is_what_librosa_makes_of_30_seconds_of_gtzan():
    data = encoded(tone(30.5))
    waveform, valid_samples = decode(data, GTZAN_FORMAT)
    expected, _ = librosa.load(io.BytesIO(data), sr=3_000, duration=30)
    assert expected.shape == waveform.shape == (90_001,)
    assert valid_samples == 90_001
    np.testing.assert_allclose(waveform, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("rate_hz", "secs", "samples"), [(3_000, 30.0, 90_001), (22_050, 30.0, 661_500), (16_000, 5.0, 80_000)]
)
def test_the_default_length(rate_hz, secs, samples):
    assert default_clip_samples(rate_hz, secs) == samples


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [("WAV", "FLOAT"), ("AU", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")],
)
def test_every_container_gives_the_same_music(kind, subtype):
    audio = AudioFormat(3_000, 2.0, 6_000)
    waveform, _ = decode(encoded(tone(2.5), kind=kind, subtype=subtype), audio)
    reference, _ = decode(encoded(tone(2.5)), audio)
    # Away from the edges: a lossy codec smears them, and MP3 may shift by a few samples.
    spectrum, expected = (np.abs(np.fft.rfft(wave[1_000:5_000])) for wave in (waveform, reference))
    assert np.argmax(spectrum) == np.argmax(expected)
    assert spectrum.max() == pytest.approx(expected.max(), rel=0.05)


def test_short_is_padded_and_long_is_cut_and_stereo_is_mixed():
    audio = AudioFormat(3_000, 2.0, 6_000)
    waveform, valid_samples = decode(encoded(tone(1.0, channels=2)), audio)
    assert valid_samples == 3_001  # librosa's ceiling, as in the default format
    assert np.abs(waveform[:3_000]).max() > 0.4
    assert not waveform[3_001:].any()
    assert decode(encoded(tone(9.0)), audio)[1] == 6_000


def test_overshoot_stays_in_range():
    square = np.sign(tone(1.0, hz=100))
    waveform, _ = decode(encoded(square, subtype="FLOAT"), AudioFormat(3_000, 1.0, 3_000))
    assert np.abs(waveform).max() == 1.0


def test_float_samples_far_beyond_full_scale_do_not_become_nan():
    loud = np.full((4_000, 2), 3e38, np.float32)
    loud[::2] *= -1
    for samples in (loud, loud[:, 0]):
        waveform, _ = decode(encoded(samples, subtype="FLOAT"), AudioFormat(3_000, 0.1, 300))
        assert np.isfinite(waveform).all()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty_file"),
        (b"this is not audio, it is a sentence" * 50, "not_audio"),
        (encoded(tone(0.0)), "no_samples"),
        (encoded(np.full(2_000, np.nan), subtype="FLOAT"), "non_finite"),
    ],
)
def test_bad_audio_has_a_reason_that_survives_a_worker(data, reason):
    with pytest.raises(BadAudioError) as caught:
        decode(data, GTZAN_FORMAT)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.reason, again.detail) == (reason, caught.value.detail)
