"""Pieces of a page, decoded again by the libraries that others would open them with."""

import io

import numpy as np
import pytest
import soundfile

from preprocessing.html import page


def tone(rate_hz, secs=2.0):
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(int(secs * rate_hz)) / rate_hz)).astype(np.float32)


@pytest.mark.parametrize(("rate_hz", "browser_hz"), [(3_000, 8_000), (8_000, 8_000), (22_050, 22_050)])
def test_a_browser_gets_lossless_sound_at_a_rate_it_plays(rate_hz, browser_hz):
    content, media_type = page.to_browser_audio(tone(rate_hz), rate_hz)
    decoded, decoded_hz = soundfile.read(io.BytesIO(content), dtype="float32")
    assert (media_type, content[:4], decoded_hz) == ("audio/flac", b"fLaC", browser_hz)
    inner = slice(browser_hz // 10, -browser_hz // 10)  # a tone cut short rings at its ends
    np.testing.assert_allclose(decoded[inner], tone(browser_hz)[inner], atol=1e-3)


@pytest.mark.parametrize(
    ("rate_hz", "browser_hz"), [(3_000, 8_000), (10_000, 11_025), (22_050, 22_050), (96_000, 48_000)]
)
def test_a_browser_gets_small_sound_where_it_need_not_be_lossless(rate_hz, browser_hz):
    content, media_type = page.to_browser_audio(tone(rate_hz), rate_hz, lossless=False)
    decoded, decoded_hz = soundfile.read(io.BytesIO(content), dtype="float32")
    assert (media_type, decoded_hz) == ("audio/mpeg", browser_hz)
    assert len(decoded) / decoded_hz == pytest.approx(2.0, abs=0.15)  # whole MP3 frames
    spectrum = np.abs(np.fft.rfft(decoded * np.hanning(len(decoded))))
    assert np.argmax(spectrum) * decoded_hz / len(decoded) == pytest.approx(440, abs=1.0)
    assert len(content) < len(page.to_browser_audio(tone(rate_hz), rate_hz)[0]) / 3


def test_one_scale_serves_all_pictures():
    loud = page.Sound("loud", tone(3_000), 3_000)
    quiet = page.Sound("quiet", 0.01 * tone(3_000), 3_000)
    show = page.same_scale([loud, quiet], max_hz=1_500)
    alone = page.same_scale([quiet], max_hz=1_500)
    assert show(quiet) != alone(quiet)
    assert show(loud) == page.same_scale([loud], max_hz=1_500)(loud)


def test_a_document_escapes_its_title_and_keeps_its_body():
    text = page.document("<b>$title</b>", "<p>$body</p>", ".own { color: red; }")
    assert text.count("&lt;b&gt;$title&lt;/b&gt;") == 2
    assert "<p>$body</p>" in text
    assert text.index(".own") < text.index("</style>")


def test_values_are_folded_away_as_text():
    assert "&lt;i&gt;" in page.details("All", {"name": "<i>"})
