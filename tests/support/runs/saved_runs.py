"""Runs that were not trained: a configuration and a checkpoint of perturbed weights, made in a second."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import tensorflow as tf

from support.runs.tiny_models import METADATA, MODELS, perturb
from trainer import run_config
from trainer.export import export
from trainer.export.signatures import make_signatures
from trainer.models import make_model
from trainer.run_config import RunConfig
from trainer.runs.directory import CHECKPOINTS, STEP_PREFIX

CONDITIONS = [
    {
        "genre": genre,
        "beat_clarity": 0.2 * number,
        "centroid_hz": 0.1 * number,
        "loudness_db": -20.0 - number,
        "tempo_bpm": 80.0 + 5 * number,
        "key": (*METADATA.keys, None)[number],
    }
    for number in range(4)
    for genre in METADATA.genres
]
LOUDNESS = dataclasses.replace(METADATA.attributes["loudness_db"], mean=-20.0, std=4.0, low=-30.0, high=-10.0)
CONDITIONAL_METADATA = dataclasses.replace(
    METADATA,
    attributes={**METADATA.attributes, "loudness_db": LOUDNESS},
    empirical_conditions=CONDITIONS,
)


def save_run(folder: Path, name: str) -> Path:
    """Write a run of `MODELS[name]` into a folder, which is created."""
    folder.mkdir(parents=True)
    config = MODELS[name]
    tf.keras.utils.set_random_seed(0)
    model = make_model(config, CONDITIONAL_METADATA)
    perturb(model, stddev=0.03)  # more would make the coefficient model chaotic, which trained ones are not
    run_config.save(RunConfig(config, CONDITIONAL_METADATA), folder)
    checkpoint = tf.train.Checkpoint(model=model)
    tf.train.CheckpointManager(checkpoint, str(folder / CHECKPOINTS), 1, checkpoint_name=STEP_PREFIX).save(7)
    return folder


@contextlib.contextmanager
def one_signature() -> Iterator[None]:
    """Let exports have the signature `sample` alone, which is quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "make_signatures", lambda run: {"sample": make_signatures(run)["sample"]})
        yield
