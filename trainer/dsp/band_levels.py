"""Levels of patches of a spectrogram, and the distance of two spectrograms by them.

Distances of single log-magnitudes do not notice a wrong level where a few bins have all the energy: an error of 6 dB of
a partial costs as much as one of a bin that nobody hears. The level of a patch is that of its strongest bins.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from trainer.dsp.frequency_groups import Section, pool

# Groups of bins and frames of a patch, None for all: partials, onsets, and the loudness of a third of a second at
# frames of 43 ms.
PATCHES = ((1, 4), (4, 1), (None, 8))
MIN_POWER = 1e-5  # of each bin, relative to a full-scale sine: differences below -50 dB count less and less
FINITE_LOG_MAGNITUDE = 8.0  # keeps powers finite


def level_distance(log_magnitudes: tf.Tensor, others: tf.Tensor, sections: Sequence[Section]) -> tf.Tensor:
    """Compute the mean absolute difference of the levels of patches, averaged over `PATCHES`.

    Args:
        log_magnitudes: `[batch, frames, bins]`, in nats; 0 is a full-scale sine.
        others: Of the same shape.
        sections: Groups of the bins.

    Returns:
        `[batch]` float32, in nats of magnitude; 0 for equal ones.
    """
    energies = [_energies(values, sections) for values in (log_magnitudes, others)]
    distances = []
    for groups, frames in PATCHES:
        first, second = (_levels(energy, groups, frames) for energy in energies)
        distances.append(tf.reduce_mean(tf.abs(first - second), axis=[1, 2]))
    return tf.add_n(distances) / len(distances)


def _energies(log_magnitudes: tf.Tensor, sections: Sequence[Section]) -> tf.Tensor:
    """Sums over the bins of each group, `[batch, frames, bins]` -> `[batch, frames, groups]`."""
    power = tf.exp(2 * tf.minimum(log_magnitudes, FINITE_LOG_MAGNITUDE)) + MIN_POWER
    widths = [float(section.width) for section in sections for _ in range(section.groups)]
    return pool(power, sections) * tf.constant(widths)


def _levels(energies: tf.Tensor, groups: int | None, frames: int) -> tf.Tensor:
    """Log-magnitudes of all whole patches, `[batch, frames, groups]` -> `[batch, patches in time, in frequency]`."""
    _, all_frames, all_groups = energies.shape
    groups, frames = min(groups or all_groups, all_groups), min(frames, all_frames)
    times, bands = all_frames // frames, all_groups // groups
    whole = energies[:, : times * frames, : bands * groups]
    return 0.5 * tf.math.log(
        tf.reduce_sum(tf.reshape(whole, [-1, times, frames, bands, groups]), axis=[2, 4])
    )
