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


@pytest.mark.parametrize("hop", [2, 16, 50])
def test_coefficients_are_the_windowed_cosines_of_the_definition(hop):
    """Princen, Johnson & Bradley 1987, with the scale that makes it orthonormal."""
    audio = tf.random.stateless_uniform([1, 5 * hop], [3, 4], -1, 1)
    n, k = np.arange(2 * hop)[:, np.newaxis], np.arange(hop)[np.newaxis, :]
    cosines = np.cos(np.pi / hop * (n + 0.5 + hop / 2) * (k + 0.5))
    basis = np.sqrt(2 / hop) * np.sin(np.pi * (n + 0.5) / (2 * hop)) * cosines
    padded = np.pad(audio[0], hop)
    expected = np.stack([padded[frame * hop : (frame + 2) * hop] @ basis for frame in range(6)])
    np.testing.assert_allclose(mdct.analyse(audio, hop, 6)[0], expected, atol=1e-5)
