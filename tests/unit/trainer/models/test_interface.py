"""Properties that every model has."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from support.runs.tiny_models import METADATA, MODELS, SAMPLES, make_batch, normal

from trainer.conditioning import NO_GUIDANCE, Guidance
from trainer.config import MODES
from trainer.models import make_model
from trainer.models.base import Stage, WaveformVAE
from trainer.presets import HIERARCHICAL, PRESETS, REFERENCE, architecture


@pytest.fixture(params=MODELS)
def model(request):
    tf.keras.utils.set_random_seed(0)
    return make_model(MODELS[request.param], METADATA)


def test_encode_sample_and_decode_work_on_batches(model):
    audio, condition = make_batch()
    sample_noise = normal([2, model.sample_noise_size(SAMPLES)])
    sampled = model.sample(condition, SAMPLES, sample_noise, 1.0, Guidance())
    encoded = model.encode(audio, condition)
    noisy = model.add_noise(encoded, 0.5, sample_noise)
    decode_noise = normal([2, model.decode_noise_size(SAMPLES)])
    for latents in (sampled, encoded, noisy, model.interpolate(encoded, noisy, 0.3)):
        waveform = model.decode(latents, condition, SAMPLES, decode_noise, Guidance())
        assert waveform.shape == (2, SAMPLES)
        assert float(tf.reduce_max(tf.abs(waveform))) <= 1.0
    np.testing.assert_array_equal(model.reconstruct(audio, condition), model.reconstruct(audio, condition))
    assert set(model.level_values(encoded)) == set(model.levels)


def test_elbo_terms_have_a_row_per_clip_and_a_kl_per_level(model):
    audio, condition = make_batch()
    noise = normal([2, model.elbo_noise_size(SAMPLES)])
    terms = model.elbo_terms(audio, condition, noise, tf.constant(1.0))
    assert terms.log_likelihood.shape == terms.objective.shape == (2,)
    assert terms.kl.shape == (2, len(model.levels))


@pytest.mark.parametrize("stage", [Stage.ALL_WEIGHTS, Stage.GENERATION])
def test_every_weight_of_a_stage_gets_a_finite_gradient(model, stage):
    audio, condition = make_batch()
    with tf.GradientTape() as tape:
        noise = normal([2, model.elbo_noise_size(SAMPLES)])
        loss = tf.reduce_sum(model.elbo_terms(audio, condition, noise, tf.constant(1.0), stage).objective)
    gradients = tape.gradient(loss, model.variables_of(stage))
    names = [variable.name for variable in model.variables_of(stage)]
    assert [name for name, gradient in zip(names, gradients, strict=True) if gradient is None] == []
    assert all(np.isfinite(tf.convert_to_tensor(gradient)).all() for gradient in gradients)


@pytest.mark.parametrize(("name", "divisor"), [("wave", SAMPLES), ("reference", 1)])
def test_the_objective_is_the_negative_elbo_in_the_documented_unit(name, divisor):
    """In nats per sample or per clip, if free bits and auxiliary terms are 0."""
    config = dataclasses.replace(
        MODELS[name], free_bits=0.0, spectral_envelope_weight=0.0, magnitude_weight=0.0
    )
    model = make_model(config, METADATA)
    audio, condition = make_batch()
    terms = model.elbo_terms(audio, condition, normal([2, model.elbo_noise_size(SAMPLES)]), tf.constant(1.0))
    negative_elbo = tf.reduce_sum(terms.kl, axis=-1) - terms.log_likelihood
    np.testing.assert_allclose(terms.objective, negative_elbo / divisor, rtol=1e-4)


def test_a_model_implements_the_methods_of_its_modes(model):
    capabilities = model.capabilities
    assert set(capabilities.modes) <= set(MODES)
    methods_of_modes = {"transfer": ["transfer_style", "complete"], "continue": ["extend"]}
    for mode, methods in methods_of_modes.items():
        for method in methods:
            overridden = getattr(type(model), method) is not getattr(WaveformVAE, method)
            assert overridden == (mode in capabilities.modes)
    # Only a conditional model can change the genre, and only one that supports any length can continue a clip.
    assert capabilities.conditional == ("transfer" in capabilities.modes)
    assert capabilities.any_length == ("continue" in capabilities.modes)


def test_encoded_latents_made_like_sampled_ones_have_their_structure_and_gaps(model):
    audio, condition = make_batch()
    noise = normal([2, model.sample_noise_size(SAMPLES)])
    sampled = model.sample(condition, SAMPLES, noise, 1.0, NO_GUIDANCE)
    encoded = model.as_sampled(model.encode(audio, condition))
    tf.nest.assert_same_structure(sampled, encoded)
    for ours, theirs in zip(tf.nest.flatten(encoded), tf.nest.flatten(sampled), strict=True):
        np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))


def test_presets_select_their_architecture():
    architectures = {name: architecture(config) for name, config in PRESETS.items()}
    assert architectures.pop("reference") == REFERENCE
    assert set(architectures.values()) == {HIERARCHICAL}


def test_no_variable_is_read_by_a_collective_operation(model):
    """The chief of several workers reads variables alone, when it saves, evaluates and generates."""
    collective = tf.VariableSynchronization.ON_READ
    assert not [variable.name for variable in model.variables if variable.synchronization is collective]
