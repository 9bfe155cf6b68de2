"""Models with few weights, and batches, conditions and noise for them."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from preprocessing.dataset.manifest import Statistics
from support.tiny_corpus import WAVE
from trainer.conditioning import DROPPED_KEY, Condition
from trainer.models import make_model
from trainer.models.base import WaveformVAE
from trainer.presets import PRESETS
from trainer.run_config import DatasetMetadata

SAMPLES = 1_000  # not a whole number of frames, like the default of 90,001
STANDARD = Statistics(mean=0.0, std=1.0, low=-1.0, high=1.0)
TEMPO = Statistics(mean=120.0, std=20.0, low=60.0, high=180.0)
CLARITY = Statistics(mean=0.5, std=0.25, low=0.0, high=1.0)
ATTRIBUTES = {"beat_clarity": CLARITY, "centroid_hz": STANDARD, "loudness_db": STANDARD, "tempo_bpm": TEMPO}
KEYS = ("C major", "G major", "A minor")
METADATA = DatasetMetadata(
    "data", "digest", 1_000, SAMPLES, ("blues", "jazz", "rock"), ATTRIBUTES, KEYS, [], {}
)
TINY_WAVE = dataclasses.replace(PRESETS["wave"], **WAVE)
MODELS = {"wave": TINY_WAVE, "reference": PRESETS["reference"]}  # one configuration of each architecture


def make_perturbed_model() -> WaveformVAE:
    """Return a hierarchical model with noise added to its initial weights, many of which are zero."""
    tf.keras.utils.set_random_seed(0)
    model = make_model(TINY_WAVE, METADATA)
    perturb(model, stddev=0.1)
    return model


def perturb(layer: tf.Module, stddev: float) -> None:
    """Add reproducible noise to every trainable weight."""
    for index, weight in enumerate(layer.trainable_variables):
        weight.assign_add(tf.random.stateless_normal(weight.shape, [9, index], stddev=stddev))


def make_batch(clips: int = 2, samples: int = SAMPLES) -> tuple[tf.Tensor, Condition]:
    """Return uniform noise as audio, `[clips, samples]`, and a condition."""
    audio = tf.random.stateless_uniform([clips, samples], [1, 2], -0.9, 0.9)
    return audio, make_condition(clips)


def make_condition(
    clips: int = 2, genre: int | None = None, attributes: float = 0.0, key: int = DROPPED_KEY
) -> Condition:
    """Return a condition with one genre for all clips, or the genres in turn, and one value for all attributes."""
    genres = tf.range(clips, dtype=tf.int32) % 3 if genre is None else tf.fill([clips], genre)
    return Condition(genres, tf.fill([clips, len(ATTRIBUTES)], attributes), tf.fill([clips], key))


def normal(shape: list[int], key: int = 5) -> tf.Tensor:
    """Return reproducible standard normal noise."""
    return tf.random.stateless_normal(shape, [key, 6])
