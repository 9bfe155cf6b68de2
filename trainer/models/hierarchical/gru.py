"""The GRU of the sequence prior, with a custom gradient whose loop contains only the sequential part.

With h the state before a step, x the input's share of the gates' sums and s = h R + c the state's share,

    z = sigmoid(x_z + s_z)    r = sigmoid(x_r + s_r)    n = tanh(x_n + r s_n)    h' = z h + (1 - z) n

(Cho et al. 2014, equations 5 to 8, with r applied after the product, as in cuDNN). The gradients of x and s
are the gradient of h' times factors that depend on the states alone, computed for all steps at once.
One matrix product per step remains in each direction, and one product over all steps gives the gradient of R,
where automatic differentiation adds up one product per step.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


class GRU(tf.keras.layers.GRU):
    """Keras's GRU with the state after every step: `[batch, steps, n]` -> `[batch, steps, units]`.

    On GPUs it is Keras's own implementation, which uses cuDNN. Weights and checkpoints are Keras's.
    """

    def __init__(self, units: int) -> None:
        super().__init__(units, return_sequences=True)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Start from a state of zeros."""
        if tf.config.list_physical_devices("GPU"):
            return super().call(inputs)
        input_bias, state_bias = tf.unstack(self.cell.bias)
        x = tf.tensordot(tf.transpose(inputs, [1, 0, 2]), self.cell.kernel, axes=1) + input_bias
        return tf.transpose(_states(x, tf.identity(self.cell.recurrent_kernel), state_bias), [1, 0, 2])


@tf.custom_gradient
def _states(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """`[steps, batch, 3 * units]`, `[units, 3 * units]`, `[3 * units]` -> `[steps, batch, units]`."""
    initial = tf.zeros_like(x[0, :, : kernel.shape[0]])

    def step(state: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        z, _, n, _ = _gates(x, tf.matmul(state, kernel) + bias)
        return n + z * (state - n)

    states = _scan(step, initial, (x,))

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        previous = tf.concat([initial[tf.newaxis], states[:-1]], axis=0)
        z, r, n, s_n = _gates(x, tf.tensordot(previous, kernel, axes=1) + bias)
        transposed = tf.transpose(kernel)  # once, not in every step
        # Derivatives of the next state with respect to each gate's x and s; those of z and r are the same.
        by_n = (1 - z) * (1 - tf.square(n))
        by_z_r = [(previous - n) * z * (1 - z), by_n * s_n * r * (1 - r)]
        by_x, by_s = (tf.concat([*by_z_r, last], axis=-1) for last in (by_n, by_n * r))

        def step_back(later: tf.Tensor, upstream: tf.Tensor, z: tf.Tensor, by_s: tf.Tensor) -> tf.Tensor:
            """Gradient of a state, from that of the state after it and the factors of the step between."""
            return upstream + later * z + tf.matmul(tf.tile(later, [1, 3]) * by_s, transposed)

        following = (tf.concat([values[1:], tf.zeros_like(values[:1])], axis=0) for values in (z, by_s))
        d_states = tf.tile(_scan(step_back, initial, (upstream, *following), reverse=True), [1, 1, 3])
        d_s = d_states * by_s
        d_kernel = tf.tensordot(previous, d_s, axes=[[0, 1], [0, 1]])
        return d_states * by_x, d_kernel, tf.reduce_sum(d_s, axis=[0, 1])

    return states, gradient


def _gates(x: tf.Tensor, s: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """z, r, n and s_n of the module's formulas."""
    units = x.shape[-1] // 3
    (x_zr, x_n), (s_zr, s_n) = (tf.split(gates, [2 * units, units], axis=-1) for gates in (x, s))
    z, r = tf.split(tf.sigmoid(x_zr + s_zr), 2, axis=-1)
    return z, r, tf.tanh(x_n + r * s_n), s_n


def _scan(
    step: Callable[..., tf.Tensor], initial: tf.Tensor, inputs: tuple[tf.Tensor, ...], reverse: bool = False
) -> tf.Tensor:
    """All states `[steps, ...]` of `state = step(state, *inputs[t])`, from the last step on if `reverse`.

    `inputs` are `[steps, ...]`.
    """
    count = inputs[0].shape[0] or tf.shape(inputs[0])[0]
    arrays = [tf.TensorArray(values.dtype, count).unstack(values) for values in inputs]
    states = tf.TensorArray(initial.dtype, count, element_shape=initial.shape)

    def advance(index: tf.Tensor, state: tf.Tensor, states: tf.TensorArray) -> tuple:
        position = count - 1 - index if reverse else index
        state = step(state, *(array.read(position) for array in arrays))
        return index + 1, state, states.write(position, state)

    # Steps cannot run in parallel, and allowing it costs an eighth of the time.
    _, _, states = tf.while_loop(
        lambda index, *_: index < count, advance, (0, initial, states), parallel_iterations=1
    )
    return states.stack()
