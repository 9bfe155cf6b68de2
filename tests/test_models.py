import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from trainer.config import PRESETS
from trainer.layers import DilatedBlock, Resnet1DBlock
from trainer.models import Posterior, make_model
from trainer.models.seed import log_normal
from trainer.models.wave import kl_to_standard_normal

SAMPLES = 1_000  # not a multiple of wave's frame, like the 90,001 of the default
GENRES = 3


@pytest.fixture(params=sorted(PRESETS))
def model(request):
    tf.keras.utils.set_random_seed(0)
    return make_model(PRESETS[request.param], SAMPLES, GENRES)


def batch(examples=2, samples=SAMPLES):
    audio = tf.random.stateless_uniform([examples, samples], [1, 2], -0.9, 0.9)
    return audio, tf.range(examples, dtype=tf.int32) % GENRES


def test_the_seed_has_the_notebooks_size():
    model = make_model(PRESETS["seed"], 90_001, 10)
    assert sum(int(tf.size(weights)) for weights in model.trainable_variables) == 12_120_133
    assert model.latent_shape(90_001) == (2,)
    kinds = {type(layer).__name__ for layer in model.submodules}
    assert {"InstanceNormalization", "BatchNormalization", "Conv1DTranspose", "LeakyReLU"} <= kinds


def test_every_model_keeps_the_interface(model):
    audio, genre = batch()
    shape = (2, *model.latent_shape(SAMPLES))
    posterior = model.encode(audio, genre)
    assert posterior.mean.shape == posterior.log_variance.shape == shape
    latent = model.reparameterize(posterior, tf.zeros(shape))
    np.testing.assert_array_equal(latent, posterior.mean)
    assert model.decode(latent, genre, SAMPLES).shape == (2, SAMPLES)
    for audio_out in (model.sample(latent, genre, SAMPLES), model.reconstruct(audio, genre)):
        assert audio_out.shape == (2, SAMPLES)
        assert float(tf.reduce_max(tf.abs(audio_out))) <= 1.0
    terms = model.terms(audio, genre, tf.zeros(shape), tf.constant(1.0))
    assert {tuple(term.shape) for term in terms} == {(2,)}


def test_every_weight_gets_a_gradient_or_is_known_not_to(model):
    audio, genre = batch()
    noise = tf.random.stateless_normal([2, *model.latent_shape(SAMPLES)], [3, 4])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model.terms(audio, genre, noise, tf.constant(1.0)).objective)
    without = [
        variable.name
        for variable, gradient in zip(
            model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True
        )
        if gradient is None
    ]
    assert without == []


def test_reparameterization_has_the_posteriors_moments(model):
    posterior = Posterior(tf.constant([[1.0]]), tf.constant([[np.log(4.0)]], tf.float32))
    noise = tf.random.stateless_normal([20_000, 1], [5, 6])
    latents = model.reparameterize(posterior, noise).numpy()
    assert latents.mean() == pytest.approx(1.0, abs=0.05)
    assert latents.std() == pytest.approx(2.0, abs=0.05)


def test_the_seeds_likelihood_is_bernoulli_on_logits():
    model = make_model(PRESETS["seed"], SAMPLES, GENRES)
    audio, genre = batch()
    posterior = model.encode(audio, genre)
    logits = model.decode(posterior.mean, genre, SAMPLES).numpy().astype(np.float64)
    x = audio.numpy().astype(np.float64)
    probability = 1 / (1 + np.exp(-logits))
    expected = (x * np.log(probability) + (1 - x) * np.log(1 - probability)).sum(axis=1)
    terms = model.terms(audio, genre, tf.zeros([2, 2]), tf.constant(1.0))
    np.testing.assert_allclose(terms.log_likelihood, expected, rtol=1e-4)
    np.testing.assert_allclose(model.to_audio(tf.constant([[0.0]])), [[0.5]])


def test_waves_likelihood_is_a_gaussian_of_the_learned_scale():
    model = make_model(PRESETS["wave"], SAMPLES, GENRES)
    audio, genre = batch()
    posterior = model.encode(audio, genre)
    mean = model.decode(posterior.mean, genre, SAMPLES)
    scale = float(tf.exp(model.log_scale))
    density = -0.5 * ((audio - mean) / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi)
    terms = model.terms(audio, genre, tf.zeros_like(posterior.mean), tf.constant(1.0))
    np.testing.assert_allclose(terms.log_likelihood, tf.reduce_sum(density, axis=1), rtol=1e-4)
    assert (terms.objective >= terms.kl - terms.log_likelihood - 1e-2).numpy().all()  # free bits only add


def test_closed_forms_of_the_kl():
    mean, log_variance = tf.constant([[0.5, -1.0]]), tf.constant([[0.3, -0.2]])
    exact = tf.reduce_sum(kl_to_standard_normal(Posterior(mean, log_variance)))
    assert kl_to_standard_normal(Posterior(tf.zeros([1]), tf.zeros([1]))).numpy() == pytest.approx(0.0)
    noise = tf.random.stateless_normal([200_000, 2], [7, 8])
    latents = mean + noise * tf.exp(0.5 * log_variance)
    zeros = tf.zeros_like(latents)
    sampled = tf.reduce_mean(log_normal(latents, mean, log_variance) - log_normal(latents, zeros, zeros))
    assert float(sampled) == pytest.approx(float(exact), rel=0.02)


def test_wave_follows_its_genre_and_any_length():
    model = make_model(PRESETS["wave"], SAMPLES, GENRES)
    latent = tf.random.stateless_normal([1, *model.latent_shape(SAMPLES)], [1, 1])
    made = [model.sample(latent, tf.constant([genre]), SAMPLES).numpy() for genre in (0, 1, -1)]
    assert np.abs(made[0] - made[1]).max() > 1e-4
    assert np.abs(made[0] - made[2]).max() > 1e-4
    for samples in (31, 32, 33, 2_345):
        audio, genre = batch(samples=samples)
        assert model.reconstruct(audio, genre).shape == (2, samples)


def test_no_preset_is_named_outside_the_models_folder():
    model = make_model(dataclasses.replace(PRESETS["wave"], latent_dim=3), SAMPLES, GENRES)
    assert model.latent_shape(64) == (2, 3)
    assert model.conditional
    assert not make_model(PRESETS["seed"], SAMPLES, GENRES).conditional
    assert "no lower bound" in make_model(PRESETS["seed"], SAMPLES, GENRES).caveat


def test_blocks_keep_the_shape():
    assert Resnet1DBlock(64, 1, "encode")(tf.ones([2, 1, 64])).shape == (2, 1, 64)
    assert Resnet1DBlock(64, 1, "decode")(tf.ones([2, 1, 128])).shape == (2, 1, 128)
    x = tf.random.stateless_normal([2, 20, 8], [1, 2])
    np.testing.assert_array_equal(DilatedBlock(8, 9)(x), x)  # the identity until it is trained
