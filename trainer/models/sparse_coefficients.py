"""Sparse MDCT coefficients: the strongest of each step, kept as they are; NaN marks the others.

A coefficient that is not kept is smaller than every kept one of its step. That limits what the coefficient
model may sample in its place.
"""

from __future__ import annotations

import math

import tensorflow as tf

UNLIMITED = 1e9  # of a step without a kept coefficient


def threshold(coefficients: tf.Tensor, count: int, frames_per_step: int) -> tf.Tensor:
    """Magnitude of the smallest of the `count` strongest coefficients of each step.

    `[batch, frames, bins]` -> `[batch, frames, 1]`.
    """
    frames, bins = coefficients.shape[1:]
    steps = tf.reshape(tf.abs(coefficients), [-1, frames // frames_per_step, frames_per_step * bins])
    smallest = tf.math.top_k(steps, count).values[..., -1:]
    return tf.repeat(smallest, frames_per_step, axis=1)


def threshold_of_kept(kept: tf.Tensor, frames_per_step: int) -> tf.Tensor:
    """Magnitude of the smallest kept coefficient of each step; `UNLIMITED` where none is kept.

    `[batch, frames, bins]`, NaN where not kept -> `[batch, frames, 1]`.
    """
    frames, bins = kept.shape[1:]
    magnitudes = tf.where(tf.math.is_nan(kept), UNLIMITED, tf.abs(kept))
    steps = tf.reshape(magnitudes, [-1, frames // frames_per_step, frames_per_step * bins])
    return tf.repeat(tf.reduce_min(steps, axis=-1), frames_per_step, axis=1)[..., tf.newaxis]


def resample_others(
    coefficients: tf.Tensor,
    mean: tf.Tensor,
    spread: tf.Tensor,
    limit: tf.Tensor,
    noise: tf.Tensor,
    residual_noise_scale: float,
) -> tf.Tensor:
    """Replace all but the strongest coefficients by samples of N(mean, spread squared).

    With a teacher-forced `mean` and `spread` this is what the coefficient model's `sample` would return if it
    had predicted every frame from the true ones before.

    Args:
        coefficients: `[batch, frames, bins]`.
        mean: The same shape.
        spread: The same shape.
        limit: `[batch, frames, 1]`, the `threshold` of the strongest and the limit of the others.
        noise: `[batch, frames, bins]` standard normal.
        residual_noise_scale: Largest standard deviation, in units of `limit`.
    """
    sampled = tf.clip_by_value(mean + tf.minimum(spread, residual_noise_scale * limit) * noise, -limit, limit)
    return tf.where(tf.abs(coefficients) >= limit, coefficients, sampled)


def crossfade(start: tf.Tensor, end: tf.Tensor, position: float) -> tf.Tensor:
    """Fade from `start` (position 0) to `end` (position 1) at constant power; NaN where neither is kept.

    Both `[batch, frames, bins]` -> the same shape. At the ends only the end's own coefficients are kept.
    """
    angle = 0.5 * math.pi * position
    faded = [
        (start, math.cos(angle) if position < 1 else 0.0),
        (end, math.sin(angle) if position < 1 else 1.0),
    ]
    weighted = [tf.where(tf.math.is_nan(sparse), 0.0, sparse) * weight for sparse, weight in faded]
    missing = [
        tf.math.is_nan(sparse) if weight else tf.ones_like(sparse, tf.bool) for sparse, weight in faded
    ]
    return tf.where(missing[0] & missing[1], math.nan, weighted[0] + weighted[1])
