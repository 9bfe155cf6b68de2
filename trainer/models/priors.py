"""The learned priors of `wave`: of the piece given what is asked, and of its steps given the past."""

from __future__ import annotations

import math

import tensorflow as tf

from trainer.models.gru import GRU

layers = tf.keras.layers

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
LOG_SCALE_RANGE = (-4.0, 2.0)  # of a mixture's components: neither spikes nor deserts


class GlobalPrior(layers.Layer):
    """p(piece | condition), a diagonal Gaussian: mean and log-variance, both `[batch, latent_dim]`."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.hidden = layers.Dense(64, activation=tf.nn.leaky_relu)
        self.output_layer = layers.Dense(2 * latent_dim)

    def call(self, condition: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """`[batch, CONDITION_DIM]` -> the moments."""
        mean, log_variance = tf.split(self.output_layer(self.hidden(condition)), 2, axis=-1)
        return mean, tf.clip_by_value(log_variance, -6.0, 3.0)


class SequencePrior(layers.Layer):
    """p(local_t | local_<t, piece, condition, clock): two GRUs with a mixture of Gaussians on top.

    Training sees the true past of all steps at once; `sample` lives on its own past.
    """

    def __init__(self, sequence_latent_dim: int, units: int, mixtures: int) -> None:
        super().__init__()
        self.sequence_latent_dim, self.units, self.mixtures = sequence_latent_dim, units, mixtures
        self.input_layer = layers.Dense(units, activation=tf.nn.leaky_relu)
        self.first = GRU(units)
        self.second = GRU(units)
        self.head = layers.Dense(mixtures * (1 + 2 * sequence_latent_dim))

    def log_density(self, local: tf.Tensor, context: tf.Tensor, clock: tf.Tensor) -> tf.Tensor:
        """`local` `[batch, steps, local_dim]`, `context` `[batch, n]` -> `[batch, steps]`, in nats."""
        past = tf.pad(local[:, :-1], [[0, 0], [1, 0], [0, 0]])
        context = tf.repeat(context[:, tf.newaxis], local.shape[1], axis=1)
        x = self.first(self.input_layer(tf.concat([past, clock, context], axis=-1)))
        log_weights, means, log_scales = self._mixture(x + self.second(x))
        distance = (local[:, :, tf.newaxis] - means) * tf.exp(-log_scales)
        components = tf.reduce_sum(-0.5 * tf.square(distance) - log_scales - HALF_LOG_2PI, axis=-1)
        return tf.reduce_logsumexp(log_weights + components, axis=-1)

    def sample(
        self, known: tf.Tensor, context: tf.Tensor, clock: tf.Tensor, noise: tf.Tensor, temperature: tf.Tensor
    ) -> tf.Tensor:
        """Draws the steps that are not known.

        Args:
            known: `[batch, known steps, local_dim]`: the beginning, maybe of no step.
            context: `[batch, n]`.
            clock: `[batch, steps, CLOCK_DIM]`.
            noise: `[batch, steps, local_dim + 1]` standard normal; the last one chooses the component.
            temperature: Scale of the noise within a component.

        Returns:
            `[batch, steps, local_dim]`, beginning with `known`.
        """
        batch, steps, known_steps = tf.shape(clock)[0], tf.shape(clock)[1], tf.shape(known)[1]
        known = tf.pad(known, [[0, 0], [0, steps - known_steps], [0, 0]])
        drawn = tf.TensorArray(tf.float32, steps, element_shape=[None, self.sequence_latent_dim])
        value = tf.zeros([batch, self.sequence_latent_dim])
        first = second = tf.zeros([batch, self.units])
        for step in tf.range(steps):
            x = self.input_layer(tf.concat([value, clock[:, step], context], axis=-1))
            x, first = _advance(self.first.cell, x, first)
            y, second = _advance(self.second.cell, x, second)
            log_weights, means, log_scales = self._mixture(x + y)
            # The component by the inverse of the mixture's distribution function.
            uniform = 0.5 * (1 + tf.math.erf(noise[:, step, -1:] / math.sqrt(2)))
            passed = tf.cast(tf.cumsum(tf.exp(log_weights), axis=-1) < uniform, tf.int32)
            chosen = tf.minimum(tf.reduce_sum(passed, axis=-1), self.mixtures - 1)
            mean, log_scale = (tf.gather(part, chosen, batch_dims=1) for part in (means, log_scales))
            new = mean + temperature * tf.exp(log_scale) * noise[:, step, :-1]
            value = tf.where(step < known_steps, known[:, step], new)
            drawn = drawn.write(step, value)
        return tf.transpose(drawn.stack(), [1, 0, 2])

    def _mixture(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Log-weights `[..., mixtures]`, means and log-scales `[..., mixtures, local_dim]`."""
        output = self.head(x)
        shape = tf.concat([tf.shape(output)[:-1], [self.mixtures, 2 * self.sequence_latent_dim]], axis=0)
        means, log_scales = tf.split(tf.reshape(output[..., self.mixtures :], shape), 2, axis=-1)
        return (
            tf.nn.log_softmax(output[..., : self.mixtures]),
            means,
            tf.clip_by_value(log_scales, *LOG_SCALE_RANGE),
        )


def _advance(cell: layers.GRUCell, x: tf.Tensor, state: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    output, states = cell(x, [state])
    return output, tf.nest.flatten(states)[0]
