"""Encoder and envelope decoder of the hierarchical model, which mirror each other.

coefficients [frames, bins]                                   log-scales [frames, bins]
     | log-energy of groups of bins, frames side by side          ^ steps split into frames
[steps, frames_per_step * groups]                         [steps, frames_per_step * bins]
     | DilatedBlock x dilations                                   ^ DilatedBlock x dilations, FiLM
[steps, channels] --- mean and std over time ---> global latent ->+
     | InstanceNormalization                                      ^
sequence latents [steps, sequence_latent_dim] --------------------+
"""

from __future__ import annotations

import tensorflow as tf
from tensorflow.keras import layers

from trainer.dsp.frequency_groups import count_groups, mdct_groups, pool
from trainer.dsp.sizes import sizes
from trainer.models.gaussian import DiagonalGaussian
from trainer.models.hierarchical.coefficient_model import LOG_MIN_SCALE
from trainer.models.layers import DilatedBlock, InstanceNormalization, policy

DILATIONS = (1, 2, 4)
# Of posteriors: below it a latent has practically no noise, above it no information; far beyond it exp overflows.
LOG_VARIANCE_RANGE = (-8.0, 2.0)
LOG_SCALE_RANGE = (LOG_MIN_SCALE, 1.0)
INITIAL_LOG_SCALE = -4.0  # typical of music; the decoder's output before training


class Encoder(layers.Layer):
    """Coefficients -> q(global latent | x) and q(sequence latents | x)."""

    def __init__(
        self, channels: int, frames_per_step: int, latent_dim: int, sequence_latent_dim: int, precision: str
    ) -> None:
        super().__init__()
        dtype = policy(precision)
        self.frames_per_step = frames_per_step
        self.input_layer = layers.Conv1D(channels, 3, padding="same", dtype=dtype)
        self.blocks = [DilatedBlock(channels, dilation, dtype) for dilation in DILATIONS]
        self.global_hidden = layers.Dense(128, activation=tf.nn.leaky_relu)
        self.global_output = layers.Dense(2 * latent_dim)
        # Removes the clip's own mean and deviation, which the global latent carries. The sequence latents
        # keep what changes over time, and `transfer_style` keeps the sequence latents.
        self.normalization = InstanceNormalization(epsilon=1e-2)
        self.last_block = DilatedBlock(channels, 1, dtype)
        self.sequence_output = layers.Conv1D(2 * sequence_latent_dim, 1)

    def call(
        self, coefficients: tf.Tensor, condition: tf.Tensor
    ) -> tuple[DiagonalGaussian, DiagonalGaussian]:
        """`[batch, frames, bins]`, `[batch, CONDITION_DIM]` -> posteriors of global and sequence latents."""
        _, frames, bins = sizes(coefficients)
        sections = mdct_groups(bins)
        levels = pool(_log_energy(coefficients), sections)
        row = self.frames_per_step * count_groups(sections)
        x = self.input_layer(tf.reshape(levels, [-1, frames // self.frames_per_step, row]))
        for block in self.blocks:
            x = block(x)
        x = tf.cast(x, tf.float32)
        mean, variance = tf.nn.moments(x, axes=[1])
        pooled = tf.concat([mean, tf.sqrt(variance + 1e-4), condition], axis=-1)
        global_moments = self.global_output(self.global_hidden(pooled))
        sequence_moments = self.sequence_output(tf.nn.leaky_relu(self.last_block(self.normalization(x))))
        return _posterior(global_moments), _posterior(sequence_moments)


class EnvelopeDecoder(layers.Layer):
    """Latents and condition -> spectral envelope: the log-scale of every coefficient."""

    def __init__(self, channels: int, frames_per_step: int, bins: int, precision: str) -> None:
        super().__init__()
        dtype = policy(precision)
        self.bins = bins
        self.input_layer = layers.Conv1D(channels, 3, padding="same", dtype=dtype)
        self.blocks = [DilatedBlock(channels, dilation, dtype) for dilation in (1, *DILATIONS[::-1])]
        self.film = [layers.Dense(2 * channels, dtype=dtype) for _ in self.blocks]
        self.constant_hidden = layers.Dense(128, activation=tf.nn.leaky_relu)
        self.constant_output = layers.Dense(bins)  # constant over the clip
        self.changes_output = layers.Dense(frames_per_step * bins, kernel_initializer="zeros")

    def call(self, global_latent: tf.Tensor, sequence_latents: tf.Tensor, condition: tf.Tensor) -> tf.Tensor:
        """`[batch, latent_dim]`, `[batch, steps, sequence_latent_dim]`, `[batch, CONDITION_DIM]`
        -> `[batch, frames, bins]`."""
        context = tf.concat([global_latent, condition], axis=-1)
        x = self.input_layer(sequence_latents)
        for block, film in zip(self.blocks, self.film, strict=True):
            gain, bias = tf.split(film(context)[:, tf.newaxis], 2, axis=-1)  # FiLM (Perez et al. 2018)
            x = block(x * (1 + gain) + bias)
        changes = tf.reshape(self.changes_output(tf.nn.leaky_relu(x)), [tf.shape(x)[0], -1, self.bins])
        constant = self.constant_output(self.constant_hidden(context))
        return tf.clip_by_value(changes + constant[:, tf.newaxis] + INITIAL_LOG_SCALE, *LOG_SCALE_RANGE)


def _log_energy(coefficients: tf.Tensor) -> tf.Tensor:
    """Log-energy of each coefficient, scaled to about -2 to 2; `[batch, frames, bins]` -> the same shape.

    The difference of a bin's neighbours stands in for its sine part (the pseudo-spectrum of Daudet & Sandler
    2004, "MDCT analysis of sinusoids"), so that the energy of a steady tone is steady.
    """
    padded = tf.pad(coefficients, [[0, 0], [0, 0], [1, 1]])
    energy = tf.square(coefficients) + tf.square(padded[..., 2:] - padded[..., :-2])
    return (0.5 * tf.math.log(energy + 1e-6) + 4.0) / 2.0


def _posterior(moments: tf.Tensor) -> DiagonalGaussian:
    mean, log_variance = tf.split(moments, 2, axis=-1)
    # Starts with little noise, so that the decoder learns to use the latent before the KL term takes effect.
    return DiagonalGaussian(mean, tf.clip_by_value(log_variance - 2.0, *LOG_VARIANCE_RANGE))
