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
    make_condition,
    make_perturbed_model,
    normal,
)
from support.tiny_corpus import WAVE

from trainer.conditioning import DROPPED_GENRE, NO_GUIDANCE, Guidance
from trainer.dsp import mdct
from trainer.models import make_model
from trainer.models.base import Stage
from trainer.models.hierarchical.noise import LatentShape
from trainer.models.layers import DilatedBlock
from trainer.presets import PRESETS


@pytest.fixture
def model():
    return make_perturbed_model()


@pytest.mark.parametrize("name", ["tiny", "wave"])
def test_a_clip_has_eight_samples_or_more_per_latent_value(name):
    model = make_model(
        PRESETS[name], dataclasses.replace(METADATA, clip_samples=90_001, sample_rate_hz=3_000)
    )
    assert 90_001 / model.values_per_clip(90_001) >= 8


@pytest.mark.parametrize("name", ["wave-22khz", "wave-large"])
def test_presets_of_high_rates_have_eight_samples_or_more_per_latent_value(name):
    config = PRESETS[name]  # from the configuration, because its model takes seconds to build
    step = config.hop_samples * config.frames_per_step
    assert step / (config.sequence_latent_dim + 2 * config.sparse_coefficients) >= 8


def test_a_model_whose_groups_of_bins_widen_trains_and_generates():
    config = dataclasses.replace(
        TINY_WAVE, hop_samples=160, crop_samples=2_000, decoded_samples=640
    )  # 160 and 320 bins
    model = make_model(config, METADATA)
    audio, condition = make_batch(2, 2_000)
    noise = normal([2, model.elbo_noise_size(2_000)])
    for stage in Stage:
        with tf.GradientTape() as tape:
            terms = model.elbo_terms(audio, condition, noise, tf.constant(0.5), stage)
        assert np.isfinite(terms.objective).all()
        gradients = tape.gradient(terms.objective, model.variables_of(stage))
        assert all(gradient is not None for gradient in gradients)
    latents = model.encode(audio, condition)
    for synthesized in (latents, model.as_sampled(latents)):
        decode_noise = normal([2, model.decode_noise_size(2_000)])
        clips = model.synthesize(synthesized, condition, 2_000, decode_noise, NO_GUIDANCE)
        assert clips.shape == (2, 2_000)
        assert np.isfinite(clips).all()


def test_a_reconstruction_keeps_the_strongest_coefficients_exactly(model):
    audio, condition = make_batch()
    audio = 0.2 * audio  # so that nothing is clipped
    latents = model.encode(audio, condition)
    shape = LatentShape.of_clip(TINY_WAVE, SAMPLES)
    kept = np.isfinite(latents.sparse_coefficients)
    assert kept.sum(axis=(1, 2)).tolist() == [shape.steps * WAVE["sparse_coefficients"]] * 2
    reconstructed = mdct.analyse(model.reconstruct(audio, condition), shape.bins, shape.frames)
    coefficients = mdct.analyse(audio, shape.bins, shape.frames)
    inside = kept & (np.arange(shape.frames) < 60)[:, np.newaxis]
    np.testing.assert_allclose(reconstructed.numpy()[inside], coefficients.numpy()[inside], atol=0.02)


def test_noise_of_scale_0_leaves_the_latents_unchanged(model):
    latents = model.encode(*make_batch())
    unchanged = model.add_noise(latents, 0.0, normal([2, model.sample_noise_size(SAMPLES)]))
    for values, original in zip(unchanged, latents, strict=True):
        np.testing.assert_array_equal(values, original)


def test_an_interpolation_begins_and_ends_with_the_given_latents(model):
    latents = model.encode(*make_batch())
    first, last = (
        tf.nest.map_structure(lambda part, index=index: part[index : index + 1], latents) for index in (0, 1)
    )
    for position, end in ((0.0, first), (1.0, last)):
        for interpolated, values in zip(model.interpolate(first, last, position), end, strict=True):
            np.testing.assert_allclose(interpolated, values, atol=1e-6)


def test_a_style_transfer_moves_the_global_latent_only(model):
    audio, condition = make_batch()
    latents = model.encode(audio, condition)
    same = model.transfer_style(latents, condition, condition, Guidance())
    np.testing.assert_allclose(same.global_latent, latents.global_latent, atol=1e-5)
    other = model.transfer_style(latents, condition, make_condition(genre=2), Guidance())
    assert np.abs(other.global_latent - latents.global_latent).max() > 1e-3
    np.testing.assert_array_equal(other.sequence_latents, latents.sequence_latents)
    np.testing.assert_array_equal(other.sparse_coefficients, latents.sparse_coefficients)


def test_completed_latents_keep_every_coefficient_and_decode_to_the_same_clip(model):
    audio, condition = make_batch()
    noise = normal([2, model.decode_noise_size(SAMPLES)])
    latents = model.encode(audio, condition)
    completed = model.complete(latents, condition, noise)
    assert np.isfinite(completed.sparse_coefficients).all()
    decoded = [model.decode(each, condition, SAMPLES, noise) for each in (latents, completed)]
    np.testing.assert_allclose(*decoded, atol=1e-5)


def test_a_continuation_begins_with_the_clip_that_it_continues(model):
    audio, condition = make_batch()
    noise = normal([2, model.sample_noise_size(2 * SAMPLES)])
    latents = model.extend(audio, condition, 2 * SAMPLES, noise, 1.0, Guidance())
    decode_noise = normal([2, model.decode_noise_size(2 * SAMPLES)])
    extended = model.decode(latents, condition, 2 * SAMPLES, decode_noise)
    whole = (SAMPLES // 16 - 2) * 16
    np.testing.assert_allclose(extended[:, : whole - 32], audio[:, : whole - 32], atol=1e-4)
    assert np.abs(extended[:, SAMPLES:]).max() > 1e-3


def test_samples_depend_on_the_condition_and_guidance_exaggerates_it(model):
    noise = normal([1, model.sample_noise_size(SAMPLES)])
    sampled = {
        name: model.sample(condition, SAMPLES, noise, 1.0, guidance).global_latent.numpy()
        for name, condition, guidance in (
            ("unconditional", make_condition(1, DROPPED_GENRE, math.nan), Guidance()),
            ("jazz", make_condition(1, 1, math.nan), Guidance()),
            ("more jazz", make_condition(1, 1, math.nan), Guidance(genre=2.0)),
            ("guidance 0", make_condition(1, 1, math.nan), Guidance(0.0, 0.0)),
            ("A minor", make_condition(1, DROPPED_GENRE, math.nan, 21), Guidance()),
            ("C minor", make_condition(1, DROPPED_GENRE, math.nan, 12), Guidance()),
            ("more A minor", make_condition(1, DROPPED_GENRE, math.nan, 21), Guidance(key=2.0)),
            ("A minor, guidance 0", make_condition(1, DROPPED_GENRE, math.nan, 21), Guidance(key=0.0)),
            ("loud", make_condition(1, DROPPED_GENRE, 1.0), Guidance()),
            ("loud, genre guidance 0", make_condition(1, 1, 1.0), Guidance(genre=0.0)),
        )
    }
    assert np.abs(sampled["jazz"] - sampled["unconditional"]).max() > 1e-4
    assert np.abs(sampled["loud"] - sampled["unconditional"]).max() > 1e-4
    np.testing.assert_allclose(sampled["guidance 0"], sampled["unconditional"], atol=1e-6)
    np.testing.assert_allclose(sampled["loud, genre guidance 0"], sampled["loud"], atol=1e-6)
    np.testing.assert_allclose(sampled["A minor, guidance 0"], sampled["unconditional"], atol=1e-6)
    assert np.abs(sampled["A minor"] - sampled["C minor"]).max() > 1e-4
    for name in ("jazz", "A minor"):
        distances = [
            np.linalg.norm(sampled[more] - sampled["unconditional"]) for more in (name, f"more {name}")
        ]
        assert 1e-4 < distances[0] < distances[1]


def test_reconstructions_depend_on_the_condition(model):
    audio, _ = make_batch()
    first, second = (model.reconstruct(audio, make_condition(2, genre)) for genre in (1, 2))
    assert np.abs(first - second).max() > 1e-4


def test_results_do_not_depend_on_what_was_computed_before(model):
    def make_clips(model, clips):
        condition, noise = make_condition(clips), normal([8, model.sample_noise_size(SAMPLES)])[:clips]
        latents = model.sample(condition, SAMPLES, noise, 1.0, Guidance())
        decode_noise = normal([8, model.decode_noise_size(SAMPLES)])[:clips]
        return model.decode(latents, condition, SAMPLES, decode_noise).numpy()

    after_others = make_perturbed_model()
    for clips in (8, 3):
        make_clips(after_others, clips)
    np.testing.assert_array_equal(make_clips(after_others, 1), make_clips(model, 1))


@pytest.mark.parametrize("samples", [32, 33, 100, 2_345])
def test_clips_may_have_any_length(model, samples):
    audio, condition = make_batch(samples=samples)
    assert model.reconstruct(audio, condition).shape == (2, samples)


def test_the_magnitude_term_changes_the_objective_only():
    audio, condition = make_batch()
    objectives, log_likelihoods = [], []
    for weight in (0.0, 1.0):
        tf.keras.utils.set_random_seed(0)
        model = make_model(dataclasses.replace(TINY_WAVE, magnitude_weight=weight), METADATA)
        noise = normal([2, model.elbo_noise_size(SAMPLES)])
        terms = model.elbo_terms(audio, condition, noise, tf.constant(1.0))
        objectives.append(terms.objective.numpy())
        log_likelihoods.append(terms.log_likelihood.numpy())
    np.testing.assert_allclose(*log_likelihoods)
    assert (objectives[1] > objectives[0]).all()


def test_a_new_dilated_block_is_the_identity():
    x = tf.random.stateless_normal([2, 20, 8], [1, 2])
    np.testing.assert_array_equal(DilatedBlock(8, 9)(x), x)
