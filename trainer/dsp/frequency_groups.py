"""Groups of adjacent frequency bins: as wide as each other at low frequencies, and of one number per octave above.

Partials are told apart where there are few per octave. Above, hearing and the models have the same resolution in every
octave, as on the Bark scale (Zwicker 1961).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from trainer.dsp.sizes import sizes

# Bins of an MDCT that are told apart: up to 1,500 Hz in frames of 43 ms. An STFT has twice as many bins.
LINEAR_BINS = 128


class Section(NamedTuple):
    """Adjacent groups of the same width."""

    first_bin: int
    first_group: int
    groups: int
    width: int  # bins of a group


def frequency_groups(bins: int, linear_bins: int, width: int) -> list[Section]:
    """Divide `bins` bins into groups, in sections of the same width; the last group may reach beyond the last bin.

    Args:
        bins: Their number.
        linear_bins: Bins of the first section; each following one ends an octave above.
        width: Bins of a group of the first section; of each following one, it is twice as many.
    """
    sections, first_bin, first_group = list[Section](), 0, 0
    while first_bin < bins:
        end = min(bins, max(linear_bins, 2 * first_bin))
        groups = -(-(end - first_bin) // width)
        sections.append(Section(first_bin, first_group, groups, width))
        first_bin, first_group, width = end, first_group + groups, 2 * width
    return sections


def mdct_groups(bins: int) -> list[Section]:
    """Divide the bins of an MDCT: each of the lowest `LINEAR_BINS` is a group."""
    return frequency_groups(bins, LINEAR_BINS, 1)


def count_groups(sections: Sequence[Section]) -> int:
    """Return the number of groups of all sections."""
    return sum(section.groups for section in sections)


def pool(values: tf.Tensor, sections: Sequence[Section]) -> tf.Tensor:
    """Average over the bins of each group, `[batch, frames, bins]` -> `[batch, frames, groups]`."""
    if all(section.width == 1 for section in sections):
        return values
    batch, frames, bins = sizes(values)
    parts = []
    for first_bin, _, groups, width in sections:
        part = values[..., first_bin : first_bin + groups * width]
        missing = first_bin + groups * width - bins
        if missing > 0:  # the last group's last bin stands for those that it lacks
            part = tf.concat([part, tf.repeat(part[..., -1:], missing, axis=-1)], axis=-1)
        parts.append(tf.reduce_mean(tf.reshape(part, [batch, frames, groups, width]), axis=-1))
    return tf.concat(parts, axis=-1)
