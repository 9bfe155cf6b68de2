"""The page about a dataset: it plays, tells all, loads nothing, and escapes what strangers wrote."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import pytest
import soundfile
from markupsafe import escape
from support.written_dataset import GENRES, RATE_HZ, TRAIN_0, VALID_SAMPLES

from preprocessing.dataset import quarantine
from preprocessing.dataset.quarantine import Rejected
from preprocessing.errors import CommandError
from preprocessing.validation.report import MAX_FILES
from preprocessing.validation.validate import inspect_dataset

HOSTILE = '<script>alert("x")</script>&.wav'


@pytest.fixture
def html(made, tmp_path):
    """The text of the page about a dataset that left some files out."""
    made.rejected = [
        *(Rejected(f"/corpus/jazz/{number}.wav", "not_audio", "no sound") for number in range(MAX_FILES + 2)),
        Rejected(f"/corpus/rock/{HOSTILE}", "a_new_reason", f"<b>{HOSTILE}</b>"),
        Rejected("/corpus/rock/b.wav", "duplicate", "the same recording as /corpus/rock/rock.00001.wav"),
        Rejected("/corpus/cover.jpg", "other_file", "no sound"),
    ]
    path = tmp_path / "pages/music.html"
    assert str(path) in inspect_dataset(made.write(), str(path)).splitlines()[-1]
    return path.read_text("utf-8")


def test_the_page_plays_one_clip_of_each_genre(made, html):
    sounds = re.findall(r'<audio [^>]*src="data:audio/mpeg;base64,([^"]+)"', html)
    assert len(sounds) == html.count("<audio") == len(GENRES)
    for sound in sounds:
        decoded, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(sound)))
        assert len(decoded) / rate_hz == pytest.approx(VALID_SAMPLES / RATE_HZ, abs=0.2)
    heard = re.findall(r"<figcaption>(.*?)</figcaption>", html)
    assert heard == ["jazz.00001", "rock.00001"]  # of -10 to -13 dB, in the training shards
    assert html.count('src="data:image/png') == len(GENRES)


def test_the_page_tells_what_is_there_and_what_was_left_out(html):
    for text in ("music: 12 clips", "jazz", "rock", "0:00:24", "2.05 s at 1,000 Hz", "<dd>10</dd>"):
        assert text in html
    for text in (quarantine.REASONS["not_audio"], "<small>7</small>", "and 2 more", "a_new_reason"):
        assert text in html
    assert "<li><b>rock/b.wav</b> the same recording as rock/rock.00001.wav</li>" in html
    assert html.index("not_audio") < html.index("<h3>duplicate") < html.index("<h3>other_file")
    assert html.count('<svg class="ridges') == 3


def test_the_page_loads_nothing_and_escapes_names(html):
    assert HOSTILE not in html
    assert f"rock/{escape(HOSTILE)}" in html
    assert html.count("<script>") == 1
    links = re.findall(r'(?:src|href|data)="([^"]*)"', html)
    assert links
    assert all(link.startswith("data:") for link in links)
    assert "url(" not in html
    assert "http" not in re.sub(r'src="[^"]*"', "", html).replace("http-equiv", "")


def test_a_damaged_dataset_has_no_page(made, tmp_path):
    (Path(made.write()) / TRAIN_0).unlink()
    with pytest.raises(CommandError, match="damaged"):
        inspect_dataset(str(made.folder), str(tmp_path / "page.html"))
    assert not (tmp_path / "page.html").exists()
