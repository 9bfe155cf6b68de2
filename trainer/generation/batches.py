"""Batches of clips and their noise, which depends on a clip's index and not on its batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from preprocessing import progress_file
from trainer.conditioning import Condition
from trainer.dsp.sizes import Size

CLIPS_PER_BATCH = 8
# The purposes of random numbers; each has its own random stream.
PURPOSES = LATENT_NOISE, COEFFICIENT_NOISE, CONDITION_NOISE = range(3)
GOLDEN_RATIO = 0.6180339887498949  # its multiples, modulo 1, cover the unit interval evenly (Weyl 1916)


def in_batches(
    generate: Callable[[Condition, Sequence[int]], Any], condition: Condition, min_clips: int = 1
) -> Any:
    """Call `generate` with each batch of conditions and the indices of its clips; concatenate the results.

    These are tensors whose first axis is the clip, or the same nest of tensors from each call; NumPy arrays return.
    A batch of fewer than `min_clips` repeats its last one: matrix products with a single row round differently.
    """
    count = len(condition.genre)
    batches = []
    for first in range(0, count, CLIPS_PER_BATCH):
        indices = [*range(first, min(first + CLIPS_PER_BATCH, count))]
        repeated = indices + indices[-1:] * (min_clips - len(indices))
        batch = Condition(*(tf.constant(rows(values, repeated)) for values in condition))
        kept = slice(len(indices))
        generated = generate(batch, repeated)
        batches.append(tf.nest.map_structure(lambda values, kept=kept: np.asarray(values)[kept], generated))
        progress_file.touch()
    return tf.nest.map_structure(lambda *parts: np.concatenate(parts), *batches)


def rows(values: np.ndarray, indices: Sequence[int]) -> np.ndarray:
    """Select the rows of one batch."""
    return np.asarray(values)[[*indices]]


def normal_noise(
    seed: int | tf.Tensor, purpose: int, indices: Iterable[int] | tf.Tensor, size: Size
) -> tf.Tensor:
    """`[clips, size]` standard normal; the row of a clip depends on its seed and its index alone.

    Args:
        seed: One for all clips, or `[clips]` int32.
        purpose: One of `PURPOSES`.
        indices: `[clips]`.
        size: Values per clip.
    """
    indices = _as_integers(indices)
    keys = tf.stack([_for_each(seed, indices), len(PURPOSES) * indices + purpose], axis=1)
    row = tf.TensorSpec([size if isinstance(size, int) else None], tf.float32)
    return tf.map_fn(lambda key: tf.random.stateless_normal([size], key), keys, fn_output_signature=row)


def condition_quantiles(seed: int | tf.Tensor, indices: Iterable[int] | tf.Tensor) -> tf.Tensor:
    """`[clips]` float64 in [0, 1), from a start that depends on the seed: evenly spread over any number of clips."""
    indices = _as_integers(indices)
    keys = tf.stack([_for_each(seed, indices), tf.fill(tf.shape(indices), CONDITION_NOISE)], axis=1)
    start = tf.map_fn(
        lambda key: tf.random.stateless_uniform([], key),
        keys,
        fn_output_signature=tf.TensorSpec([], tf.float32),
    )
    return tf.math.floormod(tf.cast(start, tf.float64) + tf.cast(indices, tf.float64) * GOLDEN_RATIO, 1.0)


def _as_integers(indices: Iterable[int] | tf.Tensor) -> tf.Tensor:
    return indices if tf.is_tensor(indices) else tf.constant([*indices], tf.int32)


def _for_each(seed: int | tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
    return tf.broadcast_to(tf.cast(seed, tf.int32), tf.shape(indices))
