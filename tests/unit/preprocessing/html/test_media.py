"""Audio files and pictures of clips on pages, decoded again with common libraries."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from preprocessing.html import media


def tone(rate_hz, secs=2.0):
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(int(secs * rate_hz)) / rate_hz)).astype(np.float32)


@pytest.mark.parametrize(("rate_hz", "browser_hz"), [(3_000, 8_000), (8_000, 8_000), (22_050, 22_050)])
def test_browser_audio_is_lossless_at_a_rate_that_browsers_play(rate_hz, browser_hz):
    content, media_type = media.to_browser_audio(tone(rate_hz), rate_hz)
    decoded, decoded_hz = soundfile.read(io.BytesIO(content), dtype="float32")
    assert (media_type, content[:4], decoded_hz) == ("audio/flac", b"fLaC", browser_hz)
    inner = slice(browser_hz // 10, -browser_hz // 10)  # a tone cut short rings at its ends
    np.testing.assert_allclose(decoded[inner], tone(browser_hz)[inner], atol=1e-3)


@pytest.mark.parametrize(
    ("rate_hz", "browser_hz"), [(3_000, 8_000), (10_000, 11_025), (22_050, 22_050), (96_000, 48_000)]
)
def test_lossy_browser_audio_keeps_the_pitch_in_less_than_a_third_of_the_bytes(rate_hz, browser_hz):
    content, media_type = media.to_browser_audio(tone(rate_hz), rate_hz, lossless=False)
    decoded, decoded_hz = soundfile.read(io.BytesIO(content), dtype="float32")
    assert (media_type, decoded_hz) == ("audio/mpeg", browser_hz)
    assert len(decoded) / decoded_hz == pytest.approx(2.0, abs=0.15)  # whole MP3 frames
    spectrum = np.abs(np.fft.rfft(decoded * np.hanning(len(decoded))))
    assert np.argmax(spectrum) * decoded_hz / len(decoded) == pytest.approx(440, abs=1.0)
    assert len(content) < len(media.to_browser_audio(tone(rate_hz), rate_hz)[0]) / 3


def test_all_spectrograms_share_one_scale():
    loud = media.AudioClip("loud", tone(3_000), 3_000)
    quiet = media.AudioClip("quiet", 0.01 * tone(3_000), 3_000)
    both, quiet_only = (media.SpectrogramScale.of(clips, 1_500) for clips in ([quiet, loud], [quiet]))
    assert both == media.SpectrogramScale.of([loud], 1_500)
    assert media.clip_figure(quiet, both).picture_uri != media.clip_figure(quiet, quiet_only).picture_uri
