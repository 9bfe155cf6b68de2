"""The page of `inspect`: its contents, its players, and the escaping of untrusted names."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import pytest
import soundfile
from markupsafe import escape
from support.inputs.draft_dataset import GENRES, RATE_HZ, TRAIN_0, VALID_SAMPLES

from preprocessing.dataset import quarantine
from preprocessing.dataset.quarantine import Rejected
from preprocessing.errors import CommandError
from preprocessing.validation.report import MAX_FILES
from preprocessing.validation.validate import inspect_dataset

HOSTILE = '<script>alert("x")</script>&.wav'


@pytest.fixture
def html(draft, tmp_path):
    """Return the page of a dataset with rejected files."""
    draft.rejected = [
        *(Rejected(f"/corpus/jazz/{number}.wav", "not_audio", "no sound") for number in range(MAX_FILES + 2)),
        Rejected(f"/corpus/rock/{HOSTILE}", "a_new_reason", f"<b>{HOSTILE}</b>"),
        Rejected("/corpus/rock/b.wav", "duplicate", "the same recording as /corpus/rock/rock.00001.wav"),
        Rejected("/corpus/cover.jpg", "other_file", "no sound"),
    ]
    path = tmp_path / "pages/music.html"
    assert str(path) in inspect_dataset(draft.write(), str(path)).splitlines()[-1]
    return path.read_text("utf-8")


def test_the_page_plays_one_clip_of_each_genre(draft, html):
    sounds = re.findall(r'<audio [^>]*src="data:audio/mpeg;base64,([^"]+)"', html)
    assert len(sounds) == html.count("<audio") == len(GENRES)
    for sound in sounds:
        decoded, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(sound)))
        assert len(decoded) / rate_hz == pytest.approx(VALID_SAMPLES / RATE_HZ, abs=0.2)
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", html)
    assert captions == ["jazz.00001", "rock.00001"]  # the median of -10 to -13 dB, in the training split
    assert html.count('src="data:image/png') == len(GENRES)


def test_the_page_shows_the_clips_and_the_rejected_files(html):
    for text in ("music: 12 clips", "jazz", "rock", "0:00:24", "2.05 s at 1,000 Hz", "<dd>10</dd>"):
        assert text in html
    for text in (quarantine.REASONS["not_audio"], "<small>7</small>", "and 2 more", "a_new_reason"):
        assert text in html
    assert "<li><b>rock/b.wav</b> the same recording as rock/rock.00001.wav</li>" in html
    assert html.index("not_audio") < html.index("<h3>duplicate") < html.index("<h3>other_file")
    assert html.count('<svg class="ridges') == 4
    assert "12 of 12 clips, most often A minor 6, F major 6" in html


def test_the_page_loads_nothing_from_elsewhere_and_escapes_names(html):
    assert HOSTILE not in html
    assert f"rock/{escape(HOSTILE)}" in html
    assert html.count("<script>") == 1
    links = re.findall(r'(?:src|href|data)="([^"]*)"', html)
    assert links
    assert all(link.startswith("data:") for link in links)
    assert "url(" not in html
    assert "http" not in re.sub(r'src="[^"]*"', "", html).replace("http-equiv", "")


def test_no_page_is_written_for_a_corrupt_dataset(draft, tmp_path):
    (Path(draft.write()) / TRAIN_0).unlink()
    with pytest.raises(CommandError, match="is corrupt"):
        inspect_dataset(str(draft.folder), str(tmp_path / "page.html"))
    assert not (tmp_path / "page.html").exists()
