"""Encoder and decoder of `wave`: mirror images between spectra and latents, convolutions along time.

coefficients [frames, bins]                                   log-scales [frames, bins]
     | log-energy, frames of a step side by side                  ^ steps apart into frames
[steps, frames_per_step * bins]                           [steps, frames_per_step * bins]
     | DilatedBlock x dilations                                   ^ DilatedBlock x dilations, told the piece
[steps, channels] --- mean and spread over time ---> piece ------>+
     | InstanceNormalization                                      ^
local [steps, local_dim] -----------------------------------------+
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from trainer.models.coefficient_model import LOG_QUIETEST
from trainer.models.layers import DilatedBlock, InstanceNormalization, policy

layers = tf.keras.layers

DILATIONS = (1, 2, 4)
LOG_VARIANCE_RANGE = (-8.0, 2.0)  # of posteriors; beyond it exp() overflows long before it means anything
LOG_SCALE_RANGE = (LOG_QUIETEST, 1.0)
USUAL_LOG_SCALE = -4.0  # of music's coefficients: where the decoder starts


class Posterior(NamedTuple):
    """A diagonal Gaussian over latents."""

    mean: tf.Tensor
    log_variance: tf.Tensor

    def sample(self, noise: tf.Tensor) -> tf.Tensor:
        """A latent from standard normal noise (Kingma & Welling 2014, section 2.4)."""
        return self.mean + noise * tf.exp(0.5 * self.log_variance)


class Encoder(layers.Layer):
    """Coefficients -> q(piece | x) and q(local | x)."""

    def __init__(
        self, channels: int, frames_per_step: int, latent_dim: int, sequence_latent_dim: int, precision: str
    ) -> None:
        super().__init__()
        dtype = policy(precision)
        self.frames_per_step = frames_per_step
        self.input_layer = layers.Conv1D(channels, 3, padding="same", dtype=dtype)
        self.blocks = [DilatedBlock(channels, dilation, dtype) for dilation in DILATIONS]
        self.to_piece_hidden = layers.Dense(128, activation=tf.nn.leaky_relu)
        self.to_piece = layers.Dense(2 * latent_dim)
        # Takes the clip's own mean and spread away: they belong to the piece, and the local latents are left
        # with what happens, which is what `transfer` keeps.
        self.normalization = InstanceNormalization(epsilon=1e-2)
        self.last_block = DilatedBlock(channels, 1, dtype)
        self.to_local = layers.Conv1D(2 * sequence_latent_dim, 1)

    def call(self, coefficients: tf.Tensor, condition: tf.Tensor) -> tuple[Posterior, Posterior]:
        """`[batch, frames, bins]`, `[batch, CONDITION_DIM]` -> the posteriors of piece and local latents."""
        frames, bins = coefficients.shape[1:]
        x = tf.reshape(
            _log_energy(coefficients), [-1, frames // self.frames_per_step, self.frames_per_step * bins]
        )
        x = self.input_layer(x)
        for block in self.blocks:
            x = block(x)
        x = tf.cast(x, tf.float32)
        mean, variance = tf.nn.moments(x, axes=[1])
        pooled = tf.concat([mean, tf.sqrt(variance + 1e-4), condition], axis=-1)
        piece = self.to_piece(self.to_piece_hidden(pooled))
        local = self.to_local(tf.nn.leaky_relu(self.last_block(self.normalization(x))))
        return _posterior(piece), _posterior(local)


class Decoder(layers.Layer):
    """Piece, local latents and condition -> the log-scale of every coefficient."""

    def __init__(self, channels: int, frames_per_step: int, bins: int, precision: str) -> None:
        super().__init__()
        dtype = policy(precision)
        self.bins = bins
        self.input_layer = layers.Conv1D(channels, 3, padding="same", dtype=dtype)
        self.blocks = [DilatedBlock(channels, dilation, dtype) for dilation in (1, *DILATIONS[::-1])]
        self.told = [layers.Dense(2 * channels, dtype=dtype) for _ in self.blocks]
        self.to_colour_hidden = layers.Dense(128, activation=tf.nn.leaky_relu)
        self.to_colour = layers.Dense(bins)  # what holds for the whole piece
        self.to_scales = layers.Dense(frames_per_step * bins, kernel_initializer="zeros")

    def call(self, piece: tf.Tensor, local: tf.Tensor, condition: tf.Tensor) -> tf.Tensor:
        """`[batch, latent_dim]`, `[batch, steps, local_dim]`, `[batch, n]` -> `[batch, frames, bins]`."""
        context = tf.concat([piece, condition], axis=-1)
        x = self.input_layer(local)
        for block, told in zip(self.blocks, self.told, strict=True):
            gain, bias = tf.split(told(context)[:, tf.newaxis], 2, axis=-1)  # FiLM (Perez et al. 2018)
            x = block(x * (1 + gain) + bias)
        changes = tf.reshape(self.to_scales(tf.nn.leaky_relu(x)), [tf.shape(x)[0], -1, self.bins])
        colour = self.to_colour(self.to_colour_hidden(context))
        return tf.clip_by_value(changes + colour[:, tf.newaxis] + USUAL_LOG_SCALE, *LOG_SCALE_RANGE)


def _log_energy(coefficients: tf.Tensor) -> tf.Tensor:
    """About -2 to 2. A bin's neighbours stand for its sine part (Daudet & Sandler 2004, "MDCT analysis of
    sinusoids", the pseudo-spectrum), so that a steady tone looks steady."""
    padded = tf.pad(coefficients, [[0, 0], [0, 0], [1, 1]])
    energy = tf.square(coefficients) + tf.square(padded[..., 2:] - padded[..., :-2])
    return (0.5 * tf.math.log(energy + 1e-6) + 4.0) / 2.0


def _posterior(moments: tf.Tensor) -> Posterior:
    mean, log_variance = tf.split(moments, 2, axis=-1)
    # Starts almost without noise, so that the decoder learns to use the latent before the KL term bites.
    return Posterior(mean, tf.clip_by_value(log_variance - 2.0, *LOG_VARIANCE_RANGE))
