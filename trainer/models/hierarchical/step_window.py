"""Windows of steps: the part of each clip that the decoders see in a training step."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from trainer.models.gaussian import to_uniform


class StepWindow(NamedTuple):
    """The same number of steps of each clip of a batch, from another first step for each."""

    first: tf.Tensor  # [batch] int32
    steps: int

    @classmethod
    def random(cls, noise: tf.Tensor, steps: int, all_steps: int) -> StepWindow:
        """Choose windows uniformly by `[batch]` standard normal noise."""
        places = all_steps - steps + 1
        first = tf.cast(tf.floor(to_uniform(noise) * places), tf.int32)
        return cls(tf.minimum(first, places - 1), steps)

    def cut(self, values: tf.Tensor, per_step: int = 1, more: int = 0) -> tf.Tensor:
        """`[batch, steps * per_step + more, n]` -> `[batch, steps of the window * per_step + more, n]`."""
        rows = self.first[:, tf.newaxis] * per_step + tf.range(self.steps * per_step + more)
        return tf.gather(values, rows, batch_dims=1)
