"""The files that a training writes."""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support.tiny_corpus import CLIP_SAMPLES, RATE_HZ, WAVE

from preprocessing.features.attributes import measure
from preprocessing.features.key import find_key
from trainer.generation.load import load
from trainer.reporting.wav import read_wav
from trainer.training.train import train_and_evaluate

pytestmark = pytest.mark.long

FIGURES = ("elbo", "log_likelihood", "kl")


def train(data, run, settings, epochs):
    train_and_evaluate(str(data), str(run), {**settings, "epochs": epochs}, 1, run.parent / "cache")


def test_a_run_writes_all_documented_files(dataset, tmp_path, capsys):
    run = tmp_path / "run"
    train(dataset, run, {**WAVE, "checkpoints_to_keep": 1}, 3)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert set(rows[-1]) == {
        "epoch", "steps", "stage", "beta", "learning_rate", "epoch_secs", "clips_per_sec", "test_snr_db",
        "validation_elbo", *(f"{split}_{figure}" for split in ("train", "test") for figure in FIGURES),
    }  # fmt: skip
    assert [row["steps"] for row in rows] == [10, 20, 30]
    for row in rows:
        assert row["test_elbo"] == pytest.approx(row["test_log_likelihood"] - row["test_kl"])
    assert rows[-1]["train_elbo"] > rows[0]["train_elbo"]
    best = max(rows, key=lambda row: row["validation_elbo"])["epoch"]
    stored = sorted(path.name for path in (run / "checkpoints").glob("*.index"))
    assert stored == [f"best-{best}.index", "step-30.index"]
    assert load(run).checkpoint == f"best-{best}"
    clips = json.loads((run / "samples/clips.json").read_text())
    assert [clip["name"] for clip in clips] == ["00", "01"]
    for epoch in (1, 2, 3):
        folder = run / f"samples/epoch-{epoch:04d}"
        assert sorted(path.name for path in folder.iterdir()) == [
            "latents.png", "new-00.wav", "new-01.wav", "reconstruction-00.wav", "reconstruction-01.wav",
            "spectrograms.png", "waveforms.png",
        ]  # fmt: skip
        assert all(len(read_wav(path)) == CLIP_SAMPLES for path in folder.glob("*.wav"))
    assert Image.open(run / "samples/training.gif").n_frames == 3
    page = (run / "report.html").read_text()
    assert page.count("<audio") == 6 + 5 * 2 + 5  # six modes, one of five steps
    assert "no lower bound" not in page
    tags = set()
    for path in (run / "events").iterdir():
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            tags |= {value.tag for value in event.summary.value}
    assert {
        "train/elbo",
        "test/snr_db",
        "clips_per_sec",
        "reconstruction",
        "spectrograms",
        "latents",
    } <= tags
    # The checkpoint reproduces the reconstruction in the report.
    generator = load(run, "newest")
    original = read_wav(run / "samples/originals/00.wav")[np.newaxis]
    measured = measure(original[0], RATE_HZ)._asdict()
    attributes = {name: measured[name] for name in generator.metadata.attributes}
    key = find_key(original[0], RATE_HZ).name or None
    reconstruction = generator.reconstruct(original, clips[0]["genre"], attributes, key)[0]
    expected = read_wav(run / "samples/epoch-0003/reconstruction-00.wav")
    np.testing.assert_allclose(reconstruction, expected, atol=1e-3)
    assert "epoch   3" in capsys.readouterr().out


def test_the_report_of_the_reference_model_warns_of_its_unbounded_elbo(dataset, tmp_path):
    train(dataset, tmp_path / "reference", {"preset": "reference", "sample_clips": 2}, 1)
    assert "no lower bound" in (tmp_path / "reference/report.html").read_text()
