import math

import numpy as np
import pytest
import tensorflow as tf
from support.runs.tiny_models import normal

from trainer.models.gaussian import DiagonalGaussian, elementwise_log_density, kl_divergence

Q = DiagonalGaussian(tf.constant([[0.5, -1.0]]), tf.constant([[0.3, -0.2]]))
P = DiagonalGaussian(tf.constant([[0.1, 0.2]]), tf.constant([[-0.4, 0.6]]))


def test_samples_have_the_mean_and_the_standard_deviation():
    gaussian = DiagonalGaussian(tf.constant([[1.0]]), tf.constant([[math.log(4.0)]]))
    samples = gaussian.sample(normal([20_000, 1])).numpy()
    assert (samples.mean(), samples.std()) == pytest.approx((1.0, 2.0), abs=0.05)


def test_the_closed_form_of_the_kl_is_the_mean_of_sampled_log_ratios():
    exact = kl_divergence(Q, P)
    assert kl_divergence(Q, Q).numpy() == pytest.approx(0.0, abs=1e-6)
    samples = Q.sample(normal([200_000, 2]))
    sampled = Q.log_density(samples) - P.log_density(samples)
    assert float(tf.reduce_mean(sampled)) == pytest.approx(float(exact[0]), rel=0.02)


def test_the_three_log_densities_agree():
    noise = normal([5, 2])
    samples = Q.sample(noise)
    log_scale = tf.broadcast_to(0.5 * Q.log_variance, noise.shape)
    elements = elementwise_log_density(tf.square(noise), log_scale)
    np.testing.assert_allclose(Q.log_density_of_sample(noise), Q.log_density(samples), rtol=1e-5)
    np.testing.assert_allclose(tf.reduce_sum(elements, -1), Q.log_density(samples), rtol=1e-5)
