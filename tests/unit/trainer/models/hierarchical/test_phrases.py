import dataclasses
import math

import numpy as np
import tensorflow as tf
from support.runs.tiny_models import METADATA, TINY_WAVE, make_batch, normal, perturb

from preprocessing.dataset.manifest import Statistics
from trainer.conditioning import NO_GUIDANCE
from trainer.models import make_model
from trainer.models.hierarchical.phrases import PHRASES_PER_SECTION, noise_steps

SAMPLES = 40_000


def test_phrases_of_a_section_share_their_noise_and_the_next_section_has_its_own():
    sources = noise_steps(tf.constant([5.0]), 4, 100).numpy()[0]  # phrases of 20 steps, sections of 80
    section = 20 * PHRASES_PER_SECTION
    np.testing.assert_array_equal(sources[:section], np.tile(np.arange(20), PHRASES_PER_SECTION))
    np.testing.assert_array_equal(sources[section:], np.arange(section, 100))


def test_phrases_that_are_no_whole_number_of_steps_stay_on_the_beat():
    steps_per_beat = 5.37
    sources = noise_steps(tf.constant([steps_per_beat]), 4, 400).numpy()[0]
    steps = np.arange(400)
    assert (sources <= steps).all()
    phrases = (steps - sources) / (4 * steps_per_beat)
    np.testing.assert_allclose(phrases, np.round(phrases), atol=0.5 / (4 * steps_per_beat) + 1e-3)
    assert set(np.round(phrases)) == set(range(PHRASES_PER_SECTION))


def test_without_a_tempo_each_step_has_its_own_noise():
    sources = noise_steps(tf.constant([math.nan, 5.0]), 4, 50).numpy()
    np.testing.assert_array_equal(sources[0], np.arange(50))
    assert sources[1].max() < 20


def test_new_clips_repeat_their_phrases_but_for_the_start():
    tempo = Statistics(mean=600.0, std=20.0, low=500.0, high=700.0)
    names = sorted(METADATA.attributes)
    metadata = dataclasses.replace(METADATA, attributes={**METADATA.attributes, "tempo_bpm": tempo})
    _, condition = make_batch(2, SAMPLES)
    attributes = np.zeros([2, len(names)], np.float32)
    attributes[1, names.index("tempo_bpm")] = math.nan
    condition = condition._replace(attributes=tf.constant(attributes))
    repetitions = {}
    for phrase_beats in (0, 4):
        tf.keras.utils.set_random_seed(0)
        model = make_model(dataclasses.replace(TINY_WAVE, phrase_beats=phrase_beats), metadata)
        perturb(model, stddev=0.1)
        noise = normal([2, model.sample_noise_size(SAMPLES)])
        latents = model.sample(condition, SAMPLES, noise, tf.constant(1.0), NO_GUIDANCE).sequence_latents
        sources = noise_steps(model.beat_phase.steps_per_beat(condition), 4, latents.shape[1])
        later = np.flatnonzero(sources[0].numpy() < np.arange(latents.shape[1]) - 1)
        assert len(later) > 20
        earlier = sources[0].numpy()[later]
        repetitions[phrase_beats] = [
            np.corrcoef(clip[later].ravel(), clip[earlier].ravel())[0, 1] for clip in latents.numpy()
        ]
    assert repetitions[4][0] > 0.9
    assert max(*repetitions[0], repetitions[4][1]) < 0.7
