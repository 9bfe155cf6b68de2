"""Onset strength and tempo equal librosa's, whose import these functions save a worker."""

import librosa
import numpy as np
import pytest

from preprocessing.features import tempo

RATES_HZ = [3_000, 22_050]


def mel_power(rate_hz, bpm, hop, secs=20.0):
    """Return the mel power spectrogram of noise with a decay on every beat, `[bands, frames]`."""
    rng = np.random.default_rng(round(bpm))
    time_secs = np.arange(round(secs * rate_hz)) / rate_hz
    envelope = np.exp(-8 * (time_secs * bpm / 60 % 1))
    audio = rng.normal(0, 0.1, len(envelope)) * envelope + 1e-4 * rng.normal(size=len(envelope))
    return librosa.feature.melspectrogram(y=audio, sr=rate_hz, n_fft=4 * hop, hop_length=hop, n_mels=32)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_mel_filters_equal_librosas(rate_hz):
    expected = librosa.filters.mel(sr=rate_hz, n_fft=512, n_mels=32, htk=True)
    np.testing.assert_allclose(tempo.mel_filters(rate_hz, 257, 32), expected.T, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("level", [1.0, 1e-14, 0.0])
def test_onset_strength_equals_librosas_at_any_level(rate_hz, level):
    power = level * mel_power(rate_hz, 96.0, 100)
    expected = librosa.onset.onset_strength(S=librosa.power_to_db(power), sr=rate_hz)
    np.testing.assert_allclose(tempo.onset_strength(power.T), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_onset_strength_of_a_few_frames_equals_librosas(frames):
    power = mel_power(3_000, 96.0, 100)[:, 20 : 20 + frames]
    expected = librosa.onset.onset_strength(S=librosa.power_to_db(power), sr=3_000)
    np.testing.assert_allclose(tempo.onset_strength(power.T), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bpm", [52.0, 70.0, 96.0, 123.0, 171.0, 240.0])
@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_the_tempo_equals_librosas_on_the_same_windows(bpm, rate_hz):
    hop = round(0.032 * rate_hz)
    onsets = tempo.onset_strength(mel_power(rate_hz, bpm, hop).T)
    size = round(tempo.TEMPO_WINDOW_SECS * rate_hz / hop)
    stride = size // tempo.TEMPO_WINDOW_OVERLAP
    tempogram = librosa.feature.tempogram(onset_envelope=onsets, sr=rate_hz, hop_length=hop, win_length=size)
    expected = librosa.feature.tempo(tg=tempogram[:, ::stride], sr=rate_hz, hop_length=hop)[0]
    assert tempo.tempo_bpm(onsets, rate_hz / hop) == pytest.approx(expected, rel=1e-6)
