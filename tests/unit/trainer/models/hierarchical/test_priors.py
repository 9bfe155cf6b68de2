import numpy as np
import pytest
import tensorflow as tf
from support.runs.tiny_models import normal, perturb

from trainer.models.gaussian import DiagonalGaussian
from trainer.models.hierarchical.priors import MEMORY_STEPS, SequencePrior

CONTEXT, BEAT = normal([400, 3]), tf.zeros([400, 5, 5])
NO_STEPS = tf.zeros([400, 0, 2])
ONE = tf.ones([1, 1])  # temperature


@pytest.fixture
def prior():
    tf.keras.utils.set_random_seed(1)
    layer = SequencePrior(sequence_latent_dim=2, context_dim=3, units=6, mixtures=3)
    layer.log_density(tf.zeros([400, 5, 2]), CONTEXT, BEAT)
    perturb(layer, stddev=0.3)
    return layer


def test_samples_are_more_likely_than_shifted_ones(prior):
    sampled = prior.sample_in_one_graph(NO_STEPS, CONTEXT, BEAT, normal([400, 5, 3], key=11), ONE)
    at_samples = prior.log_density(sampled, CONTEXT, BEAT)
    at_shifted = prior.log_density(sampled + 2.0, CONTEXT, BEAT)
    assert float(tf.reduce_mean(at_samples)) > float(tf.reduce_mean(at_shifted)) + 1.0


def test_samples_have_the_density_of_the_prior(prior):
    """The mean over samples of q / p is 1 for any density q."""
    context, beat = tf.zeros([20_000, 3]), tf.zeros([20_000, 1, 5])
    noise = normal([20_000, 1, 3], 13)
    samples = prior.sample_in_one_graph(tf.zeros([20_000, 0, 2]), context, beat, noise, ONE)
    first = samples[:, 0]
    spread = 0.5 * tf.math.reduce_std(first, 0)
    q = DiagonalGaussian(tf.math.reduce_mean(first, 0), 2 * tf.math.log(spread))
    ratios = tf.exp(q.log_density(first) - prior.log_density(samples, context, beat)[:, 0])
    assert float(tf.reduce_mean(ratios)) == pytest.approx(1.0, abs=0.05)


def test_known_steps_are_returned_unchanged(prior):
    known = normal([400, 3, 2], key=12)
    sampled = prior.sample_in_one_graph(known, CONTEXT, BEAT, normal([400, 5, 3]), ONE)
    np.testing.assert_array_equal(sampled[:, :3], known)


def test_sampling_is_deterministic_given_the_noise(prior):
    cold = [
        prior.sample_in_one_graph(NO_STEPS, CONTEXT, BEAT, normal([400, 5, 3]), 0.0 * ONE) for _ in range(2)
    ]
    np.testing.assert_array_equal(*cold)


def test_a_clip_is_the_same_beside_any_number_of_others(prior):
    noise = normal([400, 5, 3])
    sampled = prior.sample_in_one_graph(NO_STEPS, CONTEXT, BEAT, noise, ONE)
    for count in (1, 7, 9):
        inputs = (values[:count] for values in (NO_STEPS, CONTEXT, BEAT, noise))
        np.testing.assert_array_equal(prior.sample_in_one_graph(*inputs, ONE), sampled[:count])


def test_long_samples_have_no_mean_and_short_ones_keep_most_of_theirs(prior):
    steps, known = 2 * MEMORY_STEPS, normal([8, 3, 2], key=12)
    beat, noise = tf.zeros([8, steps, 5]), normal([8, steps, 3])
    short, long = (
        prior.sample_in_one_graph(known, CONTEXT[:8], beat[:, :end], noise[:, :end], ONE)[:, 3:]
        for end in (9, steps)
    )
    np.testing.assert_allclose(tf.reduce_mean(long, axis=1), 0.0, atol=1e-6)
    # Before they are centered, both begin with the same steps.
    difference = long[:, :6] - short
    np.testing.assert_allclose(difference, tf.repeat(difference[:, :1], 6, axis=1), atol=1e-6)
    assert np.abs(tf.reduce_mean(short, axis=1)).mean() > 0.1


def test_a_step_that_is_not_seen_does_not_influence_later_ones(prior):
    latents = normal([400, 5, 2], key=14)
    other = tf.concat([latents[:, :2], latents[:, 2:3] + 1.0, latents[:, 3:]], axis=1)
    is_seen = tf.tile([[True, True, False, True, True]], [400, 1])
    densities = [prior.log_density(values, CONTEXT, BEAT, is_seen).numpy() for values in (latents, other)]
    np.testing.assert_array_equal(densities[0][:, [0, 1, 3, 4]], densities[1][:, [0, 1, 3, 4]])
    assert np.abs(densities[0] - densities[1])[:, 2].min() > 0
    seen = prior.log_density(latents, CONTEXT, BEAT).numpy()
    np.testing.assert_array_equal(seen[:, :3], densities[0][:, :3])
    assert np.abs(seen - densities[0])[:, 3].max() > 1e-3
