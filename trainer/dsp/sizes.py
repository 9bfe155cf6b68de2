"""Sizes of tensors whose shape is partly known: exported graphs take any number of clips of any length."""

from __future__ import annotations

from typing import TypeAlias

import tensorflow as tf

Size: TypeAlias = (
    int | tf.Tensor
)  # an int where it is known when a graph is built, else a scalar int32 tensor


def sizes(tensor: tf.Tensor) -> list[Size]:
    """Return the size of each axis."""
    dynamic = tf.unstack(tf.shape(tensor))
    return [size if size is not None else dynamic[axis] for axis, size in enumerate(tensor.shape)]
