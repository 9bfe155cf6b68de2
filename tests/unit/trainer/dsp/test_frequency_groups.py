import itertools

import numpy as np
import pytest
import tensorflow as tf

from trainer.dsp.frequency_groups import Section, count_groups, frequency_groups, pool


@pytest.mark.parametrize(
    ("bins", "sections"),
    [
        (32, [Section(0, 0, 8, 4)]),
        (256, [Section(0, 0, 64, 4)]),
        (668, [Section(0, 0, 64, 4), Section(256, 64, 32, 8), Section(512, 96, 10, 16)]),
        (1024, [Section(0, 0, 64, 4), Section(256, 64, 32, 8), Section(512, 96, 32, 16)]),
    ],
)
def test_groups_have_one_width_up_to_a_bin_and_one_number_per_octave_above(bins, sections):
    assert frequency_groups(bins, 256, 4) == sections
    for section, following in itertools.pairwise(sections):
        assert section.first_group + section.groups == following.first_group
        assert section.first_bin + section.groups * section.width == following.first_bin
    last = sections[-1]
    assert bins <= last.first_bin + last.groups * last.width < bins + last.width


def test_pooled_values_are_the_means_of_their_groups():
    values = tf.random.stateless_normal([2, 3, 23], [1, 2])
    sections = frequency_groups(23, 8, 1)
    pooled = pool(values, sections)
    assert pooled.shape == (2, 3, count_groups(sections)) == (2, 3, 8 + 4 + 2)
    np.testing.assert_array_equal(pooled[..., :8], values[..., :8])
    np.testing.assert_allclose(pooled[..., 8], tf.reduce_mean(values[..., 8:10], axis=-1), rtol=1e-6)
    last = tf.concat([values[..., 20:23], values[..., 22:23]], axis=-1)
    np.testing.assert_allclose(pooled[..., -1], tf.reduce_mean(last, axis=-1), rtol=1e-6)


def test_groups_of_one_bin_are_the_values_themselves():
    values = tf.random.stateless_normal([2, 3, 8], [1, 2])
    assert pool(values, frequency_groups(8, 8, 1)) is values
