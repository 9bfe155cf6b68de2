"""Noise of the hierarchical model: how one flat row of values per clip splits into the latent levels."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from trainer.config import Config
from trainer.dsp import mdct
from trainer.dsp.sizes import Size


class LatentShape(NamedTuple):
    """Sizes of the latents of one clip."""

    latent_dim: int
    sequence_latent_dim: int
    steps: Size
    frames_per_step: int
    bins: int

    @classmethod
    def of_clip(cls, config: Config, samples: Size) -> LatentShape:
        """Shape of a clip of `samples` samples: whole steps that cover it."""
        frames = mdct.count_frames(samples, config.hop_samples)
        return cls.of_steps(config, -(-frames // config.frames_per_step))

    @classmethod
    def of_steps(cls, config: Config, steps: Size) -> LatentShape:
        """Shape of a clip of `steps` steps."""
        return cls(
            config.latent_dim, config.sequence_latent_dim, steps, config.frames_per_step, config.hop_samples
        )

    @property
    def frames(self) -> Size:
        """MDCT frames of the clip."""
        return self.steps * self.frames_per_step

    @property
    def coefficients(self) -> Size:
        """MDCT coefficients of the clip."""
        return self.frames * self.bins

    @property
    def posterior_noise_size(self) -> Size:
        """Values that a sample of both posteriors takes."""
        return self.latent_dim + self.steps * self.sequence_latent_dim

    @property
    def prior_noise_size(self) -> Size:
        """Values that a sample of both priors takes: one more per step selects the mixture component."""
        return self.latent_dim + self.steps * (self.sequence_latent_dim + 1)

    def split_posterior_noise(self, noise: tf.Tensor) -> PosteriorNoise:
        """Split `[batch, posterior_noise_size or more]`; the rest is for the coefficients."""
        sequence = self.steps * self.sequence_latent_dim
        sizes = [self.latent_dim, sequence, noise.shape[-1] - self.latent_dim - sequence]
        global_latent, sequence_latents, coefficients = tf.split(noise, sizes, axis=-1)
        shape = [-1, self.steps, self.sequence_latent_dim]
        return PosteriorNoise(global_latent, tf.reshape(sequence_latents, shape), coefficients)

    def split_prior_noise(self, noise: tf.Tensor) -> PriorNoise:
        """Split `[batch, prior_noise_size]`."""
        # Sliced, since a split into a number of steps that is not known yet would lose the known sizes.
        global_latent, sequence_latents = noise[:, : self.latent_dim], noise[:, self.latent_dim :]
        shape = [-1, self.steps, self.sequence_latent_dim + 1]
        return PriorNoise(global_latent, tf.reshape(sequence_latents, shape))

    def reshape_coefficient_noise(self, noise: tf.Tensor) -> tf.Tensor:
        """`[batch or 1, coefficients]` -> `[batch or 1, frames, bins]`."""
        return tf.reshape(noise, [-1, self.frames, self.bins])


class PosteriorNoise(NamedTuple):
    """Noise of one ELBO sample."""

    global_latent: tf.Tensor  # [batch, latent_dim]
    sequence_latents: tf.Tensor  # [batch, steps, sequence_latent_dim]
    coefficients: tf.Tensor  # [batch, frames * bins], or [batch, 0] without a spectral term


class PriorNoise(NamedTuple):
    """Noise of one sample of the priors."""

    global_latent: tf.Tensor  # [batch, latent_dim]
    sequence_latents: tf.Tensor  # [batch, steps, sequence_latent_dim + 1], the last selects the component
