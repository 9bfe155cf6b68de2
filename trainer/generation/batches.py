"""Batches of clips and their noise, which depends on a clip's index and not on its batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from preprocessing import progress_file
from trainer.conditioning import Condition

CLIPS_PER_BATCH = 8
# The purposes of random numbers; each has its own random stream.
PURPOSES = LATENT_NOISE, COEFFICIENT_NOISE, CONDITION_NOISE = range(3)


def in_batches(generate: Callable[[Condition, range], Any], condition: Condition) -> Any:
    """Call `generate` with each batch of conditions and the indices of its clips; concatenate the results.

    These are tensors whose first axis is the clip, or the same nest of tensors from each call; NumPy arrays return.
    """
    count = len(condition.genre)
    batches = []
    for first in range(0, count, CLIPS_PER_BATCH):
        indices = range(first, min(first + CLIPS_PER_BATCH, count))
        batch = Condition(*(tf.constant(rows(values, indices)) for values in condition))
        batches.append(tf.nest.map_structure(np.asarray, generate(batch, indices)))
        progress_file.touch()
    return tf.nest.map_structure(lambda *parts: np.concatenate(parts), *batches)


def rows(values: np.ndarray, indices: range) -> np.ndarray:
    """Select the rows of one batch."""
    return values[indices.start : indices.stop]


def normal_noise(seed: int, purpose: int, indices: range, size: int) -> tf.Tensor:
    """`[clips, size]` standard normal; the row of a clip depends on its index alone."""
    keys = [len(PURPOSES) * index + purpose for index in indices]
    return tf.stack([tf.random.stateless_normal([size], [seed, key]) for key in keys])
