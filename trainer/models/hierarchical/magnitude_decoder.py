"""The magnitude decoder: latents -> fine log-magnitudes of an STFT, from which new clips are synthesized.

sequence latents [steps, sequence_latent_dim]
     | DilatedBlock x dilations, FiLM: what sounds when
[frames, groups of bins, FEATURES] + noise
     | SpectralBlock x dilations: partials that last, onsets in all groups at once
log-magnitudes [frames, bins]

The groups are those of `magnitude_groups`.

The spectral envelope says how large coefficients are on average; sampled signs and sizes of coefficients around it
sound of noise. This decoder says how large every magnitude is. It is trained by the likelihood of a Laplace
distribution, whose location is the median: a partial of uncertain level keeps its width, which a mean would smear.
In the second stage of training it may learn against a discriminator, and is given noise, from which it can make what
the latents do not say.
"""

from __future__ import annotations

import math

import tensorflow as tf
from tensorflow.keras import layers

from trainer.dsp.frequency_groups import LINEAR_BINS, Section, count_groups, frequency_groups, pool
from trainer.dsp.sizes import Size, sizes
from trainer.dsp.stft import count_bins
from trainer.models.layers import DilatedBlock, policy

GROUP_BINS = 4  # adjacent bins that share a vector of features, as far as bins are told apart
FEATURES = 24
NOISE_VALUES = 2  # per group
DILATIONS = (1, 2, 4)  # in frames
UNIT = 2.0  # nats: about the standard deviation of log-magnitudes of music
INITIAL_LOG_MAGNITUDE = -6.0  # typical of music; the output before training
LOG_SCALE_RANGE = (-3.0, 1.0)  # of the Laplace distribution, in units


def magnitude_groups(bins: int) -> list[Section]:
    """Divide the bins of an STFT: groups of four at low frequencies, and as many in each octave above."""
    return frequency_groups(bins, 2 * LINEAR_BINS, GROUP_BINS)


class SpectralBlock(layers.Layer):
    """Residual block over time and frequency: a dilated convolution, then one of kernel size 3."""

    def __init__(self, dilation: int, dtype: tf.keras.mixed_precision.Policy) -> None:
        super().__init__(dtype=dtype)
        self.wide = layers.Conv2D(FEATURES, (3, 5), dilation_rate=(dilation, 1), padding="same", dtype=dtype)
        self.narrow = layers.Conv2D(FEATURES, 3, padding="same", dtype=dtype)
        self.activation = layers.LeakyReLU(0.2, dtype=dtype)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """`[batch, frames, groups, FEATURES]` -> the same shape."""
        return x + self.narrow(self.activation(self.wide(self.activation(x))))


class MagnitudeDecoder(layers.Layer):
    """Latents and condition -> a Laplace distribution of every log-magnitude."""

    def __init__(self, channels: int, frames_per_step: int, hop: int, precision: str) -> None:
        super().__init__()
        dtype = policy(precision)
        self.bins = count_bins(hop)
        self.frames_per_step = frames_per_step
        self.input_layer = layers.Conv1D(channels, 3, padding="same", dtype=dtype)
        self.blocks = [DilatedBlock(channels, dilation, dtype) for dilation in (1, *DILATIONS)]
        self.film = [layers.Dense(2 * channels, dtype=dtype) for _ in self.blocks]
        self.sections = magnitude_groups(self.bins)
        self.groups = count_groups(self.sections)
        self.groups_layer = layers.Dense(frames_per_step * self.groups * FEATURES, dtype=dtype)
        # Zeros: only a discriminator gives noise a meaning.
        self.noise_layer = layers.Dense(FEATURES, use_bias=False, kernel_initializer="zeros", dtype=dtype)
        self.spectral_blocks = [SpectralBlock(dilation, dtype) for dilation in DILATIONS]
        self.constant_hidden = layers.Dense(128, activation=tf.nn.leaky_relu)
        self.constant_output = layers.Dense(self.bins)  # constant over the clip
        self.output_layers = [layers.Conv2D(2 * section.width, (1, 3)) for section in self.sections]
        self.activation = layers.LeakyReLU(0.2, dtype=dtype)

    def call(
        self,
        global_latent: tf.Tensor,
        sequence_latents: tf.Tensor,
        condition: tf.Tensor,
        noise: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Decode to location and log-scale of log-magnitudes.

        Args:
            global_latent: `[batch, latent_dim]`.
            sequence_latents: `[batch, steps, sequence_latent_dim]`.
            condition: `[batch, CONDITION_DIM]`.
            noise: `[batch or 1, frames, bins / 2]`, standard normal; None: zeros.

        Returns:
            Both `[batch, frames, bins]` float32, in nats.
        """
        batch, steps, _ = sizes(sequence_latents)
        context = tf.concat([global_latent, condition], axis=-1)
        x = self.input_layer(sequence_latents)
        for block, film in zip(self.blocks, self.film, strict=True):
            gain, bias = tf.split(film(context)[:, tf.newaxis], 2, axis=-1)  # FiLM (Perez et al. 2018)
            x = block(x * (1 + gain) + bias)
        frames = steps * self.frames_per_step
        x = tf.reshape(self.groups_layer(self.activation(x)), [batch, frames, self.groups, FEATURES])
        if noise is None:
            noise = tf.zeros([1, frames, self.bins // 2])
        of_groups = noise[..., : self.groups * NOISE_VALUES]
        x += self.noise_layer(tf.reshape(of_groups, [-1, frames, self.groups, NOISE_VALUES]))
        for block in self.spectral_blocks:
            x = block(x)
        location, log_scale = self._values_of_bins(self.activation(x), batch, frames)
        constant = self.constant_output(self.constant_hidden(context))[:, tf.newaxis]
        log_scale = tf.clip_by_value(log_scale, *LOG_SCALE_RANGE) + math.log(UNIT)
        return UNIT * (location + constant) + INITIAL_LOG_MAGNITUDE, log_scale

    def _values_of_bins(self, x: tf.Tensor, batch: Size, frames: Size) -> list[tf.Tensor]:
        """Location and log-scale, both `[batch, frames, bins]` float32; `[batch, frames, groups, FEATURES]`."""
        padded = tf.pad(x, [[0, 0], [0, 0], [1, 1], [0, 0]])
        parts: tuple[list[tf.Tensor], list[tf.Tensor]] = ([], [])
        for section, layer in zip(self.sections, self.output_layers, strict=True):
            # A group sees its neighbours in the sections beside its own, too.
            part = padded[:, :, section.first_group : section.first_group + section.groups + 2]
            values = tf.split(tf.cast(layer(part), tf.float32), 2, axis=-1)
            for collected, value in zip(parts, values, strict=True):
                collected.append(tf.reshape(value, [batch, frames, section.groups * section.width]))
        return [tf.concat(collected, axis=-1)[..., : self.bins] for collected in parts]


def sample(location: tf.Tensor, log_scale: tf.Tensor, noise: tf.Tensor, noise_scale: float) -> tf.Tensor:
    """Sample log-magnitudes by `noise`, standard normal values of the same shape.

    `noise_scale` is relative to the standard deviation of the Laplace distribution: 0 gives its median. Samples are
    normal, because the tails of a Laplace distribution of magnitudes in nats would give single bins all the energy.
    """
    return location + noise_scale * math.sqrt(2) * tf.exp(log_scale) * noise


def log_density(log_magnitude: tf.Tensor, location: tf.Tensor, log_scale: tf.Tensor) -> tf.Tensor:
    """Log-density of a Laplace distribution, elementwise, in nats."""
    distance = tf.abs(log_magnitude - location) * tf.exp(-log_scale)
    return -distance - log_scale - math.log(2.0)


def log_density_of_groups(log_magnitude: tf.Tensor, location: tf.Tensor, log_scale: tf.Tensor) -> tf.Tensor:
    """Mean of `log_density` in each group, `[batch, frames, bins]` -> `[batch, frames, groups]`.

    The sum over groups weighs all octaves as they are heard; that over bins would be that of the highest octave.
    """
    density = log_density(log_magnitude, location, log_scale)
    return pool(density, magnitude_groups(density.shape[-1]))
