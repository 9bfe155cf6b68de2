import itertools

import numpy as np
import pytest
import tensorflow as tf
from support.tiny_models import normal, perturb

from trainer.models.hierarchical.magnitude_decoder import MagnitudeDecoder, Section, frequency_groups


@pytest.mark.parametrize(
    ("bins", "sections"),
    [
        (32, [Section(0, 8, 4)]),
        (256, [Section(0, 64, 4)]),
        (668, [Section(0, 64, 4), Section(64, 32, 8), Section(96, 10, 16)]),
        (1024, [Section(0, 64, 4), Section(64, 32, 8), Section(96, 32, 16)]),
    ],
)
def test_groups_have_one_width_up_to_a_bin_and_one_number_per_octave_above(bins, sections):
    assert frequency_groups(bins) == sections
    covered = sum(section.groups * section.width for section in sections)
    assert bins <= covered < bins + sections[-1].width
    for section, following in itertools.pairwise(sections):
        assert section.first_group + section.groups == following.first_group


@pytest.mark.parametrize("hop", [16, 334])
def test_each_bin_gets_a_level_of_its_own_and_noise_changes_all(hop):
    tf.keras.utils.set_random_seed(0)
    decoder, steps, frames_per_step = MagnitudeDecoder(8, 2, hop, "float32"), 3, 2
    latents = normal([2, 4], 1), normal([2, steps, 5], 2), normal([2, 6], 3)
    decoder(*latents)
    perturb(decoder, 0.1)
    frames = steps * frames_per_step
    location, log_scale = decoder(*latents)
    assert location.shape == log_scale.shape == (2, frames, 2 * hop)
    assert (np.ptp(location, axis=(0, 1)) > 0).all()
    assert len(np.unique(location[0, 0])) == 2 * hop
    changed, _ = decoder(*latents, normal([2, frames, hop], 4))
    assert (np.abs(changed - location).max(axis=(0, 1)) > 1e-6).all()
