import math

import numpy as np
import pytest
import tensorflow as tf
from support.runs.tiny_models import make_perturbed_model, normal

from trainer.models.hierarchical.coefficient_model import TransformCoefficientModel

NONE_KNOWN = tf.fill([2, 40, 8], math.nan)
NO_LIMIT = tf.fill([2, 40, 1], 1e9)


def test_teacher_forced_and_frame_by_frame_predictions_agree():
    model = make_perturbed_model().decoder.coefficient_model
    coefficients = 0.1 * normal([1, 6, 16])
    log_scale = 0.3 * normal([1, 6, 16], key=8) - 2.0
    relative = coefficients * tf.exp(-log_scale)
    mean, log_spread = model.predict_frames(relative, log_scale)
    past = tf.zeros([1, 4, 16])
    for frame in range(6):
        frame_mean, frame_log_spread = model(past, log_scale[:, frame])
        np.testing.assert_allclose(frame_mean, mean[:, frame], atol=1e-5)
        np.testing.assert_allclose(frame_log_spread, log_spread[:, frame], atol=1e-5)
        past = tf.concat([relative[:, frame : frame + 1], past[:, :-1]], axis=1)


@pytest.fixture
def untrained():
    """The sampler of an untrained model, and an envelope of 0.05 everywhere."""
    return tf.function(TransformCoefficientModel(bins=8, units=4).sample), tf.fill([2, 40, 8], math.log(0.05))


def test_an_untrained_model_samples_noise_at_the_envelopes_scale(untrained):
    sample, log_scale = untrained
    sampled = sample(log_scale, NONE_KNOWN, NO_LIMIT, normal([2, 40, 8]), tf.constant(1.0))
    assert float(tf.math.reduce_std(sampled)) == pytest.approx(0.05, rel=0.1)


def test_the_limit_bounds_samples_and_scales_the_residual_noise(untrained):
    sample, log_scale = untrained
    limit = tf.fill([2, 40, 1], 0.02)
    sampled = sample(log_scale, NONE_KNOWN, limit, normal([2, 40, 8]), tf.constant(0.5))
    assert float(tf.reduce_max(tf.abs(sampled))) <= 0.02
    assert float(tf.math.reduce_std(sampled)) == pytest.approx(0.01, rel=0.1)


def test_known_coefficients_are_returned_unchanged(untrained):
    sample, log_scale = untrained
    known = tf.where(normal([2, 40, 8]) > 0, 0.3, math.nan)
    sampled = sample(log_scale, known, NO_LIMIT, normal([2, 40, 8], 7), tf.constant(1.0))
    np.testing.assert_array_equal(sampled[normal([2, 40, 8]) > 0], np.float32(0.3))
    assert np.isfinite(sampled).all()
