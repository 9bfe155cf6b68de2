import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf
from support.tiny_corpus import WAVE

from preprocessing.dataset.manifest import Statistics
from trainer.conditioning import DROPPED_GENRE, Condition, Guidance
from trainer.config import MODES
from trainer.dsp import mdct
from trainer.models import make_model
from trainer.models.coefficient_model import TransformCoefficientModel
from trainer.models.hierarchical import kl_of_gaussians
from trainer.models.layers import DilatedBlock, Resnet1DBlock
from trainer.models.priors import SequencePrior
from trainer.models.reference import log_normal
from trainer.presets import PRESETS
from trainer.run_config import DatasetMetadata

SAMPLES = 1_000  # not a whole number of steps, like the 90,001 of the default
UNIT = Statistics(mean=0.0, std=1.0, low=-1.0, high=1.0)
TEMPO = Statistics(mean=120.0, std=20.0, low=60.0, high=180.0)
ATTRIBUTES = {"centroid_hz": UNIT, "loudness_db": UNIT, "tempo_bpm": TEMPO}
FACTS = DatasetMetadata("data", "digest", 1_000, SAMPLES, ("blues", "jazz", "rock"), ATTRIBUTES, [], {})
TINY_WAVE = dataclasses.replace(PRESETS["wave"], **WAVE)


@pytest.fixture(params=["wave", "reference"])
def model(request):
    tf.keras.utils.set_random_seed(0)
    return make_model({"wave": TINY_WAVE, "reference": PRESETS["reference"]}[request.param], FACTS)


@pytest.fixture
def wave():
    """A wave model with weights that are no longer those of the start, where much is zero."""
    tf.keras.utils.set_random_seed(0)
    made = make_model(TINY_WAVE, FACTS)
    for index, weight in enumerate(made.trainable_variables):
        weight.assign_add(tf.random.stateless_normal(weight.shape, [9, index], stddev=0.1))
    return made


def batch(examples=2, samples=SAMPLES):
    audio = tf.random.stateless_uniform([examples, samples], [1, 2], -0.9, 0.9)
    return audio, asked(examples)


def asked(examples=2, genre=None, attributes=0.0):
    genres = tf.range(examples, dtype=tf.int32) % 3 if genre is None else tf.fill([examples], genre)
    return Condition(genres, tf.fill([examples, len(ATTRIBUTES)], attributes))


def normal(shape, key=5):
    return tf.random.stateless_normal(shape, [key, 6])


def test_the_seed_has_the_notebooks_size():
    model = make_model(PRESETS["reference"], dataclasses.replace(FACTS, clip_samples=90_001))
    assert sum(int(tf.size(weights)) for weights in model.trainable_variables) == 12_120_133
    assert model.values_per_clip(90_001) == 2
    kinds = {type(layer).__name__ for layer in model.submodules}
    assert {"InstanceNormalization", "BatchNormalization", "Conv1DTranspose", "LeakyReLU"} <= kinds


def test_wave_keeps_eight_samples_or_more_for_every_local_value():
    for name, samples, rate_hz in (
        ("tiny", 90_001, 3_000),
        ("wave", 90_001, 3_000),
        ("wave-large", 661_500, 22_050),
    ):
        metadata = dataclasses.replace(FACTS, clip_samples=samples, sample_rate_hz=rate_hz)
        if name == "wave-large":  # counted from its configuration: as a model it would take seconds to make
            config = PRESETS[name]
            step = config.hop_samples * config.frames_per_step
            assert step / (config.sequence_latent_dim + 2 * config.sparse_coefficients) >= 8
        else:
            model = make_model(PRESETS[name], metadata)
            assert samples / model.values_per_clip(samples) >= 8


def test_every_model_keeps_the_interface(model):
    audio, condition = batch()
    noise = normal([2, model.noise_size(SAMPLES)])
    elbo_terms = model.elbo_terms(audio, condition, noise, tf.constant(1.0))
    assert elbo_terms.log_likelihood.shape == elbo_terms.objective.shape == (2,)
    assert elbo_terms.kl.shape == (2, len(model.levels))
    drawn = model.sample(condition, SAMPLES, normal([2, model.sample_noise_size(SAMPLES)]), 1.0, Guidance())
    known = model.encode(audio, condition)
    moved = model.add_noise(known, 0.5, normal([2, model.sample_noise_size(SAMPLES)]))
    noise = normal([2, model.decode_noise_size(SAMPLES)])
    for latents in (drawn, known, moved, model.interpolate(known, moved, 0.3)):
        waveform = model.decode(latents, condition, SAMPLES, noise)
        assert waveform.shape == (2, SAMPLES)
        assert float(tf.reduce_max(tf.abs(waveform))) <= 1.0
    np.testing.assert_array_equal(model.reconstruct(audio, condition), model.reconstruct(audio, condition))
    assert set(model.modes) <= set(MODES)


def test_every_weight_gets_a_gradient(model):
    audio, condition = batch()
    with tf.GradientTape() as tape:
        noise = normal([2, model.noise_size(SAMPLES)])
        loss = tf.reduce_sum(model.elbo_terms(audio, condition, noise, tf.constant(1.0)).objective)
    gradients = tape.gradient(loss, model.trainable_variables)
    names = [variable.name for variable in model.trainable_variables]
    assert [name for name, gradient in zip(names, gradients, strict=True) if gradient is None] == []
    assert all(np.isfinite(tf.convert_to_tensor(gradient)).all() for gradient in gradients)


def test_the_seeds_likelihood_is_bernoulli_on_logits():
    model = make_model(PRESETS["reference"], FACTS)
    audio, condition = batch()
    latent = model.encode(audio, condition)
    logits = model.logits(latent).numpy().astype(np.float64)
    x = audio.numpy().astype(np.float64)
    probability = 1 / (1 + np.exp(-logits))
    expected = (x * np.log(probability) + (1 - x) * np.log(1 - probability)).sum(axis=1)
    elbo_terms = model.elbo_terms(audio, condition, tf.zeros([2, 2]), tf.constant(1.0))
    np.testing.assert_allclose(elbo_terms.log_likelihood, expected, rtol=1e-4)
    np.testing.assert_allclose(model.probabilities(latent), probability, rtol=1e-4)
    mean, log_variance = tf.constant([[1.0]]), tf.constant([[math.log(4.0)]])
    latents = model.reparameterize(mean, log_variance, normal([20_000, 1])).numpy()
    assert (latents.mean(), latents.std()) == pytest.approx((1.0, 2.0), abs=0.05)


def test_closed_forms_of_the_kl():
    mean, log_variance = tf.constant([[0.5, -1.0]]), tf.constant([[0.3, -0.2]])
    other, other_log_variance = tf.constant([[0.1, 0.2]]), tf.constant([[-0.4, 0.6]])
    exact = kl_of_gaussians(mean, log_variance, other, other_log_variance)
    assert kl_of_gaussians(mean, log_variance, mean, log_variance).numpy() == pytest.approx(0.0, abs=1e-6)
    latents = mean + normal([200_000, 2]) * tf.exp(0.5 * log_variance)
    sampled = log_normal(latents, mean, log_variance) - log_normal(latents, other, other_log_variance)
    assert float(tf.reduce_mean(sampled)) == pytest.approx(float(exact[0]), rel=0.02)


@pytest.mark.parametrize("samples", [128, 1_000, 1_001])
def test_the_transform_is_orthonormal_and_its_inverse_exact(samples):
    audio = tf.random.stateless_uniform([2, samples], [3, 4], -1, 1)
    frames = mdct.count_frames(samples, 64)
    coefficients = mdct.analyse(audio, 64, frames + 1)
    assert coefficients.shape == (2, frames + 1, 64)
    np.testing.assert_allclose(mdct.synthesise(coefficients, samples), audio, atol=1e-5)
    energies = (tf.reduce_sum(tf.square(audio), -1), tf.reduce_sum(tf.square(coefficients), [1, 2]))
    np.testing.assert_allclose(*energies, rtol=1e-4)


def test_waves_likelihood_is_the_density_of_what_it_draws(wave):
    """Frame by frame, the texture's own steps give the density that `elbo_terms` adds up at once."""
    coefficients = 0.1 * normal([1, 6, 16])
    log_scale = 0.3 * normal([1, 6, 16], key=8) - 2.0
    relative = coefficients * tf.exp(-log_scale)
    mean, log_spread = wave.coefficient_model.of_all_frames(relative, log_scale)
    past = tf.zeros([1, 4, 16])
    for frame in range(6):
        one = wave.coefficient_model(past, log_scale[:, frame])
        np.testing.assert_allclose(one[0], mean[:, frame], atol=1e-5)
        np.testing.assert_allclose(one[1], log_spread[:, frame], atol=1e-5)
        past = tf.concat([relative[:, frame : frame + 1], past[:, :-1]], axis=1)


def test_an_untrained_texture_is_noise_of_the_envelopes_size():
    texture = TransformCoefficientModel(bins=8, units=4)
    fill = tf.function(texture.sample)
    log_scale = tf.fill([2, 40, 8], math.log(0.05))
    nothing = tf.fill([2, 40, 8], math.nan)
    everything = tf.fill([2, 40, 1], 1e9)
    drawn = fill(log_scale, nothing, everything, normal([2, 40, 8]), tf.constant(1.0))
    assert float(tf.math.reduce_std(drawn)) == pytest.approx(0.05, rel=0.1)
    limited = fill(log_scale, nothing, tf.fill([2, 40, 1], 0.02), normal([2, 40, 8]), tf.constant(0.5))
    assert float(tf.reduce_max(tf.abs(limited))) <= 0.02
    assert float(tf.math.reduce_std(limited)) == pytest.approx(0.01, rel=0.1)
    known = tf.where(normal([2, 40, 8]) > 0, 0.3, math.nan)
    filled = fill(log_scale, known, everything, normal([2, 40, 8], 7), tf.constant(1.0))
    np.testing.assert_array_equal(filled[normal([2, 40, 8]) > 0], 0.3)


def test_the_prior_of_steps_draws_what_it_finds_likely():
    tf.keras.utils.set_random_seed(1)
    prior = SequencePrior(sequence_latent_dim=2, units=6, mixtures=3)
    context, clock = normal([400, 3]), tf.zeros([400, 5, 5])
    prior.log_density(tf.zeros([400, 5, 2]), context, clock)
    for index, weight in enumerate(prior.trainable_variables):
        weight.assign_add(tf.random.stateless_normal(weight.shape, [9, index], stddev=0.3))
    nothing = tf.zeros([400, 0, 2])
    drawn = prior.sample(nothing, context, clock, normal([400, 5, 3], key=11), tf.constant(1.0))
    own = prior.log_density(drawn, context, clock)
    elsewhere = prior.log_density(drawn + 2.0, context, clock)
    assert float(tf.reduce_mean(own)) > float(tf.reduce_mean(elsewhere)) + 1.0
    # What is drawn has the density that is told: the mean over draws of q / p is 1 for any density q.
    alike, silent = tf.zeros([20_000, 3]), tf.zeros([20_000, 1, 5])
    first = prior.sample(
        tf.zeros([20_000, 0, 2]), alike, silent, normal([20_000, 1, 3], 13), tf.constant(1.0)
    )
    mean, spread = tf.math.reduce_mean(first[:, 0], 0), 0.5 * tf.math.reduce_std(first[:, 0], 0)
    log_q = log_normal(first[:, 0], mean, 2 * tf.math.log(spread))
    ratios = tf.exp(log_q - prior.log_density(first, alike, silent)[:, 0])
    assert float(tf.reduce_mean(ratios)) == pytest.approx(1.0, abs=0.05)
    known = normal([400, 3, 2], key=12)
    np.testing.assert_array_equal(
        prior.sample(known, context, clock, normal([400, 5, 3]), tf.constant(1.0))[:, :3], known
    )
    cold = [prior.sample(nothing, context, clock, normal([400, 5, 3]), tf.constant(t)) for t in (0.0, 0.0)]
    np.testing.assert_array_equal(*cold)


def test_a_reconstruction_keeps_the_strongest_coefficients_as_they_are(wave):
    audio, condition = batch()
    audio = 0.2 * audio  # so that nothing is clipped
    latents = wave.encode(audio, condition)
    sent = np.isfinite(latents.sparse_coefficients).sum(axis=(1, 2))
    assert sent.tolist() == [wave.steps(SAMPLES) * WAVE["sparse_coefficients"]] * 2
    again = mdct.analyse(wave.reconstruct(audio, condition), 16, wave.frames(SAMPLES))
    coefficients = mdct.analyse(audio, 16, wave.frames(SAMPLES))
    inside = np.isfinite(latents.sparse_coefficients) & (np.arange(wave.frames(SAMPLES)) < 60)[:, np.newaxis]
    np.testing.assert_allclose(again.numpy()[inside], coefficients.numpy()[inside], atol=0.02)
    still = wave.add_noise(latents, 0.0, normal([2, wave.sample_noise_size(SAMPLES)]))
    np.testing.assert_array_equal(still.global_latent, latents.global_latent)


def test_a_blend_begins_and_ends_at_its_ends(wave):
    audio, condition = batch()
    latents = wave.encode(audio, condition)
    first, last = (tf.nest.map_structure(lambda part, n=n: part[n : n + 1], latents) for n in (0, 1))
    for position, end in ((0.0, first), (1.0, last)):
        for blended, own in zip(wave.interpolate(first, last, position), end, strict=True):
            np.testing.assert_allclose(blended, own, atol=1e-6)


def test_restyling_moves_the_piece_and_nothing_else(wave):
    audio, condition = batch()
    latents = wave.encode(audio, condition)
    same = wave.transfer_style(latents, condition, condition, Guidance())
    np.testing.assert_allclose(same.global_latent, latents.global_latent, atol=1e-5)
    other = wave.transfer_style(latents, condition, asked(genre=2), Guidance())
    assert np.abs(other.global_latent - latents.global_latent).max() > 1e-3
    np.testing.assert_array_equal(other.sequence_latents, latents.sequence_latents)


def test_a_continuation_begins_with_what_it_continues(wave):
    audio, condition = batch()
    noise = normal([2, wave.sample_noise_size(2 * SAMPLES)])
    latents = wave.extend(audio, condition, 2 * SAMPLES, noise, 1.0, Guidance())
    made = wave.decode(latents, condition, 2 * SAMPLES, normal([2, wave.decode_noise_size(2 * SAMPLES)]))
    whole = (SAMPLES // 16 - 2) * 16
    np.testing.assert_allclose(made[:, : whole - 32], audio[:, : whole - 32], atol=1e-4)
    assert np.abs(made[:, SAMPLES:]).max() > 1e-3


def test_wave_follows_what_is_asked_and_guidance_exaggerates_it(wave):
    noise = normal([1, wave.sample_noise_size(SAMPLES)])
    pieces = {
        name: wave.sample(condition, SAMPLES, noise, 1.0, guidance).global_latent.numpy()
        for name, condition, guidance in (
            ("open", asked(1, DROPPED_GENRE, math.nan), Guidance()),
            ("jazz", asked(1, 1, math.nan), Guidance()),
            ("more jazz", asked(1, 1, math.nan), Guidance(genre=2.0)),
            ("no guidance", asked(1, 1, math.nan), Guidance(0.0, 0.0)),
            ("loud", asked(1, DROPPED_GENRE, 1.0), Guidance()),
            ("loud, of genre", asked(1, 1, 1.0), Guidance(genre=0.0)),
        )
    }
    assert np.abs(pieces["jazz"] - pieces["open"]).max() > 1e-4
    assert np.abs(pieces["loud"] - pieces["open"]).max() > 1e-4
    np.testing.assert_allclose(pieces["no guidance"], pieces["open"], atol=1e-6)
    np.testing.assert_allclose(pieces["loud, of genre"], pieces["loud"], atol=1e-6)
    distances = [np.linalg.norm(pieces[name] - pieces["open"]) for name in ("jazz", "more jazz")]
    assert distances[0] < distances[1]
    with_genre = wave.reconstruct(batch()[0], asked(2, 1))
    assert np.abs(with_genre - wave.reconstruct(batch()[0], asked(2, 2))).max() > 1e-4


@pytest.mark.parametrize("samples", [32, 33, 100, 2_345])
def test_wave_works_on_any_length(wave, samples):
    audio, condition = batch(samples=samples)
    assert wave.reconstruct(audio, condition).shape == (2, samples)


def test_the_spectral_term_only_adds_to_the_objective():
    audio, condition = batch()
    objectives, elbos = [], []
    for weight in (0.0, 1.0):
        tf.keras.utils.set_random_seed(0)
        model = make_model(dataclasses.replace(TINY_WAVE, spectral_weight=weight), FACTS)
        noise = normal([2, make_model(TINY_WAVE, FACTS).noise_size(SAMPLES)])
        rest = normal([2, model.noise_size(SAMPLES) - noise.shape[1]])
        elbo_terms = model.elbo_terms(audio, condition, tf.concat([noise, rest], axis=1), tf.constant(1.0))
        objectives.append(elbo_terms.objective.numpy())
        elbos.append(elbo_terms.log_likelihood.numpy())
    np.testing.assert_allclose(*elbos)
    assert (objectives[1] > objectives[0]).all()


def test_no_preset_is_named_outside_the_models_folder(model):
    assert "no lower bound" in make_model(PRESETS["reference"], FACTS).caveat
    assert model.conditional == ("transfer" in model.modes) == model.any_length


def test_blocks_keep_the_shape():
    assert Resnet1DBlock(64, 1, "encode")(tf.ones([2, 1, 64])).shape == (2, 1, 64)
    assert Resnet1DBlock(64, 1, "decode")(tf.ones([2, 1, 128])).shape == (2, 1, 128)
    x = tf.random.stateless_normal([2, 20, 8], [1, 2])
    np.testing.assert_array_equal(DilatedBlock(8, 9)(x), x)  # the identity until it is trained
