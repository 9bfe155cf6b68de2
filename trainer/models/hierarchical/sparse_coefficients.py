"""Sparse MDCT coefficients: the strongest of each step, kept as they are; NaN marks the others.

A coefficient that is not kept is smaller than every kept one of its step. That limits what the coefficient
model may sample in its place.
"""

from __future__ import annotations

import math

import tensorflow as tf

from trainer.dsp.sizes import sizes

UNLIMITED = 1e9  # of a step without a kept coefficient


def threshold(coefficients: tf.Tensor, count: int, frames_per_step: int) -> tf.Tensor:
    """Magnitude of the smallest of the `count` strongest coefficients of each step.

    `[batch, frames, bins]` -> `[batch, frames, 1]`.
    """
    _, frames, bins = sizes(coefficients)
    steps = tf.reshape(tf.abs(coefficients), [-1, frames // frames_per_step, frames_per_step * bins])
    smallest = tf.math.top_k(steps, count).values[..., -1:]
    return tf.repeat(smallest, frames_per_step, axis=1)


def threshold_of_kept(kept: tf.Tensor, frames_per_step: int) -> tf.Tensor:
    """Magnitude of the smallest kept coefficient of each step; `UNLIMITED` where none is kept.

    `[batch, frames, bins]`, NaN where not kept -> `[batch, frames, 1]`.
    """
    _, frames, bins = sizes(kept)
    magnitudes = tf.where(tf.math.is_nan(kept), UNLIMITED, tf.abs(kept))
    steps = tf.reshape(magnitudes, [-1, frames // frames_per_step, frames_per_step * bins])
    return tf.repeat(tf.reduce_min(steps, axis=-1), frames_per_step, axis=1)[..., tf.newaxis]


def has_kept(sparse: tf.Tensor, frames_per_step: int) -> tf.Tensor:
    """Tell which frames belong to a step with a kept coefficient.

    `[batch, frames, bins]`, NaN where not kept -> `[batch, frames]` boolean.
    """
    _, frames, bins = sizes(sparse)
    steps = tf.reshape(tf.math.is_nan(sparse), [-1, frames // frames_per_step, frames_per_step * bins])
    return tf.repeat(tf.logical_not(tf.reduce_all(steps, axis=-1)), frames_per_step, axis=1)


def crossfade(start: tf.Tensor, end: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """Fade from `start` (position 0) to `end` (position 1) at constant power; NaN where neither is kept.

    Both `[batch, frames, bins]` -> the same shape; the position is `[batch or 1, 1, 1]`. At the ends only the end's own
    coefficients are kept.
    """
    angle = 0.5 * math.pi * position
    weights = tf.where(position < 1, tf.cos(angle), 0.0), tf.where(position < 1, tf.sin(angle), 1.0)
    missing = [
        tf.math.is_nan(sparse) | (weight == 0) for sparse, weight in zip((start, end), weights, strict=True)
    ]
    faded = [
        tf.where(absent, 0.0, sparse * weight)
        for absent, sparse, weight in zip(missing, (start, end), weights, strict=True)
    ]
    return tf.where(missing[0] & missing[1], math.nan, faded[0] + faded[1])
