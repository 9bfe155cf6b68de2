import numpy as np
import pytest
import tensorflow as tf
from support.runs.tiny_models import normal, perturb

from trainer.models.hierarchical.magnitude_decoder import (
    MagnitudeDecoder,
    log_density,
    log_density_of_groups,
)


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


def test_each_group_of_bins_counts_as_much_as_another():
    values, location, log_scale = (normal([2, 3, 512], key) for key in range(3))
    density = log_density(values, location, log_scale)
    of_groups = log_density_of_groups(values, location, log_scale)
    assert of_groups.shape == (2, 3, 64 + 32)
    for group, bins in ((3, slice(12, 16)), (65, slice(264, 272))):
        expected = tf.reduce_mean(density[..., bins], axis=-1)
        np.testing.assert_allclose(of_groups[..., group], expected, rtol=1e-5)
