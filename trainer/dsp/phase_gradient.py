"""Phases from the slopes of log-magnitudes: phase-gradient integration (Průša, Balazs & Søndergaard 2017).

In the STFT of a Gaussian window, the phase turns from bin to bin as the log-magnitude changes from frame to frame,
and from frame to frame as it changes from bin to bin. These turns are summed outwards from the loudest points, along
partials and onsets, since slopes say little where there is little sound. In the paper, a heap finds the order. Here
it is the maximum spanning tree of the same points, which can be computed for all of them at once.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import tensorflow as tf

from trainer.dsp.sizes import sizes
from trainer.dsp.spanning_tree import Edges, Forest, join_trees, level_of, wrap
from trainer.dsp.stft import MAX_LOG_MAGNITUDE, MIN_LOG_MAGNITUDE, OVERLAP

# The Gaussian window nearest to Hann's, relative to the square of its length: of the toolbox of the authors, PHASERET.
GAMMA = 0.25645
TOLERANCE = 11.5  # nats below the loudest point, 100 dB, under which phases are those of the noise
# Of a point, and of each neighbour in time and in frequency, before slopes are taken: decoded magnitudes are noisy.
SMOOTHING = (0.5, 0.25)
# By which a partial's slope over frequency is smaller after it: with it, the frequencies of sines between two bins are
# right within a hundredth of a bin.
SLOPE_RATIO = 1.31
# An edge weighs as much as its weaker point. Among equals, a point joins its stronger neighbour, as with the heap.
STRONGER_WEIGHT = 0.01
SECTION_FRAMES = (
    1_024  # longer than a clip of 30 s: only the memory of much longer ones is limited, 180 bytes per point
)
CONTEXT_FRAMES = 8  # of a section's neighbours
TIME, FREQUENCY = 1, 2  # axes


class Phases(NamedTuple):
    """Phases that are given, in radians from the beginning of each frame."""

    noise: tf.Tensor  # [batch or 1, frames, bins]: of points without sound, and where a sum starts
    known: tf.Tensor  # [batch, frames, bins]
    is_known: tf.Tensor  # [batch, frames] boolean: whether the frame has phases in `known`


def integrate(log_magnitude: tf.Tensor, given: Phases) -> tf.Tensor:
    """Find phases for `[batch, frames, bins]` log-magnitudes, which go on from those that are known.

    Log-magnitudes are between MIN_LOG_MAGNITUDE and MAX_LOG_MAGNITUDE. Phases have their shape, and are in radians from
    the beginning of each frame. One section of frames is computed after the other.
    """
    batch, frames, bins = sizes(log_magnitude)
    given = given._replace(noise=tf.broadcast_to(given.noise, tf.shape(log_magnitude)))

    def go_on(first: tf.Tensor, phase: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        start = tf.maximum(first - CONTEXT_FRAMES, 0)
        end = tf.minimum(first + SECTION_FRAMES, frames)
        beyond = tf.minimum(end + CONTEXT_FRAMES, frames)  # whose slopes the last frames need
        noise, known, is_known = (values[:, start:beyond] for values in given)
        before = first - start  # frames whose phases were found in the section before
        known = tf.concat([phase[:, start:], known[:, before:]], axis=TIME)
        is_known = tf.concat([tf.ones([batch, before], tf.bool), is_known[:, before:]], axis=TIME)
        found = _integrate_section(log_magnitude[:, start:beyond], Phases(noise, known, is_known))
        return end, tf.concat([phase, found[:, before : end - start]], axis=TIME)

    some = tf.TensorShape([log_magnitude.shape[0], None, bins])
    _, phase = tf.while_loop(
        lambda first, _: first < frames,
        go_on,
        (tf.constant(0), tf.zeros([batch, 0, bins])),
        shape_invariants=(tf.TensorShape([]), some),
        parallel_iterations=1,
    )
    return tf.ensure_shape(phase, log_magnitude.shape)


def _integrate_section(log_magnitude: tf.Tensor, given: Phases) -> tf.Tensor:
    """`integrate` all frames at once."""
    shape = batch, frames, bins = sizes(log_magnitude)
    points = batch * frames * bins
    is_known = tf.broadcast_to(given.is_known[..., tf.newaxis], shape)
    # The known points of each clip begin as one tree, whose angle is 0; all others begin on their own.
    number = tf.reshape(tf.range(points), shape)
    known_tree = points + tf.range(batch)
    tree = tf.where(is_known, tf.reshape(known_tree, [-1, 1, 1]), number)
    angle = tf.where(is_known, given.known, 0.0)
    forest = join_trees(
        Forest(
            tf.concat([tf.reshape(tree, [-1]), known_tree], axis=0),
            tf.concat([tf.reshape(angle, [-1]), tf.zeros([batch])], axis=0),
            points + batch,
        ),
        _edges(_smooth(log_magnitude), number),
    )
    noise = tf.reshape(given.noise, [-1])
    first_point = tf.math.unsorted_segment_min(tf.range(points), forest.tree[:points], forest.count)
    angle_of_tree = tf.gather(noise, tf.minimum(first_point, points - 1))  # some known trees have no point
    angle_of_tree = tf.tensor_scatter_nd_update(
        angle_of_tree, forest.tree[points:, tf.newaxis], -forest.angle[points:]
    )
    phase = forest.angle + tf.gather(angle_of_tree, forest.tree)
    return wrap(tf.reshape(phase[:points], shape))


def _edges(log_magnitude: tf.Tensor, number: tf.Tensor) -> Edges:
    """Connect adjacent points that sound, `number` `[batch, frames, bins]`, by the turns of their phases."""
    bins = sizes(log_magnitude)[FREQUENCY]
    of_bin = (2 * math.pi / OVERLAP) * tf.cast(tf.range(bins) % OVERLAP, tf.float32)  # from frame to frame
    in_time = of_bin + SLOPE_RATIO * _slope(log_magnitude, FREQUENCY) / (GAMMA * OVERLAP)
    in_frequency = -math.pi - _slope(log_magnitude, TIME) * (
        GAMMA * OVERLAP
    )  # frames begin before their centre
    parts = [
        _edges_along(axis, log_magnitude, turn, number)
        for axis, turn in ((TIME, in_time), (FREQUENCY, in_frequency))
    ]
    return Edges(*(tf.concat(values, axis=0) for values in zip(*parts, strict=True)))


def _edges_along(axis: int, log_magnitude: tf.Tensor, turn: tf.Tensor, number: tf.Tensor) -> Edges:
    """Connect each point to the next one along an axis; `turn` is that of one step at each point."""
    last = tf.shape(number)[axis] - 1

    def ends(values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tuple(tf.gather(values, tf.range(last) + step, axis=axis) for step in (0, 1))

    start, end = ends(log_magnitude)
    weaker, stronger = tf.minimum(start, end), tf.maximum(start, end)
    weight = (weaker + STRONGER_WEIGHT * stronger) / (1 + STRONGER_WEIGHT)
    loudest = tf.reduce_max(log_magnitude, axis=[TIME, FREQUENCY], keepdims=True)
    sounds = weaker > loudest - TOLERANCE
    mean_turn = tf.add_n(ends(turn)) / 2
    level = level_of(weight, MIN_LOG_MAGNITUDE, MAX_LOG_MAGNITUDE)
    return Edges(*(tf.boolean_mask(values, sounds) for values in (*ends(number), mean_turn, level)))


def _smooth(values: tf.Tensor) -> tf.Tensor:
    """Average each point with its neighbours in time, then in frequency."""
    own, of_neighbour = SMOOTHING
    for axis in (TIME, FREQUENCY):
        values = own * values + of_neighbour * tf.add_n(_neighbours(values, axis))
    return values


def _slope(values: tf.Tensor, axis: int) -> tf.Tensor:
    """Change per step along an axis."""
    before, after = _neighbours(values, axis)
    return (after - before) / 2


def _neighbours(values: tf.Tensor, axis: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The point before and the one after each point; at the ends, the point itself."""
    size = tf.shape(values)[axis]
    before = tf.maximum(tf.range(size) - 1, 0)
    after = tf.minimum(tf.range(size) + 1, size - 1)
    return tf.gather(values, before, axis=axis), tf.gather(values, after, axis=axis)
