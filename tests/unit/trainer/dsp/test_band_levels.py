import math

import numpy as np
import pytest
import tensorflow as tf

from trainer.dsp.band_levels import PATCHES, level_distance
from trainer.dsp.frequency_groups import frequency_groups

BINS, QUIET = 32, -20.0
SECTIONS = frequency_groups(BINS, 16, 4)  # six groups


def partial(level, frames=16, others=QUIET):
    """One loud bin of a group of its own, `[1, frames, BINS]`."""
    return tf.concat(
        [tf.fill([1, frames, 5], others), tf.fill([1, frames, 1], level), tf.fill([1, frames, BINS - 6], others)],
        axis=-1,
    )  # fmt: skip


def distance(one, other):
    return float(level_distance(one, other, SECTIONS)[0])


def test_equal_magnitudes_have_no_distance():
    magnitudes = -3.0 + tf.random.stateless_normal([2, 16, BINS], [1, 2])
    np.testing.assert_array_equal(level_distance(magnitudes, magnitudes, SECTIONS), [0, 0])


def test_a_gain_is_its_own_distance():
    magnitudes = -2.0 + tf.random.stateless_normal([1, 16, BINS], [1, 2])
    assert distance(magnitudes, magnitudes + 0.5) == pytest.approx(0.5, rel=0.01)


def test_the_level_of_a_partial_counts_for_each_patch_that_it_is_in():
    in_groups = {1: 1 / 6, 4: 1, None: 1}  # of the patches of each size, the share that has the partial
    expected = math.log(2) * sum(in_groups[groups] for groups, _ in PATCHES) / len(PATCHES)
    assert distance(partial(-2.0), partial(-2.0 + math.log(2))) == pytest.approx(expected, rel=0.01)


def test_what_is_not_heard_hardly_counts():
    inaudible = distance(partial(-2.0), partial(-2.0, others=-9.0))
    assert 0 < inaudible < 0.01


def test_averages_over_time_ignore_where_in_a_patch_energy_is():
    """Two frames that alternate have the levels of two frames of their mean, except at the resolution of onsets."""
    times = tf.cast(tf.range(16) % 2, tf.float32)[tf.newaxis, :, tf.newaxis] * tf.ones([1, 16, BINS])
    alternating, mean = tf.math.log(0.2 * times + 1e-6), tf.fill([1, 16, BINS], math.log(0.2 / math.sqrt(2)))
    onsets = 0.5 * (0.5 * math.log(2) + math.log(0.2 / math.sqrt(2) / math.sqrt(1e-5)))
    assert distance(alternating, mean) == pytest.approx(onsets / len(PATCHES), rel=0.02)


@pytest.mark.parametrize("frames", [1, 3, 11])
def test_clips_shorter_than_a_patch_have_a_distance(frames):
    assert distance(partial(-2.0, frames), partial(-1.0, frames)) > 0.1


def test_its_gradient_raises_a_partial_that_is_too_weak():
    weak = tf.Variable(partial(-3.0))
    with tf.GradientTape() as tape:
        loss = level_distance(partial(-2.0), weak, SECTIONS)
    gradient = tape.gradient(loss, weak).numpy()[0]
    assert (gradient[:, 5] < 0).all()
    assert np.isfinite(gradient).all()
