"""Diagonal Gaussians: sampling, log densities and Kullback-Leibler divergences, all in nats."""

from __future__ import annotations

import math
from typing import NamedTuple

import tensorflow as tf

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class DiagonalGaussian(NamedTuple):
    """A Gaussian with independent components over the last axis."""

    mean: tf.Tensor  # [..., dim]
    log_variance: tf.Tensor  # [..., dim]

    def sample(self, noise: tf.Tensor) -> tf.Tensor:
        """Reparameterize standard normal noise `[..., dim]` (Kingma & Welling 2014, section 2.4)."""
        return self.mean + noise * tf.exp(0.5 * self.log_variance)

    def log_density(self, x: tf.Tensor) -> tf.Tensor:
        """Log density of `x`, `[..., dim]` -> `[...]`."""
        squares = tf.square(x - self.mean) * tf.exp(-self.log_variance)
        return tf.reduce_sum(-0.5 * (squares + self.log_variance + math.log(2 * math.pi)), axis=-1)

    def log_density_of_sample(self, noise: tf.Tensor) -> tf.Tensor:
        """Log density of `sample(noise)`, `[..., dim]` -> `[...]`; numerically exact at any variance."""
        return tf.reduce_sum(-0.5 * (tf.square(noise) + self.log_variance) - HALF_LOG_2PI, axis=-1)


def to_uniform(noise: tf.Tensor) -> tf.Tensor:
    """Map standard normal noise to uniform noise in [0, 1], by its distribution function."""
    return 0.5 * (1 + tf.math.erf(noise / math.sqrt(2)))


def kl_divergence(q: DiagonalGaussian, p: DiagonalGaussian) -> tf.Tensor:
    """KL(q || p), `[..., dim]` -> `[...]` (Kingma & Welling 2014, appendix B)."""
    log_ratio = q.log_variance - p.log_variance
    distance = tf.square(q.mean - p.mean) * tf.exp(-p.log_variance)
    return 0.5 * tf.reduce_sum(tf.exp(log_ratio) + distance - 1.0 - log_ratio, axis=-1)


def elementwise_log_density(squared_distance: tf.Tensor, log_scale: tf.Tensor) -> tf.Tensor:
    """Log density of each element.

    Args:
        squared_distance: `((x - mean) / scale) ** 2`.
        log_scale: Logarithm of the standard deviation, same shape.
    """
    return -0.5 * squared_distance - log_scale - HALF_LOG_2PI
