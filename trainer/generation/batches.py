"""Batches and noise: the noise of a clip depends on its index, not on the batch that it falls into."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from trainer.conditioning import Condition

CLIPS_PER_BATCH = 8
# What random numbers are for: each purpose has a stream of its own.
PURPOSES = LATENT_NOISE, COEFFICIENT_NOISE, CONDITION_NOISE = range(3)


def in_batches(generate: Callable[[Condition, range], tf.Tensor], condition: Condition) -> np.ndarray:
    """Concatenate what `generate` returns for each batch of conditions and the indices of its clips."""
    count = len(condition.genre)
    batches = []
    for first in range(0, count, CLIPS_PER_BATCH):
        indices = range(first, min(first + CLIPS_PER_BATCH, count))
        batch = Condition(*(tf.constant(rows(values, indices)) for values in condition))
        batches.append(generate(batch, indices).numpy())
    return np.concatenate(batches)


def rows(values: np.ndarray, indices: range) -> np.ndarray:
    """The rows of one batch."""
    return values[indices.start : indices.stop]


def normal_noise(seed: int, purpose: int, indices: range, size: int) -> tf.Tensor:
    """`[clips, size]` standard normal; the row of a clip depends on its index alone."""
    keys = [len(PURPOSES) * index + purpose for index in indices]
    return tf.stack([tf.random.stateless_normal([size], [seed, key]) for key in keys])
