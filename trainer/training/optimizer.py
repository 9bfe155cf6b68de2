"""Adam in one pass over each weight; that of Keras takes about twelve passes, each with a copy.

`keras.optimizers.legacy.Adam` uses the same operation and is as fast, but its moments are slot variables, which hang
on the weights: the background writer of checkpoints and the broadcast to workers, which walk the graph of objects,
would not see them.
"""

from __future__ import annotations

import tensorflow as tf


class FusedAdam(tf.keras.optimizers.Adam):
    """Adam as in Kingma & Ba 2015, with the order of operations at the end of their section 2, as in Keras.

    Its variables have the names and, up to rounding, the values of `tf.keras.optimizers.Adam`, so that their
    checkpoints are interchangeable.
    """

    def __init__(self, learning_rate: float, global_clipnorm: float | None = None) -> None:
        # XLA could not fuse more: the update of a weight is a single operation.
        super().__init__(learning_rate, global_clipnorm=global_clipnorm, jit_compile=False)
        self._shared_inputs: dict[str, tf.Tensor] = {}

    def _internal_apply_gradients(self, grads_and_vars: list[tuple[tf.Tensor, tf.Variable]]) -> tf.Tensor:
        """Compute once what all weights share."""
        step = tf.cast(self.iterations + 1, tf.float32)
        self._shared_inputs = {
            "beta1_power": tf.pow(self.beta_1, step),
            "beta2_power": tf.pow(self.beta_2, step),
            "lr": tf.convert_to_tensor(self.learning_rate),
        }
        return super()._internal_apply_gradients(grads_and_vars)

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """Update one weight and its two moments."""
        index = self._index_dict[self._var_key(variable)]
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].handle,
            v=self._velocities[index].handle,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.convert_to_tensor(gradient),
            **self._shared_inputs,
        )
