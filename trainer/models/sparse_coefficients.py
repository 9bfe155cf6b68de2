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
