"""Runs of one epoch, and the fixtures of the retraining tests: dataset versions, models after the first promotion."""

import shutil

import numpy as np
import pytest
import soundfile
from support.runs.retraining import FLAGS, MORE_COEFFICIENTS, interrupt, run_retrain
from support.tiny_corpus import GENRES, TINY, WAVE, without_figures_and_music, write_clip

from preprocessing.__main__ import main as preprocess
from preprocessing.errors import STOPPED
from trainer.registry import retrain
from trainer.training.loop import TrainingLoop
from trainer.training.train import train_and_evaluate


@pytest.fixture(scope="session")
def versions(tmp_path_factory):
    """Three states of a folder of versions: initial, with new clips, and with noise in place of all clips."""
    root = tmp_path_factory.mktemp("versions")
    corpus = root / "corpus"

    def add(numbers):
        for genre in GENRES:
            for number in numbers:
                write_clip(
                    corpus / genre / f"{genre}.{number:05d}.wav", number + 100 * (genre == "rock"), secs=1.1
                )

    def state(name):
        flags = ["--input", str(corpus), "--output", str(root / "all"), "--versioned", "--shards", "3", *TINY]
        assert preprocess(flags) == 0
        shutil.copytree(root / "all", root / name)
        return root / name

    add(range(12))
    states = {"first": state("first")}
    add((12, 13, 14, 19, 21, 26))  # four of them are test clips
    states["more"] = state("more")
    noise = np.random.default_rng(0)
    for path in corpus.rglob("*.wav"):
        soundfile.write(path, noise.uniform(-0.9, 0.9, 8_800), 8_000)
    states["noise"] = state("noise")
    return states


@pytest.fixture(scope="module")
def quick():
    with without_figures_and_music():
        yield


@pytest.fixture(scope="session")
def trained(versions, tmp_path_factory):
    """Models after the first promotion, with a better candidate that is trained but not yet evaluated."""
    root = tmp_path_factory.mktemp("trained")
    models, cache = root / "models", root / "cache"
    with without_figures_and_music():
        assert run_retrain(versions["first"], models, *FLAGS, cache=cache) == 0
        with pytest.MonkeyPatch.context() as patch:
            save = TrainingLoop._save_if_due

            def request_stop(self):
                self._stop.requested = self.steps == 3
                save(self)

            patch.setattr(TrainingLoop, "_save_if_due", request_stop)
            assert run_retrain(versions["more"], models, *MORE_COEFFICIENTS, cache=cache) == STOPPED
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(retrain, "_evaluate", interrupt)
            assert run_retrain(versions["more"], models, *MORE_COEFFICIENTS, cache=cache) == STOPPED
    assert len(list((models / "candidates").iterdir())) == 2
    return models


@pytest.fixture
def models(trained, tmp_path):
    """A copy of the trained models."""
    shutil.copytree(trained, tmp_path / "models")
    return tmp_path / "models"


def train_once(dataset, folder, given):
    given = {**given, "epochs": 1, "sample_clips": 2}
    with without_figures_and_music():
        train_and_evaluate(str(dataset), str(folder), given, 1, folder / "c")
    return folder


@pytest.fixture(scope="session")
def wave(dataset, tmp_path_factory):
    return train_once(dataset, tmp_path_factory.mktemp("wave"), {"preset": "wave", **WAVE})


@pytest.fixture(scope="session")
def reference(dataset, tmp_path_factory):
    return train_once(dataset, tmp_path_factory.mktemp("reference"), {"preset": "reference"})
