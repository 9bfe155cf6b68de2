"""Micro-batches: parts of a batch that are computed one after the other, to save memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import tensorflow as tf

from trainer.data.input_pipeline import Batch

T = TypeVar("T")


def sum_over_parts(
    function: Callable[[Batch, tf.Tensor], T], batch: Batch, noise: tf.Tensor, parts: int, zeros: T
) -> T:
    """Sum a function over parts of a batch, one after the other, so that memory holds the tensors of a single part.

    The examples' weights refer to the global batch, so the sum does not depend on the number of parts.

    Args:
        function: Of some examples and their noise.
        batch: Of this replica.
        noise: Of its examples.
        parts: How many there are.
        zeros: Of the structure of the result.
    """
    if parts == 1:
        return function(batch, noise)
    size = batch.position.shape[0]
    parts = -(-size // -(-size // parts))  # fewer, if some would have padding only
    # The loop needs parts of one size: padding repeats the last example with a weight of 0.
    rows = tf.reshape(tf.range(parts * -(-size // parts)), [parts, -1])
    real = tf.cast(rows < size, tf.float32)
    rows = tf.minimum(rows, size - 1)
    batches, noises = tf.nest.map_structure(lambda tensor: tf.gather(tensor, rows), (batch, noise))
    batches = batches._replace(weight=batches.weight * real)

    def add(index: tf.Tensor, sums: T) -> tuple[tf.Tensor, T]:
        part = tf.nest.map_structure(lambda tensor: tensor[index], batches)
        added = function(part, noises[index])
        return index + 1, tf.nest.map_structure(lambda old, new: old + tf.convert_to_tensor(new), sums, added)

    _, sums = tf.while_loop(
        lambda index, _: index < parts, add, (tf.constant(0), zeros), parallel_iterations=1
    )
    return sums
