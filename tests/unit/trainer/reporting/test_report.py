"""The report of a run, parsed as HTML: its clips, pictures, tables and charts, and its independence of other files."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
import soundfile
from PIL import Image
from support.runs.run_files import NAMES, Page, epoch, write_generated, write_metrics, write_run

from preprocessing.errors import DataError
from trainer.config import MODES
from trainer.reporting.report import MODE_TEXTS, write_report

HOSTILE = '<script>alert(1)</script> & "jazz" {{ title }} $title'


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path)


def test_a_report_plays_every_clip_of_the_last_epoch(run):
    path = write_report(run)
    assert path == run / "report.html"
    sources = Page(path).attributes("audio", "src")
    assert len(sources) == 6
    decoded = []
    for source in sources:
        media_type, content = source.split(",", 1)
        assert media_type == "data:audio/flac;base64"
        decoded.append(soundfile.read(io.BytesIO(base64.b64decode(content)))[0])
    assert [len(audio) for audio in decoded] == [8_000] * 6
    assert np.std(decoded[1]) == pytest.approx(0.9 * np.std(decoded[0]), rel=1e-3)


@pytest.mark.parametrize("name", ["samples/clips.json", "samples/originals/00.wav", "generated/music.json"])
def test_a_damaged_file_is_named(run, name):
    write_generated(run, ("prior", "jazz", "jazz"))
    (run / "samples/epoch-0002 (copy)").mkdir()
    write_report(run)
    (run / name).write_bytes((run / name).read_bytes()[:30])
    with pytest.raises(DataError, match=r"a file of the run .* is corrupt"):
        write_report(run)


def test_a_report_shows_a_picture_of_every_clip_and_of_the_training(run):
    pictures = Page(write_report(run)).attributes("img", "src")
    shown = [Image.open(io.BytesIO(base64.b64decode(picture.split(",", 1)[1]))) for picture in pictures]
    assert [picture.format for picture in shown] == ["GIF"] + ["PNG"] * 6
    assert all(np.ptp(np.asarray(picture.convert("RGBA"))) > 100 for picture in shown[1:])
    assert pictures[1] != pictures[2]


def test_a_report_states_facts_and_final_metrics(run):
    text = Page(write_report(run, "Bounds a quantised density.", "Ten genres", parameters=1_234_567)).text
    facts = [
        "Ten genres",
        "wave",
        "1,234,567",
        "gtzan-cvae 0.1.0",
        "1 min 40 s",
        "40 train, 5 test",
        "jazz.00001",
        "3.2",
    ]
    figures = ["\N{MINUS SIGN}8,998.5", "\N{MINUS SIGN}9,098.5", "Bounds a quantised density.", "20.0 dB"]
    for expected in facts + figures:
        assert expected in text


def test_a_report_draws_a_train_and_a_test_curve_of_each_term(run):
    page = Page(write_report(run))
    curves = page.attributes("svg", "class")
    assert (curves.count("train"), curves.count("test")) == (4, 4)
    write_metrics(run, epoch(1, test_elbo=-5.0), epoch(2))
    assert Page(write_report(run)).attributes("path", "d") != page.attributes("path", "d")


def test_a_report_has_the_votes_of_a_listening_test(run):
    assert "Listening test" not in Page(write_report(run)).text
    vote = {"kind": "pair", "listener": "ab", "systems": ["model", "real clip"], "choice": "model"}
    (run / "listening.jsonl").write_text(json.dumps(vote) + "\n")
    text = " ".join(Page(write_report(run)).text.split())
    assert "Listening test Blind votes of 1 listener(s), with intervals" in text
    assert "model 100% 21 to 100 1 real clip 0% 0 to 79 1" in text


def test_a_report_loads_no_external_resource(run):
    page = Page(write_report(run))
    links = [
        value
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "href", "data")
    ]
    assert links
    assert all(link.startswith("data:") for link in links)
    assert "url(" not in (run / "report.html").read_text("utf-8")


def test_names_are_escaped(run):
    clips = [{"name": name, "track_id": HOSTILE, "genre": HOSTILE} for name in NAMES]
    (run / "samples/clips.json").write_text(json.dumps(clips))
    (run / "config.json").write_text(
        json.dumps({"preset": HOSTILE, "dataset": {"uri": HOSTILE, "genres": [HOSTILE]}})
    )
    page = Page(write_report(run, note=HOSTILE))
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert page.text.count(HOSTILE) >= 8


def test_a_diverged_run_has_a_report(run):
    diverged = epoch(
        2, train_elbo=float("nan"), test_elbo=float("-inf"), test_snr_db=None, test_kl=1e38, epoch_secs=None
    )
    write_metrics(run, epoch(1), diverged, epoch(3, train_elbo=float("nan"), test_elbo=None, train_kl=1e38))
    page = Page(write_report(run))
    assert "not finite" in page.text
    assert "1.00e+38" in page.text
    assert "2 of 3 epochs without a finite value" in page.text
    assert "Best epoch on the test split: 1, test ELBO \N{MINUS SIGN}9,099.5 nats." in page.text
    assert not any("nan" in path or "inf" in path for path in page.attributes("path", "d"))


def test_the_last_epoch_of_the_second_stage_is_named(run):
    write_metrics(run, epoch(1, stage=1), epoch(2, stage=2, test_elbo=-9_000.0))
    sentence = "Last epoch of the second stage: 2, test ELBO \N{MINUS SIGN}9,000.0 nats."
    assert sentence in Page(write_report(run)).text


def test_a_resumed_run_counts_each_epoch_once(run):
    write_metrics(run, epoch(1), epoch(2, test_elbo=-1.0), epoch(2))
    text = Page(write_report(run)).text
    assert "1 min 40 s" in text
    assert "\N{MINUS SIGN}1.0" not in text


def test_a_report_needs_neither_configuration_nor_gif_nor_generated_clips(run):
    (run / "config.json").unlink()
    (run / "samples/training.gif").unlink()
    for path in run.glob("samples/*/new-*.wav"):
        path.unlink()
    page = Page(write_report(run))
    assert len(page.attributes("audio", "src")) == 4
    assert "Generated clips" not in page.text
    assert "Training progress" not in page.text


def test_each_mode_of_generation_has_a_section(run):
    write_generated(run, ("prior", "jazz", "jazz"), ("transfer", "jazz.00001 as rock", "rock"))
    page = Page(write_report(run))
    for text in ("Samples from the prior", "Style transfer", "jazz.00001 as rock"):
        assert text in page.text
    assert "as rock, rock" not in page.text
    assert "Continuations" not in page.text


def test_every_mode_of_generation_has_a_heading():
    assert tuple(MODE_TEXTS) == MODES


def test_the_last_evaluation_has_a_section(run):
    assert "Evaluation" not in Page(write_report(run)).text
    tables = {
        "reconstruction_quality": [{"name": HOSTILE, "snr_db": 3.14159}, {"name": "PCA", "active_units": 12}],
        "generation_quality": [{"name": "model", "clips": 48, "frechet_log_mel": float("nan")}],
        "musical_statistics": [{"name": "model", "mean_distance": 0.4321}],
        "condition_adherence": [],
        "about": {"epoch": 2, "split": "test", "held_out_clips": 5, "count": 48},
    }
    (run / "evaluation").mkdir()
    (run / "evaluation/evaluation.json").write_text(json.dumps(tables))
    Image.new("RGB", (60, 40), "navy").save(run / "evaluation/latents.png")
    page = Page(write_report(run))
    for text in (HOSTILE, "snr db", "3.14", "active units", "12", "frechet log mel", "not finite", "0.432"):
        assert text in page.text
    assert "Generation quality" in page.text
    assert "Condition adherence" not in page.text
    assert [tag for tag, _ in page.tags].count("table") == 4
    assert "Latents of held-out clips, by genre" in page.attributes("img", "alt")


@pytest.mark.parametrize("missing", ["metrics.jsonl", "samples/clips.json", "samples/originals/00.wav"])
def test_the_error_names_a_missing_file(run, missing):
    (run / missing).unlink()
    with pytest.raises(
        FileNotFoundError, match=f"{missing} does not exist: train at least one epoch"
    ) as error:
        write_report(run)
    assert str(run) in str(error.value)


def test_a_run_without_an_epoch_is_an_error(run):
    write_metrics(run)
    with pytest.raises(FileNotFoundError, match="is empty: train at least one epoch"):
        write_report(run)
