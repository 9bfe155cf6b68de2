import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf

from preprocessing.dataset.manifest import Statistics
from preprocessing.features.attributes import measure
from trainer.conditioning import Condition
from trainer.dsp import mdct
from trainer.models.hierarchical.beat_phase import BeatPhase
from trainer.run_config import DatasetMetadata

TEMPO = Statistics(mean=120.0, std=20.0, low=60.0, high=180.0)
CLARITY = Statistics(mean=0.5, std=0.25, low=0.1, high=1.0)
ATTRIBUTES = {"beat_clarity": CLARITY, "tempo_bpm": TEMPO}
METADATA = DatasetMetadata("data", "digest", 1_000, 1_000, ("blues",), ATTRIBUTES, (), [], {})


def make_beat_phase(emphasis=2.0):
    """100 frames and 50 steps per second."""
    return BeatPhase(METADATA, hop_samples=10, frames_per_step=2, emphasis=emphasis)


def make_condition(clips, tempo, clarity=math.nan):
    """`tempo` is in standard deviations from 120 BPM, `clarity` in those from 0.5."""
    attributes = tf.tile([[clarity, tempo]], [clips, 1])
    return Condition(tf.zeros([clips], tf.int32), attributes, tf.zeros([clips], tf.int32))


def test_the_phase_starts_on_the_beat_and_continues_beyond_a_known_clip():
    beat_phase = make_beat_phase()
    condition = make_condition(1, 0.0)  # 120 BPM: a beat in 25 steps
    new = beat_phase.from_tempo(condition, 100).numpy()[0]
    np.testing.assert_allclose(new[::25, 0], 1.0, atol=1e-3)
    np.testing.assert_allclose(new[:, 4], 1.0)
    # Onsets are 0.2 s after the start and every half second from there: these are the beats, where the phase is 0.
    coefficients = np.full([1, 600, 4], 1e-3, np.float32)
    coefficients[:, 20::50] = 1.0
    known = beat_phase.from_audio(condition, tf.constant(coefficients), steps=400).numpy()[0]
    cosine = known[:, 0] / np.hypot(known[:, 0], known[:, 1])
    np.testing.assert_allclose(cosine[10:300:25], 1.0, atol=0.02)
    np.testing.assert_allclose(cosine[310::25], 1.0, atol=0.05)


@pytest.mark.parametrize(
    ("clarity", "strength"),
    [(math.nan, 1.0), (0.0, 0.0), (0.25, 0.75), (0.5, 1.5), (1.0, 3.0)],
)
def test_a_new_beat_is_told_to_be_stronger_than_it_is_clear(clarity, strength):
    beat_phase = make_beat_phase(emphasis=3.0)
    condition = make_condition(1, 0.0, (clarity - CLARITY.mean) / CLARITY.std)
    features = beat_phase.from_tempo(condition, 100).numpy()[0]
    for multiple in (0, 2):
        np.testing.assert_allclose(
            np.hypot(features[:, multiple], features[:, multiple + 1]), strength, atol=1e-5
        )
    np.testing.assert_allclose(features[:, 4], 1.0)


def test_the_strength_in_a_known_clip_is_the_clarity_that_preprocessing_measures():
    rate_hz, rng = 3_000, np.random.default_rng(0)
    time_secs = np.arange(24 * rate_hz) / rate_hz
    clicks = np.sin(2 * np.pi * 300 * time_secs) * np.exp(-10 * (2 * time_secs % 1))
    metadata = dataclasses.replace(METADATA, sample_rate_hz=rate_hz)
    beat_phase = BeatPhase(metadata, hop_samples=128, frames_per_step=2, emphasis=2.0)
    strengths = []
    for level in (0.0, 1.0, 10.0):
        audio = (level * clicks + rng.normal(0, 0.3, len(clicks))).astype(np.float32)
        attributes = measure(audio, rate_hz)
        condition = make_condition(1, (attributes.tempo_bpm - 120) / 20)
        coefficients = mdct.analyse(tf.constant(audio[np.newaxis]), 128, len(audio) // 128 + 1)
        features = beat_phase.from_audio(condition, coefficients).numpy()[0]
        strengths.append(np.hypot(features[:, [0, 2]], features[:, [1, 3]]).mean())
        assert strengths[-1] == pytest.approx(attributes.beat_clarity, abs=0.2)
    assert strengths == sorted(strengths)


def test_features_are_zero_where_the_tempo_is_dropped():
    beat_phase = make_beat_phase()
    coefficients = np.full([1, 600, 4], 1e-3, np.float32)
    coefficients[:, 20::50] = 1.0
    condition = make_condition(1, math.nan)
    assert not beat_phase.from_audio(condition, tf.constant(coefficients)).numpy().any()
    assert not beat_phase.from_tempo(condition, 100).numpy().any()


def test_the_strength_grows_with_the_regularity_of_the_onsets():
    beat_phase = make_beat_phase()
    onsets = np.full([2, 600, 4], 1e-3, np.float32)
    onsets[0, ::50] = 1.0  # on the beat of 120 BPM
    onsets[1, np.random.default_rng(0).choice(600, 12, replace=False)] = 1.0  # as many, at random
    features = beat_phase.from_audio(make_condition(2, 0.0), tf.constant(onsets)).numpy()
    regular, irregular = np.hypot(features[..., 0], features[..., 1])[:, 50:-50].mean(axis=1)
    assert regular > 2 * irregular
