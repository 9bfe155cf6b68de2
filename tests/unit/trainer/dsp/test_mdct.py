import numpy as np
import pytest
import tensorflow as tf

from trainer.dsp import mdct


@pytest.mark.parametrize("samples", [128, 1_000, 1_001])
def test_the_transform_is_orthonormal_and_invertible(samples):
    audio = tf.random.stateless_uniform([2, samples], [3, 4], -1, 1)
    frames = mdct.count_frames(samples, 64)
    coefficients = mdct.analyse(audio, 64, frames + 1)
    assert coefficients.shape == (2, frames + 1, 64)
    np.testing.assert_allclose(mdct.synthesise(coefficients, samples), audio, atol=1e-5)
    energies = (tf.reduce_sum(tf.square(audio), -1), tf.reduce_sum(tf.square(coefficients), [1, 2]))
    np.testing.assert_allclose(*energies, rtol=1e-4)
