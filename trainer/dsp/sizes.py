"""Sizes of tensors whose shape is partly known: exported graphs take any number of clips of any length."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import tensorflow as tf

Size: TypeAlias = (
    int | tf.Tensor
)  # an int where it is known when a graph is built, else a scalar int32 tensor


def one_graph(function: Callable[..., tf.Tensor], *inputs: tf.TensorSpec) -> Callable[..., tf.Tensor]:
    """Compile a function into one graph for all sizes of unknown axes.

    Otherwise the first call would get a graph of its own sizes, whose last bits may differ from those of the graph that
    later calls share: results would depend on what was computed before. Loops over tensors must be `tf.while_loop`:
    AutoGraph, which converts others, would double the time that it takes to build the graph.
    """
    return tf.function(function, inputs, autograph=False)


def sizes(tensor: tf.Tensor) -> list[Size]:
    """Return the size of each axis."""
    dynamic = tf.unstack(tf.shape(tensor))
    return [size if size is not None else dynamic[axis] for axis, size in enumerate(tensor.shape)]
