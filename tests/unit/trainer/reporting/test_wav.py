"""WAV files, read back after writing."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from trainer.reporting.wav import read_comment, read_wav, write_wav

RATE_HZ = 3_000
LSB = 1 / 32_768


def loudest_hz(audio, rate_hz):
    return np.argmax(np.abs(np.fft.rfft(audio * np.hanning(len(audio))))) * rate_hz / len(audio)


def test_wav_samples_are_rounded_to_the_nearest_step_and_clipped(tmp_path):
    audio = np.random.default_rng(0).uniform(-0.99, 0.99, 1_000).astype(np.float32)
    audio[:4] = 1.5, -1.5, np.nan, np.inf
    write_wav(tmp_path / "a.wav", audio, RATE_HZ)
    read = read_wav(tmp_path / "a.wav")
    assert read.dtype == np.float32
    np.testing.assert_allclose(read[:4], [1 - LSB, -1, 0, 1 - LSB], atol=1e-9)
    np.testing.assert_allclose(read[4:], audio[4:], atol=0.5 * LSB + 1e-7)
    info = soundfile.info(tmp_path / "a.wav")
    assert (info.samplerate, info.channels, info.subtype) == (RATE_HZ, 1, "PCM_16")


def test_a_resampled_wav_file_keeps_duration_and_pitch(tmp_path):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE_HZ) / RATE_HZ).astype(np.float32)
    write_wav(tmp_path / "a.wav", tone, RATE_HZ, output_rate_hz=22_050)
    info = soundfile.info(tmp_path / "a.wav")
    assert info.samplerate == 22_050
    assert info.duration == pytest.approx(2.0, abs=1e-3)
    assert loudest_hz(read_wav(tmp_path / "a.wav"), 22_050) == pytest.approx(440, abs=0.5)


@pytest.mark.parametrize("comment", ["", "seed 1", "\N{GREEK SMALL LETTER PI}" * 9_999])
def test_a_comment_of_any_length_is_read_back_and_the_samples_are_the_same(tmp_path, comment):
    audio = np.random.default_rng(0).uniform(-0.9, 0.9, 999).astype(np.float32)
    write_wav(tmp_path / "plain.wav", audio, RATE_HZ)
    write_wav(tmp_path / "comment.wav", audio, RATE_HZ, comment=comment)
    assert read_comment(tmp_path / "comment.wav") == comment
    np.testing.assert_array_equal(read_wav(tmp_path / "comment.wav"), read_wav(tmp_path / "plain.wav"))
    with soundfile.SoundFile(tmp_path / "comment.wav") as file:
        assert file.frames == 999 and (len(comment) > 2_000 or file.comment == comment)
