"""The recurrence of `wave`'s prior, with a gradient whose loop does only what must be done step after step.

With h the state before a step, x the input's part of the gates' sums and s = h R + c the state's part,

    z = sigmoid(x_z + s_z)    r = sigmoid(x_r + s_r)    n = tanh(x_n + r s_n)    h' = z h + (1 - z) n

(Cho et al. 2014, equations 5 to 8, with r behind the product, as cuDNN has it). The gradients of x and s are
that of h', times what the states say, which is computed for all steps at once. One product a step is left
each way, and one product for all steps gives the gradient of R, where automatic differentiation makes one for
each step and adds them up.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


class GRU(tf.keras.layers.GRU):
    """Keras's layer, with the state after every step: `[batch, steps, n]` -> `[batch, steps, units]`.

    On GPUs it is Keras's own, which is cuDNN's.
    """

    def __init__(self, units: int) -> None:
        super().__init__(units, return_sequences=True)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """From a state of zeros."""
        if tf.config.list_physical_devices("GPU"):
            return super().call(inputs)
        input_bias, state_bias = tf.unstack(self.cell.bias)
        x = tf.tensordot(tf.transpose(inputs, [1, 0, 2]), self.cell.kernel, axes=1) + input_bias
        return tf.transpose(_states(x, tf.identity(self.cell.recurrent_kernel), state_bias), [1, 0, 2])


@tf.custom_gradient
def _states(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """`[steps, batch, 3 * units]`, `[units, 3 * units]`, `[3 * units]` -> `[steps, batch, units]`."""
    beginning = tf.zeros_like(x[0, :, : kernel.shape[0]])

    def step(state: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        z, _, n, _ = _gates(x, tf.matmul(state, kernel) + bias)
        return n + z * (state - n)

    states = _fold(step, beginning, (x,))

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        before = tf.concat([beginning[tf.newaxis], states[:-1]], axis=0)
        z, r, n, s_n = _gates(x, tf.tensordot(before, kernel, axes=1) + bias)
        transposed = tf.transpose(kernel)  # once, and not in every step
        to_n = (1 - z) * (1 - tf.square(n))
        to_both = [(before - n) * z * (1 - z), to_n * s_n * r * (1 - r)]
        to_x, to_s = (tf.concat([*to_both, last], axis=-1) for last in (to_n, to_n * r))

        def step_back(later: tf.Tensor, upstream: tf.Tensor, z: tf.Tensor, to_s: tf.Tensor) -> tf.Tensor:
            """A state's whole gradient from that of the state after it, whose step `z` and `to_s` are."""
            return upstream + later * z + tf.matmul(tf.tile(later, [1, 3]) * to_s, transposed)

        after = (tf.concat([part[1:], tf.zeros_like(part[:1])], axis=0) for part in (z, to_s))
        whole = tf.tile(_fold(step_back, beginning, (upstream, *after), reverse=True), [1, 1, 3])
        of_s = whole * to_s
        of_kernel = tf.tensordot(before, of_s, axes=[[0, 1], [0, 1]])
        return whole * to_x, of_kernel, tf.reduce_sum(of_s, axis=[0, 1])

    return states, gradient


def _gates(x: tf.Tensor, s: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """z, r, n and s_n, of the module's formulas."""
    units = x.shape[-1] // 3
    (x_zr, x_n), (s_zr, s_n) = (tf.split(part, [2 * units, units], axis=-1) for part in (x, s))
    z, r = tf.split(tf.sigmoid(x_zr + s_zr), 2, axis=-1)
    return z, r, tf.tanh(x_n + r * s_n), s_n


def _fold(
    step: Callable[..., tf.Tensor], state: tf.Tensor, inputs: tuple[tf.Tensor, ...], reverse: bool = False
) -> tf.Tensor:
    """Every state, `[steps, ...]`: a step makes the next one from it and its part of each of `inputs`.

    `inputs` are `[steps, ...]` too. In reverse the last step is made first.
    """
    count = inputs[0].shape[0] or tf.shape(inputs[0])[0]
    arrays = [tf.TensorArray(part.dtype, count).unstack(part) for part in inputs]
    states = tf.TensorArray(state.dtype, count, element_shape=state.shape)

    def advance(index: tf.Tensor, state: tf.Tensor, states: tf.TensorArray) -> tuple:
        place = count - 1 - index if reverse else index
        state = step(state, *(array.read(place) for array in arrays))
        return index + 1, state, states.write(place, state)

    # Each step waits for the one before: looking for others that do not takes an eighth of the time.
    _, _, states = tf.while_loop(
        lambda index, *_: index < count, advance, (0, state, states), parallel_iterations=1
    )
    return states.stack()
