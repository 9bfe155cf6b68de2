"""Adam in one pass over each weight, where Keras's own takes a dozen and as many copies of it."""

from __future__ import annotations

import tensorflow as tf


class FusedAdam(tf.keras.optimizers.Adam):
    """Kingma & Ba 2015, in the order of operations of the end of its section 2, as Keras has it.

    Same variables, names and, to rounding, values as Keras's: a checkpoint of one is one of the other.
    """

    def __init__(self, learning_rate: float, global_clipnorm: float | None = None) -> None:
        # There is nothing left to compile.
        super().__init__(learning_rate, global_clipnorm=global_clipnorm, jit_compile=False)
        self._now: dict[str, tf.Tensor] = {}

    def _internal_apply_gradients(self, grads_and_vars: list[tuple[tf.Tensor, tf.Variable]]) -> tf.Tensor:
        """Computes once what is the same for all weights."""
        step = tf.cast(self.iterations + 1, tf.float32)
        self._now = {
            "beta1_power": tf.pow(self.beta_1, step),
            "beta2_power": tf.pow(self.beta_2, step),
            "lr": tf.convert_to_tensor(self.learning_rate),
        }
        return super()._internal_apply_gradients(grads_and_vars)

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """Moves one weight and its two moments."""
        index = self._index_dict[self._var_key(variable)]
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].handle,
            v=self._velocities[index].handle,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.convert_to_tensor(gradient),
            **self._now,
        )
