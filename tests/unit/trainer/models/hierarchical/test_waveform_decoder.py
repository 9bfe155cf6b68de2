import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf
from support.runs.tiny_models import (
    METADATA,
    SAMPLES,
    TINY_WAVE,
    make_batch,
    make_perturbed_model,
    normal,
    perturb,
)

from trainer.models import make_model
from trainer.models.base import Stage
from trainer.models.hierarchical import magnitude_decoder
from trainer.models.hierarchical.step_window import StepWindow


@pytest.fixture
def model():
    return make_perturbed_model()


def test_the_density_of_log_magnitudes_integrates_to_1():
    values = tf.linspace(-40.0, 40.0, 8_001)
    density = magnitude_decoder.log_density(values, tf.constant(1.5), tf.constant(math.log(2.0)))
    assert float(tf.reduce_sum(tf.exp(density)) * 0.01) == pytest.approx(1.0, abs=1e-3)


def test_new_clips_have_the_level_of_the_decoded_magnitudes():
    tf.keras.utils.set_random_seed(0)
    model = make_model(dataclasses.replace(TINY_WAVE, magnitude_noise_scale=0.0), METADATA)
    audio, condition = make_batch()
    latents = model.as_sampled(model.encode(audio, condition))
    noise = normal([2, model.decode_noise_size(SAMPLES)])
    levels = []
    for shift in (0.0, 0.5):  # half a unit: by a factor of e
        bias = model.decoder.magnitudes.constant_output.bias
        bias.assign_add(tf.fill(bias.shape, shift))
        clips = model.decode(latents, condition, SAMPLES, noise)
        levels.append(float(tf.sqrt(tf.reduce_mean(tf.square(clips)))))
    assert levels[1] / levels[0] == pytest.approx(math.e, rel=0.05)


def test_encoded_clips_do_not_depend_on_the_magnitudes(model):
    audio, condition = make_batch()
    before = model.reconstruct(audio, condition)
    perturb(model.decoder.magnitudes, 0.5)
    np.testing.assert_array_equal(model.reconstruct(audio, condition), before)


def test_clips_of_one_batch_take_their_own_way(model):
    audio, condition = make_batch()
    encoded = model.encode(audio, condition)
    new = model.as_sampled(encoded)
    mixed = encoded._replace(
        sparse_coefficients=tf.concat([encoded.sparse_coefficients[:1], new.sparse_coefficients[1:]], axis=0)
    )
    noise = normal([2, model.decode_noise_size(SAMPLES)])
    decoded, of_encoded, of_new = (
        model.decode(latents, condition, SAMPLES, noise).numpy() for latents in (mixed, encoded, new)
    )
    np.testing.assert_allclose(decoded[0], of_encoded[0], atol=1e-5)
    np.testing.assert_allclose(decoded[1], of_new[1], atol=1e-4)


def test_windows_are_cut_at_the_same_steps_of_all_values():
    noise = tf.constant([-9.0, 0.0, 9.0])  # the ends and the middle of the clip
    window = StepWindow.random(noise, 3, 10)
    assert window.first.numpy().tolist() == [0, 4, 7]
    steps = tf.repeat(tf.range(10.0)[tf.newaxis, :, tf.newaxis], 3, axis=0)
    frames = tf.repeat(steps, 2, axis=1)
    assert window.cut(steps)[..., 0].numpy().tolist() == [[0, 1, 2], [4, 5, 6], [7, 8, 9]]
    assert window.cut(frames, 2)[1, :, 0].numpy().tolist() == [4, 4, 5, 5, 6, 6]


def test_windows_start_everywhere_alike():
    firsts = StepWindow.random(tf.random.stateless_normal([9_000], [1, 2]), 3, 5).first.numpy()
    assert np.bincount(firsts) / 9_000 == pytest.approx([1 / 3] * 3, abs=0.02)


def test_training_estimates_the_likelihood_of_whole_clips_from_windows():
    model = make_model(dataclasses.replace(TINY_WAVE, decoded_samples=320), METADATA)
    audio = 0.1 * tf.random.stateless_normal([32, SAMPLES], [3, 4])
    _, condition = make_batch(32)
    noise = normal([32, model.elbo_noise_size(SAMPLES)])
    whole, windows = (
        model.elbo_terms(audio, condition, noise, tf.constant(1.0), stage)
        for stage in (Stage.EVALUATION, Stage.ALL_WEIGHTS)
    )
    np.testing.assert_allclose(
        tf.reduce_mean(windows.kl, axis=0), tf.reduce_mean(whole.kl, axis=0), rtol=0.15
    )
    last = model.elbo_terms(audio, condition, noise, tf.constant(1.0), Stage.GENERATION)
    np.testing.assert_array_equal(last.kl, whole.kl)
    np.testing.assert_array_equal(last.log_likelihood, windows.log_likelihood)
    means = [float(tf.reduce_mean(terms.log_likelihood)) for terms in (whole, windows)]
    assert means[1] == pytest.approx(means[0], rel=0.15)
    assert (whole.log_likelihood != windows.log_likelihood).numpy().all()


def test_only_the_last_stage_withholds_steps_from_the_prior_and_reports_the_kl_of_all():
    audio, condition = make_batch()
    terms = []
    for past_dropout in (0.0, 1e-6, 0.5):
        tf.keras.utils.set_random_seed(0)
        config = dataclasses.replace(TINY_WAVE, past_dropout=past_dropout, decoded_samples=0, free_bits=0.0)
        model = make_model(config, METADATA)
        perturb(model, stddev=0.1)
        noise = normal([2, model.elbo_noise_size(SAMPLES)])
        terms.append(
            {stage: model.elbo_terms(audio, condition, noise, tf.constant(1.0), stage) for stage in Stage}
        )
    for stage in Stage:
        given, hardly_withheld, withheld = (of_stage[stage] for of_stage in terms)
        np.testing.assert_array_equal(hardly_withheld.objective, given.objective)
        np.testing.assert_array_equal(withheld.kl, given.kl)
        if stage is Stage.GENERATION:
            assert (withheld.objective != given.objective).numpy().all()
        else:
            np.testing.assert_array_equal(withheld.objective, given.objective)


def test_the_last_stage_weighs_wrong_levels():
    audio, condition = make_batch()
    models = []
    for weight in (0.0, 1.0, 2.0):
        tf.keras.utils.set_random_seed(0)
        models.append(make_model(dataclasses.replace(TINY_WAVE, level_weight=weight), METADATA))
    noise = normal([2, models[0].elbo_noise_size(SAMPLES)])

    def objectives():
        """Of both clips, one row for each weight."""
        terms = [
            model.elbo_terms(audio, condition, noise, tf.constant(1.0), Stage.GENERATION) for model in models
        ]
        return np.stack([term.objective for term in terms])

    none, once, twice = objectives()
    np.testing.assert_allclose(twice - none, 2 * (once - none), rtol=1e-3)
    for model in models:
        bias = model.decoder.magnitudes.constant_output.bias
        bias.assign_add(tf.fill(bias.shape, 3.0))  # far too loud
    none_loud, once_loud, _ = objectives()
    assert (once_loud - none_loud > once - none + 1.0).all()
