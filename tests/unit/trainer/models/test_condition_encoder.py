import math

import numpy as np
import tensorflow as tf

from preprocessing.dataset.manifest import Statistics
from trainer.conditioning import Condition
from trainer.models.condition_encoder import BeatPhase
from trainer.run_config import DatasetMetadata

TEMPO = Statistics(mean=120.0, std=20.0, low=60.0, high=180.0)
FACTS = DatasetMetadata("data", "digest", 1_000, 1_000, ("blues",), {"tempo_bpm": TEMPO}, [], {})


def told(clips, tempo):
    """In standard deviations from 120 BPM."""
    return Condition(tf.zeros([clips], tf.int32), tf.fill([clips, 1], tempo))


def test_the_clock_is_on_the_beat_and_goes_on_where_a_clip_ends():
    clock = BeatPhase(FACTS, hop_samples=10, frames_per_step=2)  # 100 frames and 50 steps a second
    condition = told(1, 0.0)  # 120 BPM: a beat in 25 steps
    new = clock.from_tempo(condition, 100).numpy()[0]
    np.testing.assert_allclose(new[::25, 0], 1.0, atol=1e-3)
    np.testing.assert_allclose(new[:, 4], 1.0)
    # Onsets 0.2 s after the start and every half second then: there the clock's phase is 0.
    coefficients = np.full([1, 600, 4], 1e-3, np.float32)
    coefficients[:, 20::50] = 1.0
    followed = clock.from_audio(condition, tf.constant(coefficients), steps=400).numpy()[0]
    cosine = followed[:, 0] / np.hypot(followed[:, 0], followed[:, 1])
    np.testing.assert_allclose(cosine[10:300:25], 1.0, atol=0.02)
    np.testing.assert_allclose(cosine[310::25], 1.0, atol=0.05)
    assert not clock.from_audio(told(1, math.nan), tf.constant(coefficients)).numpy().any()


def test_the_clock_is_as_strong_as_the_beat_is_clear():
    clock = BeatPhase(FACTS, hop_samples=10, frames_per_step=2)
    onsets = np.full([2, 600, 4], 1e-3, np.float32)
    onsets[0, ::50] = 1.0  # on the beat of 120 BPM
    onsets[1, np.random.default_rng(0).choice(600, 12, replace=False)] = 1.0  # as many, anywhere
    features = clock.from_audio(told(2, 0.0), tf.constant(onsets)).numpy()
    steady, loose = np.hypot(features[..., 0], features[..., 1])[:, 50:-50].mean(axis=1)
    assert steady > 2 * loose
