"""The learned priors of the hierarchical model: of the global latent and of the sequence latents."""

from __future__ import annotations

import tensorflow as tf
from tensorflow.keras import layers

from trainer.dsp.sizes import one_graph
from trainer.models.gaussian import DiagonalGaussian, elementwise_log_density, to_uniform
from trainer.models.hierarchical.beat_phase import BEAT_DIM
from trainer.models.hierarchical.gru import GRU

GLOBAL_LOG_VARIANCE_RANGE = (-6.0, 3.0)
LOG_SCALE_RANGE = (-4.0, 2.0)  # of mixture components: neither collapsed nor flat
ROWS = 8  # clips that are sampled at once, as many as the API asks for
MEMORY_STEPS = 60  # after which the steps of music are no longer correlated


class GlobalPrior(layers.Layer):
    """p(global latent | condition), a diagonal Gaussian."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.hidden = layers.Dense(64, activation=tf.nn.leaky_relu)
        self.output_layer = layers.Dense(2 * latent_dim)

    def call(self, condition: tf.Tensor) -> DiagonalGaussian:
        """`[batch, CONDITION_DIM]` -> a Gaussian over `[batch, latent_dim]`."""
        mean, log_variance = tf.split(self.output_layer(self.hidden(condition)), 2, axis=-1)
        return DiagonalGaussian(mean, tf.clip_by_value(log_variance, *GLOBAL_LOG_VARIANCE_RANGE))


class SequencePrior(layers.Layer):
    """p(sequence latent t | those before t, context, beat): two GRUs and a mixture of diagonal Gaussians.

    The context is the global latent beside the condition embedding, `[batch, n]`. Training is teacher-forced:
    `log_density` reads the true past of all steps at once. `sample` is autoregressive.
    """

    def __init__(self, sequence_latent_dim: int, context_dim: int, units: int, mixtures: int) -> None:
        super().__init__()
        self.sequence_latent_dim, self.units, self.mixtures = sequence_latent_dim, units, mixtures
        self.input_layer = layers.Dense(units, activation=tf.nn.leaky_relu)
        self.first = GRU(units)
        self.second = GRU(units)
        self.head = layers.Dense(mixtures * (1 + 2 * sequence_latent_dim))
        widths = {"known": sequence_latent_dim, "beat": BEAT_DIM, "noise": sequence_latent_dim + 1}
        known, beat, noise = (tf.TensorSpec([None, None, width], name=name) for name, width in widths.items())
        context, temperature = tf.TensorSpec([None, context_dim]), tf.TensorSpec([None, 1])
        self.sample_in_one_graph = one_graph(self.sample, known, context, beat, noise, temperature)

    def log_density(
        self, latents: tf.Tensor, context: tf.Tensor, beat: tf.Tensor, is_seen: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Compute the log density of each step, given those before.

        Args:
            latents: `[batch, steps, sequence_latent_dim]`.
            context: `[batch, n]`.
            beat: `[batch, steps, BEAT_DIM]`.
            is_seen: `[batch, steps]` boolean: which steps the later ones are given; None: all.

        Returns:
            `[batch, steps]`, in nats.
        """
        seen = latents if is_seen is None else tf.where(is_seen[..., tf.newaxis], latents, 0.0)
        past = tf.pad(seen[:, :-1], [[0, 0], [1, 0], [0, 0]])
        context = tf.repeat(context[:, tf.newaxis], latents.shape[1], axis=1)
        x = self.first(self.input_layer(tf.concat([past, beat, context], axis=-1)))
        log_weights, means, log_scales = self._mixture(x + self.second(x))
        distance = (latents[:, :, tf.newaxis] - means) * tf.exp(-log_scales)
        components = tf.reduce_sum(elementwise_log_density(tf.square(distance), log_scales), axis=-1)
        return tf.reduce_logsumexp(log_weights + components, axis=-1)

    def sample(
        self, known: tf.Tensor, context: tf.Tensor, beat: tf.Tensor, noise: tf.Tensor, temperature: tf.Tensor
    ) -> tf.Tensor:
        """Continue the known steps, one step at a time, then center the new ones (see `_without_drift`).

        Clips are sampled `ROWS` at a time, if need be beside rows of zeros: matrix products of other sizes round
        differently, and a clip would depend on how many others are sampled with it.

        Args:
            known: `[batch, known steps, sequence_latent_dim]`: the first steps; there may be none.
            context: `[batch, n]`.
            beat: `[batch, steps, BEAT_DIM]`.
            noise: `[batch, steps, sequence_latent_dim + 1]` standard normal; the last value selects the
                mixture component.
            temperature: Scale of the noise within a component.

        Returns:
            `[batch, steps, sequence_latent_dim]`, beginning with `known`.
        """
        batch, steps = tf.shape(beat)[0], tf.shape(beat)[1]
        temperature = tf.broadcast_to(temperature, [batch, 1])

        def in_rows(values: tf.Tensor) -> tf.Tensor:
            """`[batch, ...]` -> `[n, ROWS, ...]`."""
            others = values.shape.rank - 1
            padded = tf.pad(values, [[0, -batch % ROWS], *[[0, 0]] * others])
            return tf.reshape(padded, tf.concat([[-1, ROWS], tf.shape(values)[1:]], axis=0))

        latents = tf.map_fn(
            lambda inputs: self._sample_rows(*inputs),
            tuple(map(in_rows, (known, context, beat, noise, temperature))),
            parallel_iterations=1,
            fn_output_signature=tf.TensorSpec([ROWS, None, self.sequence_latent_dim]),
        )
        return tf.reshape(latents, [-1, steps, self.sequence_latent_dim])[:batch]

    def _sample_rows(
        self, known: tf.Tensor, context: tf.Tensor, beat: tf.Tensor, noise: tf.Tensor, temperature: tf.Tensor
    ) -> tf.Tensor:
        """`sample` for `ROWS` clips."""
        steps, known_steps = tf.shape(beat)[1], tf.shape(known)[1]
        known = tf.pad(known, [[0, 0], [0, steps - known_steps], [0, 0]])
        sampled = tf.TensorArray(tf.float32, steps, element_shape=[ROWS, self.sequence_latent_dim])

        def sample_step(
            step: tf.Tensor, latent: tf.Tensor, first: tf.Tensor, second: tf.Tensor, sampled: tf.TensorArray
        ) -> tuple:
            x = self.input_layer(tf.concat([latent, beat[:, step], context], axis=-1))
            x, first = _advance(self.first.cell, x, first)
            y, second = _advance(self.second.cell, x, second)
            log_weights, means, log_scales = self._mixture(x + y)
            # Selects the component by inverse transform sampling: the first whose cumulative weight suffices.
            uniform = to_uniform(noise[:, step, -1:])
            passed = tf.cast(tf.cumsum(tf.exp(log_weights), axis=-1) < uniform, tf.int32)
            component = tf.minimum(tf.reduce_sum(passed, axis=-1), self.mixtures - 1)
            mean, log_scale = (tf.gather(values, component, batch_dims=1) for values in (means, log_scales))
            new = mean + temperature * tf.exp(log_scale) * noise[:, step, :-1]
            latent = tf.where(step < known_steps, known[:, step], new)
            return step + 1, latent, first, second, sampled.write(step, latent)

        state = tf.zeros([ROWS, self.units])
        start = 0, tf.zeros([ROWS, self.sequence_latent_dim]), state, state, sampled
        *_, sampled = tf.while_loop(lambda step, *_: step < steps, sample_step, start)
        return _without_drift(tf.transpose(sampled.stack(), [1, 0, 2]), known_steps)

    def _mixture(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Log-weights `[..., mixtures]`, means and log-scales `[..., mixtures, sequence_latent_dim]`."""
        output = self.head(x)
        shape = tf.concat([tf.shape(output)[:-1], [self.mixtures, 2 * self.sequence_latent_dim]], axis=0)
        means, log_scales = tf.split(tf.reshape(output[..., self.mixtures :], shape), 2, axis=-1)
        return (
            tf.nn.log_softmax(output[..., : self.mixtures]),
            means,
            tf.clip_by_value(log_scales, *LOG_SCALE_RANGE),
        )


def _without_drift(latents: tf.Tensor, known_steps: tf.Tensor) -> tf.Tensor:
    """Remove the mean over time of the new steps, `[ROWS, steps, sequence_latent_dim]` -> the same shape.

    The encoder normalizes each clip, so that its sequence latents have next to no mean. Samples drift away from 0, each
    step from the one before, and the decoder has never seen a clip like that. A few steps may well have a mean.
    """
    steps = tf.shape(latents)[1]
    is_new = tf.cast(tf.range(steps) >= known_steps, tf.float32)[tf.newaxis, :, tf.newaxis]
    count = tf.cast(tf.maximum(steps - known_steps, MEMORY_STEPS), tf.float32)
    return latents - is_new * tf.reduce_sum(is_new * latents, axis=1, keepdims=True) / count


def _advance(cell: layers.GRUCell, x: tf.Tensor, state: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """One step of a GRU: output and next state."""
    output, states = cell(x, [state])
    return output, tf.nest.flatten(states)[0]
