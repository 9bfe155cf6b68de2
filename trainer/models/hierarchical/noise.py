"""Noise of the hierarchical model: how one flat row of values per clip splits into the latent levels."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from trainer.config import Config
from trainer.dsp import mdct, stft
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

    @property
    def decode_noise_size(self) -> Size:
        """Values that a waveform takes: one per coefficient, or phase, and one per magnitude."""
        return self.coefficients + self.frames * stft.count_bins(self.bins)

    def elbo_noise_size(self, window_steps: int) -> Size:
        """Values that an estimate of the ELBO takes, whose decoders see `window_steps` steps.

        One value selects these steps, and one per step whether the prior is given it; the others sample latents, and
        decode these steps as a new clip is decoded.
        """
        decoded = self._replace(steps=window_steps)
        return 1 + self.posterior_noise_size + self.steps + decoded.decode_noise_size

    def split_elbo_noise(self, noise: tf.Tensor, window_steps: int) -> ElboNoise:
        """Split `[batch, elbo_noise_size(window_steps)]`."""
        decoded = self._replace(steps=window_steps)
        of_sequence = self.steps * self.sequence_latent_dim
        sizes = [1, self.latent_dim, of_sequence, self.steps, decoded.decode_noise_size]
        window, global_latent, sequence_latents, past, decode_noise = tf.split(noise, sizes, axis=-1)
        return ElboNoise(
            window[:, 0],
            global_latent,
            tf.reshape(sequence_latents, [-1, self.steps, self.sequence_latent_dim]),
            past,
            split_decode_noise(decode_noise, decoded.frames, self.bins),
        )

    def split_prior_noise(self, noise: tf.Tensor) -> PriorNoise:
        """Split `[batch, prior_noise_size]`."""
        # Sliced, since a split into a number of steps that is not known yet would lose the known sizes.
        global_latent, sequence_latents = noise[:, : self.latent_dim], noise[:, self.latent_dim :]
        shape = [-1, self.steps, self.sequence_latent_dim + 1]
        return PriorNoise(global_latent, tf.reshape(sequence_latents, shape))


def split_decode_noise(noise: tf.Tensor, frames: Size, bins: int) -> DecodeNoise:
    """Split `[batch or 1, decode_noise_size]`."""
    of_coefficients, of_magnitudes = noise[:, : frames * bins], noise[:, frames * bins :]
    return DecodeNoise(
        tf.reshape(of_coefficients, [-1, frames, bins]),
        tf.reshape(of_magnitudes, [-1, frames, stft.count_bins(bins)]),
    )


class DecodeNoise(NamedTuple):
    """Noise of one waveform."""

    # [batch or 1, frames, bins]; in new clips, of details of the magnitudes and of the phases that are retrieved
    coefficients: tf.Tensor
    magnitudes: tf.Tensor  # [batch or 1, frames, STFT bins]


class ElboNoise(NamedTuple):
    """Noise of one estimate of the ELBO."""

    window: tf.Tensor  # [batch], selects the part of the clip that is decoded in training
    global_latent: tf.Tensor  # [batch, latent_dim]
    sequence_latents: tf.Tensor  # [batch, steps, sequence_latent_dim]
    past: tf.Tensor  # [batch, steps], selects the steps that the prior is given
    decode: DecodeNoise  # of that part


class PriorNoise(NamedTuple):
    """Noise of one sample of the priors."""

    global_latent: tf.Tensor  # [batch, latent_dim]
    sequence_latents: tf.Tensor  # [batch, steps, sequence_latent_dim + 1], the last selects the component
